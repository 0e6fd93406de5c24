"""MUSDB18 and MUSDB18-HQ on the disk.

=============  ================================================================================
musdb18        {train,test}/TRACK.stem.mp4: five audio streams, the mixture first, then STEMS
musdb18-hq     {train,test}/TRACK/: mixture.wav and a file for each of STEMS
=============  ================================================================================
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError, OptionError, StemwrightError
from stemwright.core.folders import entries, is_folder, link_problem

MusdbKind = Literal["musdb18", "musdb18-hq"]
Split = Literal["train", "test"]

SPLITS: tuple[Split, ...] = ("train", "test")
STEMS = ("drums", "bass", "other", "vocals")
MIXTURE = "mixture.wav"
STEM_SUFFIX = ".stem.mp4"


@dataclass(frozen=True, kw_only=True)
class MusdbTrack:
    """A track.

    Parameters
    ----------
    split, name
        Where it belongs, and what it is called.
    mixture
        The file to read the mixture from: the `.stem.mp4` itself, or mixture.wav.
    problem
        Why it cannot be used, None where nothing speaks against it so far.
    """

    split: str
    name: str
    mixture: Path
    problem: StemwrightError | None = None

    @property
    def key(self) -> str:
        """What it is called below the folder."""
        return f"{self.split}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class MusdbFolder:
    """The tracks of a folder, in the order of their names."""

    kind: MusdbKind
    tracks: tuple[MusdbTrack, ...]


def find_musdb(root: Path, split: Split | None) -> MusdbFolder | None:
    """Return the tracks if a folder is MUSDB, or a split of it; else None.

    Parameters
    ----------
    root
        The folder, links resolved.
    split
        Only this part; for a folder that holds tracks itself, the part that they are.

    Raises
    ------
    InputError
        A folder that mixes both kinds.
    OptionError
        Tracks of an unknown split, or of another than the one asked for.
    OSError
        The folder cannot be read.
    """
    parts = [(name, root / name) for name in SPLITS if (root / name).is_dir()]
    kinds = {kind for _, part in parts if (kind := _kind_of(part)) is not None}
    if not kinds:
        kind = _kind_of(root)
        if kind is None or not _only_tracks(root, kind):
            return None
        return _single_split(root, kind, split)
    if len(kinds) > 1:
        raise InputError(
            f"{root} mixes {STEM_SUFFIX} files and folders of WAV files", "give a folder with each alone"
        )
    kind = kinds.pop()
    chosen = [(name, part) for name, part in parts if split in (None, name)]
    tracks = [track for name, part in chosen for track in _split_tracks(root, part, name, kind)]
    return MusdbFolder(kind=kind, tracks=tuple(tracks))


def _single_split(root: Path, kind: MusdbKind, split: Split | None) -> MusdbFolder:
    name = next((known for known in SPLITS if root.name == known), split)
    if name is None:
        raise OptionError(
            f"{root} holds MUSDB tracks of an unknown split", "say --split train or --split test"
        )
    if split not in (None, name):
        raise OptionError(f"{root} is the {name} split, not {split}", "leave --split out")
    return MusdbFolder(kind=kind, tracks=tuple(_split_tracks(root, root, name, kind)))


def _kind_of(part: Path) -> MusdbKind | None:
    """Return which MUSDB a folder of tracks belongs to, None if to none."""
    for entry in entries(part):
        if entry.name.endswith(STEM_SUFFIX) and not is_folder(entry):
            return "musdb18"
        if is_folder(entry) and os.path.lexists(Path(entry.path) / MIXTURE):
            return "musdb18-hq"
    return None


def _only_tracks(root: Path, kind: MusdbKind) -> bool:
    """Whether all recordings of a folder are tracks of that kind: a stray one is no sign of MUSDB."""
    for entry in entries(root):
        if is_folder(entry):
            if kind == "musdb18" or not os.path.lexists(Path(entry.path) / MIXTURE):
                return False
        elif kind == "musdb18-hq" or not entry.name.endswith(STEM_SUFFIX):
            if Path(entry.name).suffix.lower() in AUDIO_SUFFIXES:
                return False
    return True


def _split_tracks(root: Path, part: Path, split: str, kind: MusdbKind) -> Iterator[MusdbTrack]:
    for entry in entries(part):
        path = Path(entry.path)
        if kind == "musdb18" and entry.name.endswith(STEM_SUFFIX):
            name, mixture = entry.name.removesuffix(STEM_SUFFIX), path
            problem = link_problem(mixture, root)
        elif kind == "musdb18-hq" and (is_folder(entry) or entry.is_symlink()):
            name, mixture = entry.name, path / MIXTURE
            problem = link_problem(path, root) or _mixture_problem(mixture, root)
        else:
            continue
        yield MusdbTrack(split=split, name=name, mixture=mixture, problem=problem)


def _mixture_problem(mixture: Path, root: Path) -> StemwrightError | None:
    if not os.path.lexists(mixture):
        return InputError(
            f"{mixture.parent.name} has no {MIXTURE}", f"put its {MIXTURE} there, or remove the folder"
        )
    problem = link_problem(mixture, root)
    if problem is None and not mixture.is_file():
        return InputError(f"the {MIXTURE} of {mixture.parent.name} is no file", "put the recording there")
    return problem
