"""Data sets of equal speakers or sounds: LibriMix, WSJ0-2mix, and the layout of FUSS.

LibriMix (J. Cosentino et al., 2020) and WSJ0-2mix (J. Hershey et al., ICASSP 2016) have a folder of mixtures,
`mix_clean` or `mix`, and `s1`, `s2` ... beside it, with files of the same names. FUSS (S. Wisdom et al.,
ICASSP 2021) has `NAME.wav` and the sounds of it in `NAME_sources`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError, OptionError
from stemwright.core.folders import entries, is_folder
from stemwright.eval.datasets.contract import DataSet, DataTrack, Part

_SPEAKER = re.compile(r"s[1-9]")
_CLEAN = ("mix", "mix_clean")
_SOUNDS = "_sources"


def open_speakers(default_split: str) -> Callable[[Path, str | None, str | None], DataSet]:
    """Return what opens mixtures of speakers; `default_split` where none is named."""

    def open_set(root: Path, split: str | None, mix: str | None) -> DataSet:
        place = _place(root, split, default_split, _has_mixtures)
        mixtures = _mixtures(place, mix)
        speakers = [folder for folder in _folders(place) if _SPEAKER.fullmatch(folder.name)]
        if not speakers:
            raise InputError(f"{place} has no folders s1, s2", f"give the folder that holds {mixtures.name}")
        files = [_by_name(folder) for folder in speakers]
        mixed = _by_name(mixtures)
        extra = sorted({name for names in files for name in names} - set(mixed))
        tracks = tuple(
            _speakers_track(name, path, dict(zip(speakers, files, strict=True)))
            for name, path in mixed.items()
        )
        notes = [f"mixtures of {mixtures.name}"]
        if extra:
            notes.append(f"{len(extra)} files of speakers have no mixture, such as {extra[0]}")
        return DataSet(label="", tracks=tracks, nature="speech", interchangeable=True, notes=tuple(notes))

    return open_set


def _speakers_track(name: str, mixture: Path, speakers: dict[Path, dict[str, Path]]) -> DataTrack:
    missing = [folder.name for folder, files in speakers.items() if name not in files]
    problem = InputError(
        f"{name} is not in {' and '.join(missing)}", "put the speaker there, or remove the mixture"
    )
    stems = {folder.name: Part(path=files[name]) for folder, files in speakers.items() if name in files}
    return DataTrack(name=name, stems=stems, mixture=Part(path=mixture), problem=problem if missing else None)


def _mixtures(place: Path, mix: str | None) -> Path:
    found = {folder.name: folder for folder in _folders(place) if folder.name.startswith("mix")}
    known = ", ".join(found)
    if mix is not None:
        if mix not in found:
            raise OptionError(f"{place} has no folder {mix}", f"it has {known}")
        return found[mix]
    names = [name for name in _CLEAN if name in found] or list(found)
    if len(names) > 1:
        raise OptionError(f"{place} has several kinds of mixtures", f"add ?mix= and one of {known}")
    return found[names[0]]


def _has_mixtures(folder: Path) -> bool:
    return any(child.name.startswith("mix") for child in _folders(folder))


def open_sounds(root: Path, split: str | None) -> DataSet:
    """Open a folder in the layout of FUSS; the eval split where none is named."""
    place = _place(root, split, "eval", _has_sounds)
    return DataSet(
        label="",
        tracks=tuple(_sounds_track(path, place) for path in _by_name(place).values()),
        nature="events",
        interchangeable=True,
    )


def _has_sounds(folder: Path) -> bool:
    return any(child.name.endswith(_SOUNDS) for child in _folders(folder))


def _sounds_track(mixture: Path, place: Path) -> DataTrack:
    folder = place / f"{mixture.stem}{_SOUNDS}"
    sounds = _by_name(folder) if folder.is_dir() else {}
    problem = InputError(f"{mixture.name} has no sounds in {folder.name}", "put them there, one file each")
    return DataTrack(
        name=mixture.stem,
        stems={name: Part(path=path) for name, path in sounds.items()},
        mixture=Part(path=mixture),
        problem=None if sounds else problem,
    )


def _place(root: Path, split: str | None, default: str, belongs: Callable[[Path], bool]) -> Path:
    """Return the folder of a split, which may be the root itself."""
    if belongs(root):
        if split not in (None, root.name):
            raise OptionError(f"{root} is one split itself", "leave --split out")
        return root
    place = root / (split or default)
    if not place.is_dir() or not belongs(place):
        there = ", ".join(folder.name for folder in _folders(root) if belongs(folder))
        remedy = f"--split may be {there}" if there else "give the folder that holds the mixtures"
        raise InputError(f"{root} has no mixtures of the split {split or default}", remedy)
    return place


def _by_name(folder: Path) -> dict[str, Path]:
    paths = [Path(entry.path) for entry in entries(folder)]
    files = [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()]
    named = {path.stem: path for path in files}
    if len(named) < len(files):
        raise InputError(f"{folder} has files that differ in their ending only", "remove one of each")
    return named


def _folders(root: Path) -> list[Path]:
    return [Path(entry.path) for entry in entries(root) if is_folder(entry)]
