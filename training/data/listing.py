"""What a data folder is, and the recordings in it, found without decoding any.

===========  ==========================================================  =============================
layout       files                                                       kind of pack
===========  ==========================================================  =============================
musdb18      [{train,test}/]SONG.stem.mp4                                stems: drums bass other vocals
stems        [{train,test,...}/]SONG/STEM.wav (MUSDB18-HQ, DSD100)       stems: those that songs share
mir-1k       Wavfile/SINGER_SONG_CLIP.wav, left accompaniment            stems: accompaniment vocals
ikala        Wavfile/SONG_{verse,chorus}.wav, left accompaniment         stems: accompaniment vocals
two-channel  SONG_ANYTHING.flac, left accompaniment                      stems: accompaniment vocals
speech       [PART/]SPEAKER/.../UTTERANCE.flac (LibriSpeech, WSJ0)       speech
events       files and labels in a CSV, or LABEL/CLIP.ogg (ESC, FSD50K)  events
clips        files at any depth, without labels: noises                  events
===========  ==========================================================  =============================
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError
from stemwright.training.data.pack_index import Kind

Layout = Literal["musdb18", "stems", "mir-1k", "ikala", "two-channel", "speech", "events", "clips"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

STEM_MP4 = ".stem.mp4"
LABEL_FILES = ("labels.csv", "meta/esc50.csv")
SPEAKER_FILES = ("speakers.csv", "SPEAKERS.TXT")

# Parts of data sets by the names of their folders; WSJ0's are those that its two-speaker mixtures use.
_SPLITS = (
    (re.compile(r"train([-_ ].*)?|si_tr.*", re.IGNORECASE), "train"),
    (re.compile(r"(valid|validation|val|dev)([-_ ].*)?", re.IGNORECASE), "validation"),
    (re.compile(r"(test|eval)([-_ ].*)?|si_(dt|et).*", re.IGNORECASE), "test"),
)
_IKALA = re.compile(r"(?P<song>\d+)_(verse|chorus)")
_MIR_1K = re.compile(r"(?P<singer>[A-Za-z]+)_\d+_\d+")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A recording that a data folder has.

    Parameters
    ----------
    path
        Its file.
    name, group, role, split, labels
        As in `Recording`.
    stream
        Which of the file's audio streams.
    channel
        The only channel that is meant; None for all.
    """

    path: Path
    name: str
    group: str
    role: str = ""
    split: str = ""
    labels: tuple[str, ...] = ()
    stream: int = 0
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A part of a data folder that cannot be used: its name and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The recordings of a data folder, in the order of their names.

    Parameters
    ----------
    units
        How many songs (of stems) or files there are, the faulty ones included.
    """

    root: Path
    layout: Layout
    kind: Kind
    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...] = ()
    units: int

    def fingerprint(self, *how: object) -> str:
        """SHA-256 of names, sizes, times of change and roles of all files, and of how they will be packed."""
        digest = hashlib.sha256(repr((self.layout, how)).encode())
        for entry in self.entries:
            facts = entry.path.stat()
            what = (
                entry.name,
                entry.group,
                entry.role,
                entry.split,
                entry.labels,
                entry.stream,
                entry.channel,
            )
            digest.update(repr((what, facts.st_size, facts.st_mtime_ns)).encode())
        return digest.hexdigest()


def find_recordings(root: Path, layout: Layout | None = None) -> Listing:
    """Find the recordings of a data folder.

    Parameters
    ----------
    root
        The folder.
    layout
        How it is laid out; None finds out.

    Raises
    ------
    InputError
        No folder, no recordings, or a layout that cannot be told.
    """
    # Here, because both know the types of this module.
    from stemwright.training.data import music_layouts, sound_layouts

    if not root.is_dir():
        raise InputError(f"{root} is no folder", "give a folder of data")
    layout = layout or recognised(root)
    find = {
        "musdb18": music_layouts.musdb18,
        "stems": music_layouts.stems,
        "mir-1k": music_layouts.mir_1k,
        "ikala": music_layouts.two_channel,
        "two-channel": music_layouts.two_channel,
        "speech": sound_layouts.speech,
        "events": sound_layouts.events,
        "clips": sound_layouts.clips,
    }[layout]
    entries, faults = find(root)
    kind: Kind = "speech" if layout == "speech" else "events" if layout in ("events", "clips") else "stems"
    if not entries:
        first = f": {faults[0].name}: {faults[0].reason}" if faults else ""
        raise InputError(
            f"{root} holds no recordings in the layout {layout}{first}", "check path and --layout"
        )
    units = len({entry.name for entry in entries}) + len(faults)
    ordered = sorted(entries, key=lambda entry: (entry.name, entry.role))
    return Listing(
        root=root, layout=layout, kind=kind, entries=tuple(ordered), faults=tuple(faults), units=units
    )


def recognised(root: Path) -> Layout:
    """Find out how a data folder is laid out.

    Raises
    ------
    InputError
        It cannot be told.
    """
    if any((root / name).is_file() for name in LABEL_FILES):
        return "events"
    if any((root / name).is_file() for name in SPEAKER_FILES):
        return "speech"
    files = [path for path in audio_files(root)]
    if any(path.name.lower().endswith(STEM_MP4) for path in files):
        return "musdb18"
    if files and all(path.parent.name == "Wavfile" for path in files):
        return "ikala" if _IKALA.fullmatch(files[0].stem) else "mir-1k"
    if any(path.stem.lower() in ("mixture", "vocals") for path in files):
        return "stems"
    raise InputError(
        f"how the data folder {root} is laid out cannot be told from its files",
        f"say --layout: one of {', '.join(LAYOUTS)}",
    )


def singer_or_song(stem: str) -> str:
    """Return what a clip shares with others: singer (MIR-1K), song (iKala), or what is before "_"."""
    for pattern, name in ((_MIR_1K, "singer"), (_IKALA, "song")):
        if match := pattern.fullmatch(stem):
            return match[name]
    return stem.split("_")[0]


def audio_files(root: Path) -> Iterator[Path]:
    """Audio files at any depth in the order of their names, hidden ones and links left out."""
    with os.scandir(root) as found:
        entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from audio_files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False) and Path(entry.name).suffix.lower() in AUDIO_SUFFIXES:
            yield Path(entry.path)


def parted(relative: PurePosixPath) -> tuple[str, PurePosixPath]:
    """Take the part of the data set off the front of a path: train-clean-100/19/a is train, 19/a."""
    parts = relative.parts
    if len(parts) > 1:
        for pattern, split in _SPLITS:
            if pattern.fullmatch(parts[0]):
                return split, PurePosixPath(*parts[1:])
    return "", relative
