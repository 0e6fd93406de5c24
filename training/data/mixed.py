"""Several sources as one."""

from collections.abc import Sequence

import numpy as np

from stemwright.core.errors import OptionError
from stemwright.training.data import draws
from stemwright.training.data.examples import Example, Source


class Mixed:
    """Draws each example from one of several sources.

    Parameters
    ----------
    sources
        With the same targets and rate.
    weights
        How often each is drawn.

    Raises
    ------
    OptionError
        Sources that do not fit together, or weights that are not one above 0 for each.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        if len(sources) != len(weights) or not sources or min(weights) <= 0:
            raise OptionError(
                "sources of data need one weight above 0 each", "give as many weights as sources"
            )
        if len({(one.names, one.sample_rate) for one in sources}) > 1:
            told = "; ".join(f"{', '.join(one.names)} at {one.sample_rate} Hz" for one in sources)
            raise OptionError(f"sources of data with different targets or rates: {told}", "make them alike")
        self.sources = tuple(sources)
        self._bounds = np.cumsum(np.array(weights, np.float64))

    @property
    def names(self) -> tuple[str, ...]:
        """What the targets are called."""
        return self.sources[0].names

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.sources[0].sample_rate

    def example(self, seed: int, step: int, index: int) -> Example:
        """Draw an example."""
        draw = draws.generator(seed, "mixed", step, index).random()
        return self.sources[draws.weighted(draw, self._bounds)].example(seed, step, index)
