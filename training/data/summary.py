"""What is in a pack or a data folder, as data."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stemwright.training.data.listing import Layout, Listing, find_recordings
from stemwright.training.data.pack import Pack
from stemwright.training.data.pack_index import is_pack


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What there is.

    Parameters
    ----------
    kind, layout
        Of the data.
    packed
        Whether it is a pack: of folders neither rate nor length are known, as nothing is decoded.
    recordings, groups
        How many files or stems, and how many songs, speakers or origins.
    seconds, sample_rate, channels
        Of a pack.
    roles, splits, labels
        How many recordings have each stem, part and label.
    faults
        What cannot be used, and why.
    anchors
        How many segments of each label a tagger found.
    """

    kind: str
    layout: str
    packed: bool
    recordings: int
    groups: int
    seconds: float | None
    sample_rate: int | None
    channels: int | None
    roles: dict[str, int]
    splits: dict[str, int]
    labels: dict[str, int]
    anchors: dict[str, int]
    faults: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def summary_of(where: Path, layout: Layout | None = None) -> Summary:
    """Sum up a pack or a data folder.

    Raises
    ------
    InputError
        Neither.
    """
    return _of_pack(Pack.open(where)) if is_pack(where) else _of_listing(find_recordings(where, layout))


def _of_pack(pack: Pack) -> Summary:
    recordings = pack.recordings
    table = pack.index.anchors
    return Summary(
        kind=pack.index.kind,
        layout=pack.index.layout,
        packed=True,
        recordings=len(recordings),
        groups=len(pack.groups),
        seconds=pack.seconds,
        sample_rate=pack.sample_rate,
        channels=pack.channels,
        roles=_counts(one.role for one in recordings),
        splits=_counts(one.split for one in recordings),
        labels=_counts(label for one in recordings for label in one.labels),
        anchors=_counts(anchor.label for anchor in table.anchors) if table else {},
        faults=tuple((one.name, one.reason) for one in pack.index.skipped),
    )


def _of_listing(listing: Listing) -> Summary:
    entries = listing.entries
    return Summary(
        kind=listing.kind,
        layout=listing.layout,
        packed=False,
        recordings=len(entries),
        groups=len({entry.group for entry in entries}),
        seconds=None,
        sample_rate=None,
        channels=None,
        roles=_counts(entry.role for entry in entries),
        splits=_counts(entry.split for entry in entries),
        labels=_counts(label for entry in entries for label in entry.labels),
        anchors={},
        faults=tuple((fault.name, fault.reason) for fault in listing.faults),
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(name for name in names if name).items()))
