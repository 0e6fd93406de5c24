"""What a training step is fed: one example, and the source that draws it."""

from dataclasses import dataclass
from typing import Protocol

from stemwright.core.arrays import FloatArray


@dataclass(frozen=True, kw_only=True)
class Example:
    """One item of a batch.

    Parameters
    ----------
    mixture
        float32, shape=(channels, samples).
    targets
        float32, shape=(sources, channels, samples), in the order of the source's `names`.
    condition
        float32, shape=(D,): what is asked for, of models that take a query.
    """

    mixture: FloatArray
    targets: FloatArray
    condition: FloatArray | None = None


class Source(Protocol):
    """Draws examples, all of one shape; the same for the same (seed, step, index), whatever ran before."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the targets are called."""
        ...

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        ...

    def example(self, seed: int, step: int, index: int) -> Example:
        """Draw the item `index` of the batch of step `step`."""
        ...
