"""Taking a track apart, told of as it goes on."""

from collections.abc import Callable, Iterator

from stemwright.core.arrays import FloatArray
from stemwright.eval.datasets.contract import OpenTrack
from stemwright.models.separation.separator import CancelToken, SeparationOptions, Separator

Report = Callable[[str, float], None]
"""Called with what is going on (`separating`, `scoring`) and the share of it that is done, 0 to 1."""


def separated_blocks(
    separator: Separator,
    track: OpenTrack,
    stems: tuple[str, ...],
    options: SeparationOptions,
    *,
    report: Report,
    cancel: CancelToken,
) -> Iterator[dict[str, FloatArray]]:
    """Separate a track's mixture; yield those stems from the start, shapes=(channels, n)."""
    with separator.separate(
        track.mixture,
        options,
        cancel=cancel,
        progress=lambda p: report("separating", p.fraction if p.stage == "separation" else 0.0),
    ) as separation:
        for block in separation:
            yield {name: block.stems[name] for name in stems}
