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

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError, OptionError, StemwrightError
from stemwright.service.naming import safe_name, same_file_key

Kind = Literal["musdb18", "musdb18-hq", "plain"]
Split = Literal["train", "test"]

SPLITS: tuple[Split, ...] = ("train", "test")
MIXTURE = "mixture.wav"
STEM_SUFFIX = ".stem.mp4"
_LINK_REMEDY = "put the recording itself there, or run batch on the folder that the link leads to"


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
    parts = [(name, root / name) for name in SPLITS if (root / name).is_dir()]
    kinds = {kind for _, part in parts if (kind := _kind_of(part)) is not None}
    if not kinds:
        kind = _kind_of(root)
        if kind is None or not _only_tracks(root, kind):
            return None
        return _single_split(root, kind, split)
    if len(kinds) > 1:
        raise InputError(
            f"{root} mixes {STEM_SUFFIX} files and folders of WAV files", "run batch on each alone"
        )
    kind = kinds.pop()
    chosen = [(name, part) for name, part in parts if split in (None, name)]
    tracks = [track for name, part in chosen for track in _split_tracks(root, part, name, kind)]
    return Collection(kind=kind, tracks=tuple(tracks))


def _single_split(root: Path, kind: Kind, split: Split | None) -> Collection:
    name = next((known for known in SPLITS if root.name == known), split)
    if name is None:
        raise OptionError(
            f"{root} holds MUSDB tracks of an unknown split", "say --split train or --split test"
        )
    if split not in (None, name):
        raise OptionError(f"{root} is the {name} split, not {split}", "leave --split out")
    return Collection(kind=kind, tracks=tuple(_split_tracks(root, root, name, kind)))


def _kind_of(part: Path) -> Kind | None:
    """Return which MUSDB a folder of tracks belongs to, None if to none."""
    for entry in _entries(part):
        if entry.name.endswith(STEM_SUFFIX) and not _is_folder(entry):
            return "musdb18"
        if _is_folder(entry) and os.path.lexists(Path(entry.path) / MIXTURE):
            return "musdb18-hq"
    return None


def _only_tracks(root: Path, kind: Kind) -> bool:
    """Whether all recordings of a folder are tracks of that kind: a stray one is no sign of MUSDB."""
    for entry in _entries(root):
        if _is_folder(entry):
            if kind == "musdb18" or not os.path.lexists(Path(entry.path) / MIXTURE):
                return False
        elif kind == "musdb18-hq" or not entry.name.endswith(STEM_SUFFIX):
            if Path(entry.name).suffix.lower() in AUDIO_SUFFIXES:
                return False
    return True


def _split_tracks(root: Path, part: Path, split: str, kind: Kind) -> Iterator[Track]:
    for entry in _entries(part):
        path = Path(entry.path)
        if kind == "musdb18" and entry.name.endswith(STEM_SUFFIX):
            name, source = entry.name.removesuffix(STEM_SUFFIX), path
            problem = _link_problem(source, root)
        elif kind == "musdb18-hq" and (_is_folder(entry) or entry.is_symlink()):
            name, source = entry.name, path / MIXTURE
            problem = _link_problem(path, root) or _mixture_problem(source, root)
        else:
            continue
        yield Track(key=f"{split}/{name}", source=source, target=PurePosixPath(split, name), problem=problem)


def _mixture_problem(mixture: Path, root: Path) -> StemwrightError | None:
    if not os.path.lexists(mixture):
        return InputError(
            f"{mixture.parent.name} has no {MIXTURE}", f"put its {MIXTURE} there, or remove the folder"
        )
    problem = _link_problem(mixture, root)
    if problem is None and not mixture.is_file():
        return InputError(f"the {MIXTURE} of {mixture.parent.name} is no file", "put the recording there")
    return problem


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
        entries = _entries(folder)
    except OSError as error:
        if folder == root:
            raise
        reason = (error.strerror or str(error)).lower()
        yield folder, InputError(f"cannot read the folder {folder}: {reason}", "mend its permissions")
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if path != passed_over:
                yield from _walk(path, root, passed_over)
        elif entry.is_symlink() and _is_folder(entry):
            yield path, InputError(f"{path} is a link to a folder", _LINK_REMEDY)
        elif path.suffix.lower() in AUDIO_SUFFIXES and _is_file_or_link(entry):
            yield path, _link_problem(path, root)


def _entries(folder: Path) -> Iterable[os.DirEntry[str]]:
    """Entries by name, without hidden ones (macOS puts `._NAME` beside each file it copies)."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder or a link to one; a link that leads round in a circle is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file_or_link(entry: "os.DirEntry[str]") -> bool:
    """Whether it may be a recording; reading a pipe or a device might never end."""
    return entry.is_symlink() or entry.is_file(follow_symlinks=False)


def _link_problem(path: Path, root: Path) -> StemwrightError | None:
    if not path.is_symlink():
        return None
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return InputError(f"{path} is a link to nothing", _LINK_REMEDY)
    if not real.is_relative_to(root):
        return InputError(f"{path} is a link out of the folder", _LINK_REMEDY)
    if not (real.is_file() or real.is_dir()):
        return InputError(f"{path} is a link to something that is no file", _LINK_REMEDY)
    return None
