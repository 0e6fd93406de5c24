"""A pack: decoded recordings in one file of 16-bit integers, read by segment, with an index beside it.

    pack.json     what there is: `PackIndex`
    audio.npy     int16, shape=(frames, channels), all recordings one after another
    anchors.npy   packs of sound events only: float32, shape=(anchors, size), what the tagger says of each

Reading needs numpy and pydantic and no audio library.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError
from stemwright.training.data import draws

INDEX_FILE = "pack.json"
AUDIO_FILE = "audio.npy"
ANCHORS_FILE = "anchors.npy"
FORMAT: Literal[1] = 1
FULL_SCALE = 32768.0  # of a stored sample at gain 1, so that 16-bit files come back bit by bit

Kind = Literal["stems", "speech", "events"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recording(_Part):
    """One recording of a pack.

    Parameters
    ----------
    name
        Path below the data folder; unique together with `role`.
    group
        What must not be torn apart between training and validation: song, speaker, or origin of a clip.
    role
        The stem in a song, such as "vocals"; empty for speech and sound events.
    split
        The part of the data set that it belongs to by the set's own rule, such as "train" or "fold3"; may be
        empty.
    labels
        Classes of a sound event; sex of a speaker.
    offset, frames
        Place in the audio file.
    gain
        Factor of its samples.
    level
        Root mean square over the frames of 20 ms that are within 40 dB of the loudest; 0 for silence.
    peak
        Largest magnitude.
    """

    name: str
    group: str
    role: str = ""
    split: str = ""
    labels: tuple[str, ...] = ()
    offset: int = Field(ge=0)
    frames: int = Field(ge=1)
    gain: float = Field(gt=0)
    level: float = Field(ge=0)
    peak: float = Field(ge=0)


class SongStatistics(_Part):
    """Mean and standard deviation (n - 1) of a song's mixture, channels averaged."""

    mean: float
    std: float = Field(ge=0)


class Anchor(_Part):
    """A segment in which the tagger hears a class: row `i` of the anchors' file is the one of anchor `i`.

    Parameters
    ----------
    recording
        Number of the recording.
    label
        The class, as in the recording's labels.
    start
        First sample within the recording, which is silent beyond its ends.
    score
        The class's mean probability in the segment.
    """

    recording: int = Field(ge=0)
    label: str
    start: int
    score: float


class AnchorTable(_Part):
    """How anchors were found.

    Parameters
    ----------
    tagger, classes, embedding_size
        The tagger, ids of its classes (the first values of a row) and size of its embedding (the rest).
    segment
        Samples of an anchor.
    branches
        Of each label: places, among the tagger's classes, of its class and those that the ontology counts
        to it.
    """

    tagger: str
    classes: tuple[str, ...]
    embedding_size: int
    segment: int = Field(ge=1)
    anchors: tuple[Anchor, ...]
    branches: dict[str, tuple[int, ...]] = {}


class Skipped(_Part):
    """A file that could not be packed, and why."""

    name: str
    reason: str


