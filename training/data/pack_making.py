"""From a data folder to a pack: each recording decoded, resampled and stored once."""

import itertools
import math
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from stemwright.core.audio.source import open_source
from stemwright.core.errors import InputError, OutputError, ResourceError
from stemwright.training.data.listing import Entry, Fault, Listing
from stemwright.training.data.pack import Pack
from stemwright.training.data.pack_index import (
    FORMAT,
    PackIndex,
    Recording,
    Skipped,
    SongStatistics,
    is_pack,
    read_index,
    write_index,
)
from stemwright.training.data.pack_writer import AudioFile, Unusable, mixture_statistics
from stemwright.training.data.packing import PackRules, Progress, fingerprint_of

LARGEST_FAULTY_SHARE = 0.05
_SPARE_BYTES = 64 << 20  # chosen here: what a disk keeps free beyond the pack
_MOST_CHANNELS = 2


def make_pack(
    listing: Listing, folder: Path, rules: PackRules | None = None, *, progress: Progress | None = None
) -> Pack:
    """Pack the recordings of a data folder.

    Unusable ones are left out and told in the index. The pack appears whole or not at all; a pack that stood
    there is replaced, and one that was made of the same data by the same rules is kept.

    Parameters
    ----------
    listing
        What to pack.
    folder
        The pack's place.
    rules
        How recordings are stored.
    progress
        Called for each song or file.

    Raises
    ------
    InputError
        More than 5 % of the songs or files cannot be used.
    OutputError
        Something else stands at the pack's place, or it cannot be written.
    ResourceError
        No room for the pack.
    """
    rules = rules or PackRules()
    fingerprint = fingerprint_of(listing, rules)
    if is_pack(folder):
        if read_index(folder).fingerprint == fingerprint:
            return Pack.open(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} exists and is no pack", "choose another place, or remove it")
    units = _Units(listing)
    plan = _plan(listing, units, rules)
    _check_room(folder, plan)
    with _staged(folder) as staging:
        index = _write(listing, staging, plan, units, fingerprint, progress)
        if rules.anchors is not None and listing.kind == "events":
            from stemwright.training.data.anchor_finding import add_anchors  # loads a tagger

            index = add_anchors(staging, index, rules.anchors, progress=progress)
        write_index(staging, index)
    return Pack.open(folder)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Rate and channels of a pack, and its bytes as far as headers tell."""

    sample_rate: int
    channels: int
    bytes: int


class _Units:
    """The songs or files of a listing, and those that turned out unusable."""

    def __init__(self, listing: Listing) -> None:
        self.total = listing.units
        self.faults = list(listing.faults)
        self.by_name = {
            name: tuple(entries)
            for name, entries in itertools.groupby(listing.entries, key=lambda one: one.name)
        }
        self._root = listing.root
        self.check()

    def drop(self, name: str, reason: str) -> None:
        self.faults.append(Fault(name=name, reason=reason))
        self.by_name.pop(name, None)
        self.check()

    def check(self) -> None:
        """Stop as soon as more is unusable than a data set may have."""
        if len(self.faults) <= LARGEST_FAULTY_SHARE * self.total:
            return
        shown = "; ".join(f"{fault.name} {fault.reason}" for fault in self.faults[-3:])
        raise InputError(
            f"{len(self.faults)} of the {self.total} recordings of {self._root} cannot be used, more than "
            f"{LARGEST_FAULTY_SHARE:.0%}: {shown}",
            f"repair or remove them: `stemwright train data check {self._root}` names all",
        )


def _plan(listing: Listing, units: _Units, rules: PackRules) -> _Plan:
    """Read all headers: what is no audio is dropped here, before anything is written."""
    rates: Counter[int] = Counter()
    channels, seconds = 1, 0.0
    for name, entries in tuple(units.by_name.items()):
        try:
            for entry in entries:
                info = open_source(entry.path, stream=entry.stream).info
                rates[info.sample_rate] += 1
                channels = max(channels, 1 if entry.channel is not None else info.channels)
                seconds += (info.frames or 0) / info.sample_rate
        except InputError as error:
            units.drop(name, error.message)
    if not rates:
        raise InputError(f"{listing.root} has no usable recording", "check the path and --layout")
    rate = rules.sample_rate or rates.most_common(1)[0][0]
    chosen = rules.channels or min(channels, _MOST_CHANNELS)
    return _Plan(sample_rate=rate, channels=chosen, bytes=math.ceil(seconds * rate) * chosen * 2)


def _write(
    listing: Listing,
    staging: Path,
    plan: _Plan,
    units: _Units,
    fingerprint: str,
    progress: Progress | None,
) -> PackIndex:
    recordings: list[Recording] = []
    statistics: dict[str, SongStatistics] = {}
    done = 0
    with AudioFile(staging, sample_rate=plan.sample_rate, channels=plan.channels) as audio:
        for name, entries in tuple(units.by_name.items()):
            start = audio.frames
            try:
                song = write_unit(audio, entries, silence_is_fault=listing.kind != "stems")
                recordings += song
                if listing.kind == "stems":
                    statistics[name] = mixture_statistics(audio, song)
            except (InputError, Unusable) as error:
                audio.truncate(start)
                units.drop(name, str(error))
            done += 1
            if progress is not None:
                progress(done, len(units.by_name))
        frames = audio.frames
    return PackIndex(
        format=FORMAT,
        kind=listing.kind,
        layout=listing.layout,
        sample_rate=plan.sample_rate,
        channels=plan.channels,
        frames=frames,
        fingerprint=fingerprint,
        recordings=tuple(recordings),
        statistics=statistics,
        skipped=tuple(Skipped(name=fault.name, reason=fault.reason) for fault in units.faults),
    )


def write_unit(audio: AudioFile, entries: tuple[Entry, ...], *, silence_is_fault: bool) -> list[Recording]:
    """Write the stems of a song, or one file.

    Raises
    ------
    InputError, Unusable
        Something of it cannot be decoded, is silent where that is a fault, or does not fit the rest.
    """
    written = []
    lengths: dict[tuple[int, int], str] = {}
    for entry in entries:
        one, shape = audio.write(entry)
        if silence_is_fault and one.peak == 0:
            raise Unusable("is silent")
        lengths.setdefault(shape, entry.role)
        written.append(one)
    if len(lengths) > 1:
        (first, role), (second, other) = itertools.islice(lengths.items(), 2)
        raise Unusable(
            f"has stems that do not fit together: {role} has {first[1]} samples at {first[0]} Hz and "
            f"{other} {second[1]} at {second[0]} Hz"
        )
    return written


def _check_room(folder: Path, plan: _Plan) -> None:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < plan.bytes + _SPARE_BYTES:
        raise ResourceError(
            f"the pack needs {plan.bytes / 1e9:.2f} GB in {folder.parent}, which has {free / 1e9:.2f}",
            "make room there, or choose another place with -o",
        )


def clear_staging(folder: Path) -> None:
    """Remove what packing left that was killed; nobody else may be packing to that place."""
    for stale in folder.parent.glob(f".{folder.name}.part-*"):
        shutil.rmtree(stale, ignore_errors=True)


class _staged:  # noqa: N801 - reads as a function
    """A folder beside the final one, moved there at the end if nothing went wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def __enter__(self) -> Path:
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._staging = Path(
                tempfile.mkdtemp(prefix=f".{self._folder.name}.part-", dir=self._folder.parent)
            )
        except OSError as error:
            raise OutputError(
                f"cannot write to {self._folder.parent}: {error.strerror}", "choose another place"
            ) from error
        return self._staging

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                if is_pack(self._folder):
                    shutil.rmtree(self._folder)
                self._staging.chmod(0o755)
                os.rename(self._staging, self._folder)
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)
