"""What a batch may be asked besides stems."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ScoreWish:
    """What a batch is scored by, and what made its stems.

    Parameters
    ----------
    metrics
        Names of metrics; the default ones if there are none.
    model
        What to call the model.
    folder
        The folder of recordings.
    anew
        Whether scores that are there are thrown away.
    """

    metrics: tuple[str, ...]
    model: str
    folder: Path
    anew: bool