class PackIndex(_Part):
    """All that is known of a pack beside its samples.

    Parameters
    ----------
    fingerprint
        Of the listing it was made from and of how it was made.
    statistics
        Of the mixture of each song, by group; only of stems.
    """

    format: Literal[1] = 1
    kind: Kind
    layout: str
    sample_rate: int = Field(ge=1)
    channels: int = Field(ge=1)
    frames: int = Field(ge=0)
    fingerprint: str
    recordings: tuple[Recording, ...]
    statistics: dict[str, SongStatistics] = {}
    anchors: AnchorTable | None = None
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pack:
    """An open pack, or a part of one.

    Parameters
    ----------
    folder
        Where it lies.
    index
        The whole index.
    numbers
        The recordings of this part, as places in `index.recordings`.
    """

    folder: Path
    index: PackIndex
    numbers: tuple[int, ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a pack.

        Raises
        ------
        InputError
            No pack, or one that is damaged or of another version.
        """
        index = read_index(folder)
        pack = cls(folder=folder, index=index, numbers=tuple(range(len(index.recordings))))
        if pack._audio.shape != (index.frames, index.channels) or pack._audio.dtype != np.int16:
            raise InputError(f"the samples of the pack {folder} do not fit its index", "pack the data again")
        return pack

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.index.sample_rate

    @property
    def channels(self) -> int:
        """Channels of every recording."""
        return self.index.channels

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The recordings of this part."""
        return tuple(self.index.recordings[number] for number in self.numbers)

    @cached_property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the recordings of each group, groups in the order of their names."""
        found: dict[str, list[int]] = {}
        for number in self.numbers:
            found.setdefault(self.index.recordings[number].group, []).append(number)
        return {name: tuple(found[name]) for name in sorted(found)}

    @property
    def seconds(self) -> float:
        """Length of all recordings together."""
        return sum(one.frames for one in self.recordings) / self.sample_rate

    def where(self, keep: Callable[[Recording], bool]) -> Self:
        """Return the part of the recordings that `keep` accepts."""
        kept = tuple(number for number in self.numbers if keep(self.index.recordings[number]))
        return dataclasses.replace(self, numbers=kept)

    def subset(
        self,
        *,
        splits: Iterable[str] | None = None,
        groups: Iterable[str] | None = None,
        without_groups: Iterable[str] = (),
        labels: Iterable[str] | None = None,
    ) -> Self:
        """Return a part by names.

        Parameters
        ----------
        splits, groups, labels
            Only what belongs to one of them; None keeps all.
        without_groups
            What is left out.

        Raises
        ------
        InputError
            A group that the pack does not have, or nothing is left.
        """
        splits, labels = (None if names is None else frozenset(names) for names in (splits, labels))
        wanted = None if groups is None else frozenset(groups)
        unwanted = frozenset(without_groups)
        self._check_groups((wanted or frozenset()) | unwanted)

        def keep(one: Recording) -> bool:
            return (
                (splits is None or one.split in splits)
                and (wanted is None or one.group in wanted)
                and one.group not in unwanted
                and (labels is None or bool(labels.intersection(one.labels)))
            )

        part = self.where(keep)
        if not part.numbers:
            have = ", ".join(sorted({one.split for one in self.recordings} - {""})) or "none"
            raise InputError(
                f"no recording of the pack {self.folder} is in the part that was asked for",
                f"its splits: {have}",
            )
        return part

    def held_out(self, part: float, *, seed: int = 0) -> tuple[Self, Self]:
        """Return (training, validation) by group: `part` of the groups on average is held out.

        Which side a group is on depends on its name and the seed alone, so that it stays there when others
        are added. At least one group is held out and one kept.

        Raises
        ------
        InputError
            Fewer than two groups.
        """
        order = sorted(self.groups, key=lambda name: draws.share(seed, name))
        if len(order) < 2:
            raise InputError(f"the pack {self.folder} has only one group", "give validation data of its own")
        below = sum(draws.share(seed, name) < part for name in order)
        held = frozenset(order[: min(max(1, below), len(order) - 1)])
        return self.where(lambda one: one.group not in held), self.where(lambda one: one.group in held)

    def read(
        self, number: int, start: int = 0, frames: int | None = None, *, out: FloatArray | None = None
    ) -> FloatArray:
        """Read a segment, silent where it reaches beyond the recording.

        Parameters
        ----------
        number
            Place in `index.recordings`.
        start
            First sample; may be negative or behind the end.
        frames
            Length; by default to the recording's end.
        out
            Where to, shape=(channels, frames), float32; by default a new array.

        Returns
        -------
        FloatArray
            float32, shape=(channels, frames).
        """
        one = self.index.recordings[number]
        frames = max(0, one.frames - start) if frames is None else frames
        first, last = min(max(start, 0), one.frames), min(max(start + frames, 0), one.frames)
        out = np.empty((self.channels, frames), np.float32) if out is None else out
        if last <= first:
            out[:] = 0
            return out
        before, behind = first - start, last - start
        out[:, :before] = 0
        out[:, behind:] = 0
        stored = self._audio[one.offset + first : one.offset + last]
        gain = np.float32(one.gain / FULL_SCALE)
        np.multiply(stored.T, gain, out=out[:, before:behind], dtype=np.float32, casting="unsafe")
        return out

    def anchor_values(self, number: int) -> FloatArray:
        """Return what the tagger says of an anchor, float32, shape=(classes + embedding size,)."""
        return np.array(self._anchors[number], np.float32)

    @cached_property
    def _audio(self) -> npt.NDArray[np.int16]:
        return mapped_audio(self.folder)

    @cached_property
    def _anchors(self) -> FloatArray:
        anchors: FloatArray = _mapped(self.folder / ANCHORS_FILE)
        return anchors

    def _check_groups(self, names: frozenset[str]) -> None:
        missing = sorted(names.difference(self.groups))
        if missing:
            raise InputError(
                f"the pack {self.folder} has no group {missing[0]}",
                f"see `stemwright train data info {self.folder}`",
            )

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapped files out: each worker maps them itself."""
        return {"folder": self.folder, "index": self.index, "numbers": self.numbers}


def read_index(folder: Path) -> PackIndex:
    """Read a pack's index.

    Raises
    ------
    InputError
        No pack, or one that is damaged or of another version.
    """
    try:
        return PackIndex.model_validate_json((folder / INDEX_FILE).read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"cannot read the pack {folder}: {reason}", "make it with `stemwright train data pack`"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"the index of the pack {folder} is not valid: {place}: {first['msg']}", "pack the data again"
        ) from error


def is_pack(folder: Path) -> bool:
    """Whether a folder holds a pack."""
    return (folder / INDEX_FILE).is_file()


def write_index(folder: Path, index: PackIndex) -> None:
    """Write the index of a pack."""
    text = json.dumps(index.model_dump(mode="json"), ensure_ascii=False, indent=1)
    (folder / INDEX_FILE).write_text(text, encoding="utf-8")


def mapped_audio(folder: Path) -> npt.NDArray[np.int16]:
    """Map the samples of a pack, shape=(frames, channels)."""
    audio: npt.NDArray[np.int16] = _mapped(folder / AUDIO_FILE)
    return audio


def _mapped(path: Path) -> Any:
    """Map an array; the caller knows its type."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", "pack the data again") from error
