"""When the sounds that were asked for were heard."""

from collections.abc import Mapping

Interval = tuple[float, float]
"""Begin and end in seconds."""


class ActivityLog:
    """Collects the stretches of a recording in which the stem of a query is not silenced."""

    def __init__(self) -> None:
        self._heard: dict[str, list[Interval]] = {}

    def add(self, stem: str, start_s: float, end_s: float) -> None:
        """Take note of a stretch."""
        self._heard.setdefault(stem, []).append((start_s, end_s))

    def intervals(self, stems: tuple[str, ...], duration_s: float) -> Mapping[str, tuple[Interval, ...]]:
        """Join what touches or overlaps, for each of these stems, inside 0..duration_s."""
        return {stem: joined(self._heard.get(stem, []), duration_s) for stem in stems}


def joined(stretches: list[Interval], duration_s: float) -> tuple[Interval, ...]:
    """Join stretches that touch or overlap, cut to 0..duration_s, in order."""
    result: list[Interval] = []
    for start, end in sorted((max(0.0, start), min(end, duration_s)) for start, end in stretches):
        if start >= end:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return tuple(result)
