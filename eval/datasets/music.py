"""Data sets of music: MUSDB18, MUSDB18-HQ, folders of stems, and clips with the voice in one channel.

`folder` is a folder with one folder for each track, in which each audio file is a stem, called as the file
without its ending; a file called `mixture` is the mixture. MIR-1K (C.-L. Hsu, J.-S. R. Jang, IEEE TASLP 2010)
and iKala (T.-S. Chan et al., ICASSP 2015) have the accompaniment in the left and the voice in the right
channel; their mixture is the sum of both.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError, OptionError, StemwrightError
from stemwright.core.folders import entries, is_folder
from stemwright.core.musdb import SPLITS, STEMS, MusdbFolder, MusdbKind, MusdbTrack, Split, find_musdb
from stemwright.eval.datasets.contract import ACCOMPANIMENT, VOCALS, DataSet, DataTrack, Part

_WAV_FOLDERS = ("Wavfile", "UndividedWavfile", ".")
"""Where the clips lie: in MIR-1K and iKala below `Wavfile`; else in the folder itself."""


def open_musdb(kind: MusdbKind) -> Callable[[Path, str | None], DataSet]:
    """Return what opens MUSDB18 or MUSDB18-HQ; the test split where none is named."""

    def open_set(root: Path, split: str | None) -> DataSet:
        found = find_musdb(root, _known_split(split, root))
        _check_musdb(found, kind, root)
        tracks = found.tracks if found is not None else ()
        make = _stem_mp4 if kind == "musdb18" else _stem_folder
        return DataSet(label="", tracks=tuple(make(track) for track in tracks))

    return open_set


def _known_split(split: str | None, root: Path) -> Split:
    known: dict[str, Split] = {name: name for name in SPLITS}
    try:
        return known[split or ("train" if root.name == "train" else "test")]
    except KeyError:
        raise OptionError(f"MUSDB has no {split} split", f"it has {' and '.join(SPLITS)}") from None


def _check_musdb(found: MusdbFolder | None, kind: MusdbKind, root: Path) -> None:
    if found is None:
        raise InputError(f"{root} is not MUSDB", "give the folder that holds the folders train and test")
    if found.kind != kind:
        other = "musdb" if found.kind == "musdb18" else "musdb-hq"
        raise InputError(f"{root} is {found.kind}, not {kind}", f"use --data {other}:{root}")


def _stem_mp4(track: MusdbTrack) -> DataTrack:
    return stem_mp4_track(track.name, track.mixture, problem=track.problem)


def stem_mp4_track(name: str, path: Path, problem: StemwrightError | None = None) -> DataTrack:
    """Return a `.stem.mp4` file with MUSDB's streams as a track."""
    stems = {stem: Part(path=path, stream=index) for index, stem in enumerate(STEMS, 1)}
    return DataTrack(name=name, stems=stems, mixture=Part(path=path), problem=problem)


def _stem_folder(track: MusdbTrack) -> DataTrack:
    folder = track.mixture.parent
    stems = {stem: Part(path=folder / f"{stem}.wav") for stem in STEMS}
    return DataTrack(name=track.name, stems=stems, mixture=Part(path=track.mixture), problem=track.problem)


def open_folder(root: Path, split: str | None) -> DataSet:
    """Open a folder of folders of stems."""
    _require_no_split(split, "a folder of stems")
    tracks = [track for track in map(_folder_track, _folders(root)) if track is not None]
    if not tracks and _recordings(root):
        raise InputError(
            f"{root} holds recordings but no folders of stems", "give the folder above, one folder a track"
        )
    return DataSet(label="", tracks=tuple(tracks))


def _folder_track(folder: Path) -> DataTrack | None:
    files: dict[str, Path] = {}
    for path in _recordings(folder):
        if path.stem in files:
            problem = InputError(f"{folder} has two files called {path.stem}", "remove one of them")
            return DataTrack(name=folder.name, stems={}, mixture=None, problem=problem)
        files[path.stem] = path
    if not files:
        return None
    mixture = files.pop("mixture", None)
    return DataTrack(
        name=folder.name,
        stems={name: Part(path=path) for name, path in files.items()},
        mixture=Part(path=mixture) if mixture is not None else None,
    )


def open_two_channel(root: Path, split: str | None) -> DataSet:
    """Open clips with the accompaniment in the left and the voice in the right channel."""
    _require_no_split(split, "such a folder of clips")
    place = next(root / name for name in _WAV_FOLDERS if (root / name).is_dir())
    return DataSet(label="", tracks=tuple(_two_channel(path) for path in _recordings(place)))


def _two_channel(path: Path) -> DataTrack:
    stems = {VOCALS: Part(path=path, channel=1), ACCOMPANIMENT: Part(path=path, channel=0)}
    return DataTrack(name=path.stem, stems=stems, mixture=None)


def _require_no_split(split: str | None, what: str) -> None:
    if split is not None:
        raise OptionError(f"{what} has no {split} split", "leave --split out, or give that part's folder")


def _folders(root: Path) -> Iterator[Path]:
    return (Path(entry.path) for entry in entries(root) if is_folder(entry))


def _recordings(folder: Path) -> list[Path]:
    paths = [Path(entry.path) for entry in entries(folder)]
    return [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()]
