"""What is to be separated by a model that is asked: one stem a query.

The engine knows nothing of classes, examples or taggers: for each window that the network is going
to hear, a query's source gives the condition, or says that nothing asked for sounds there.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import OptionError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")  # models.manifest.StemName: names become files


class ConditionSource(Protocol):
    """Gives the condition of each window."""

    def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray | None:
        """Tell the condition of a window.

        Called from one thread of each separation, in the order of the windows.

        Parameters
        ----------
        window
            What the network hears, float32, shape=(channels, samples); zero beyond the recording. It
            must not be kept or changed.
        sample_rate
            Its rate in Hz.
        key
            Identifies the window: calls with the same key have the same window, also those of other
            queries and none of another separation, so that several queries can share one tagger's run.

        Returns
        -------
        FloatArray or None
            float32, shape=(D,). None: nothing asked for sounds here; the stem is silent in this window
            and the network is not run.
        """


@dataclass(frozen=True, kw_only=True)
class StemQuery:
    """A stem that is asked for.

    Parameters
    ----------
    name
        Name of the stem.
    source
        Gives the conditions.
    exclusive_group
        Stems of the same group are alternatives (levels of a hierarchy): they do not add up to the
        recording, and take no part in the residual. None for a stem that stands for itself.

    Raises
    ------
    OptionError
        The name is none that a stem can have.
    """

    name: str
    source: ConditionSource
    exclusive_group: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionError(
                f"{self.name!r} cannot be the name of a stem",
                "use up to 64 letters, digits, dots, blanks, hyphens and underscores",
            )
