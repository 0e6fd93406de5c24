"""A pack: decoded recordings in one file of 16-bit integers, read by segment, with an index beside it.

    pack.json     what there is: `PackIndex`
    audio.npy     int16, shape=(frames, channels), all recordings one after another
    anchors.npy   packs of sound events only: float32, shape=(anchors, size), what the tagger says of each

Reading needs numpy and pydantic and no audio library.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError
from stemwright.training.data import draws
from stemwright.training.data.pack_index import PackIndex, Recording, read_index

AUDIO_FILE = "audio.npy"
ANCHORS_FILE = "anchors.npy"
FULL_SCALE = 32768.0  # of a stored sample at gain 1, so that 16-bit files come back bit by bit


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
