"""What a folder of recordings is: MUSDB18, MUSDB18-HQ, or plain audio files, and its tracks.

=============  ==================================================  ==================================
kind           tracks                                              estimates
=============  ==================================================  ==================================
musdb18        {train,test}/TRACK.stem.mp4, mixture = stream 0     OUT/{train,test}/TRACK/STEM.wav
musdb18-hq     {train,test}/TRACK/mixture.wav                      OUT/{train,test}/TRACK/STEM.wav
plain          every audio file at any depth                       OUT/the/same/path/TRACK/STEM.EXT
=============  ==================================================  ==================================

Links that lead out of the folder are not followed: each is a track with a problem.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError, OptionError, StemwrightError
from stemwright.core.folders import LINK_REMEDY, entries, is_file_or_link, is_folder, link_problem
from stemwright.core.musdb import STEM_SUFFIX, MusdbKind, Split, find_musdb
from stemwright.service.naming import safe_name, same_file_key

Kind = MusdbKind | Literal["plain"]


@dataclass(frozen=True, kw_only=True)
class Track:
    """A recording of a folder.

    Parameters
    ----------
    key
        Its path below the folder: what it is called in the ledger and in messages.
    source
        The file to read.
    target
        Folder of its stems, relative to the output folder.
    problem
        Why it cannot be separated, None where nothing speaks against it so far.
    """

    key: str
    source: Path
    target: PurePosixPath
    problem: StemwrightError | None = None


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The tracks of a folder, in the order of their names."""

    kind: Kind
    tracks: tuple[Track, ...]


def find_tracks(folder: Path, *, split: Split | None = None, out: Path | None = None) -> Collection:
    """Find out what a folder is, and its tracks.

    Parameters
    ----------
    folder
        The folder.
    split
        Only this part of MUSDB; for a folder that holds MUSDB tracks itself, the part that they are.
    out
        The output folder, passed over where it lies inside.

    Raises
    ------
    InputError
        No folder, not readable, or no tracks in it.
    OptionError
        A split of plain files, MUSDB tracks of an unknown split, or an output folder among the recordings.
    """
    try:
        root = folder.resolve(strict=True)
        if not root.is_dir():
            raise InputError(f"{folder} is no folder", "use `stemwright separate` for files")
        collection = _musdb(root, split) or Collection(kind="plain", tracks=tuple(_plain(root, out)))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read the folder {folder}: {reason}", "check the path") from error
    if not collection.tracks:
        raise InputError(f"{folder} holds no recordings", "check the path, or --split")
    if collection.kind == "plain" and split is not None:
        raise OptionError(f"{folder} is not MUSDB, so it has no {split} split", "leave --split out")
    if out is not None:
        _check_apart(root, out, collection)
    return collection


def _check_apart(root: Path, out: Path, collection: Collection) -> None:
    """Refuse an output folder whose stems would land among the recordings, or replace true stems."""
    real = out.resolve()
    if real == root or any(real / track.target == track.source.parent for track in collection.tracks):
        raise OptionError(f"the stems would be written among the recordings of {root}", "choose another -o")


def _musdb(root: Path, split: Split | None) -> Collection | None:
    """Return the tracks if the folder is MUSDB, or a split of it; else None."""
    found = find_musdb(root, split)
    if found is None:
        return None
    tracks = (
        Track(
            key=track.key,
            source=track.mixture,
            target=PurePosixPath(track.split, track.name),
            problem=track.problem,
        )
        for track in found.tracks
    )
    return Collection(kind=found.kind, tracks=tuple(tracks))


def _plain(root: Path, out: Path | None) -> Iterator[Track]:
    """Find audio files at any depth; two that would share a folder of stems are a problem of the later."""
    passed_over = None if out is None else out.resolve()
    owners: dict[str, str] = {}
    for path, problem in _walk(root, root, passed_over):
        relative = PurePosixPath(path.relative_to(root))
        suffix = STEM_SUFFIX if path.name.lower().endswith(STEM_SUFFIX) else path.suffix
        names = [safe_name(part) for part in relative.parent.parts]
        target = PurePosixPath(*names, safe_name(path.name[: len(path.name) - len(suffix)]))
        key = str(relative)
        owner = owners.setdefault(same_file_key(target), key)
        if owner != key and problem is None:
            problem = InputError(
                f"{key} would be written to the same folder as {owner}", "rename one, or move it elsewhere"
            )
        yield Track(key=key, source=path, target=target, problem=problem)


def _walk(
    folder: Path, root: Path, passed_over: Path | None
) -> Iterator[tuple[Path, StemwrightError | None]]:
    try:
        found = entries(folder)
    except OSError as error:
        if folder == root:
            raise
        reason = (error.strerror or str(error)).lower()
        yield folder, InputError(f"cannot read the folder {folder}: {reason}", "mend its permissions")
        return
    for entry in found:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if path != passed_over:
                yield from _walk(path, root, passed_over)
        elif entry.is_symlink() and is_folder(entry):
            yield path, InputError(f"{path} is a link to a folder", LINK_REMEDY)
        elif path.suffix.lower() in AUDIO_SUFFIXES and is_file_or_link(entry):
            yield path, link_problem(path, root)
