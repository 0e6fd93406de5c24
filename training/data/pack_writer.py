"""The file of samples of a pack, as it is written."""

import errno
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import resampled
from stemwright.core.audio.source import open_source
from stemwright.core.errors import OutputError, ResourceError
from stemwright.training.data.listing import Entry
from stemwright.training.data.pack import AUDIO_FILE, FULL_SCALE
from stemwright.training.data.pack_index import Recording, SongStatistics

_LARGEST = np.float32(32767.0 / FULL_SCALE)
_BLOCK_FRAMES = 1 << 18
_LEVEL_FRAME_S = 0.02
_LEVEL_RANGE_DB = 40.0


class Unusable(Exception):  # noqa: N818 - no error of the user's but a reason to skip
    """A recording that decodes and cannot be used all the same."""


class AudioFile:
    """Writes recordings one after another to `audio.npy` in a folder.

    Parameters
    ----------
    folder
        Where the file is made.
    sample_rate, channels
        Of everything in it.

    Raises
    ------
    OutputError, ResourceError
        From the methods too: the file cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, *, sample_rate: int, channels: int) -> None:
        self.sample_rate = sample_rate
        self.channels = channels
        self.frames = 0
        self._path = folder / AUDIO_FILE
        self._file = self._path.open("w+b")
        self._start = self._write_header()

    def write(self, entry: Entry) -> tuple[Recording, tuple[int, int]]:
        """Decode a recording and append it; return it with its own (rate, frames).

        Raises
        ------
        InputError
            It cannot be decoded.
        """
        start = self.frames
        peak, level, shape = self._append(entry, gain=1.0)
        gain = 1.0
        if peak > _LARGEST:  # 16 bits do not hold it as it is
            gain = float(peak / _LARGEST)
            self.truncate(start)
            self._append(entry, gain=gain)
        recording = Recording(
            name=entry.name,
            group=entry.group,
            role=entry.role,
            split=entry.split,
            labels=entry.labels,
            offset=start,
            frames=self.frames - start,
            gain=gain,
            level=level,
            peak=peak,
        )
        return recording, shape

    def truncate(self, frames: int) -> None:
        """Forget everything behind the first `frames` frames."""
        self.frames = frames
        self._file.seek(self._start + frames * 2 * self.channels)
        self._file.truncate()

    def read(self, first: int, last: int) -> npt.NDArray[np.int16]:
        """Read frames back, shape=(frames, channels)."""
        self._file.flush()
        self._file.seek(self._start + first * 2 * self.channels)
        data = np.fromfile(self._file, np.int16, (last - first) * self.channels)
        self._file.seek(0, 2)
        return data.reshape(-1, self.channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.seek(0)
                if self._write_header() != self._start:
                    raise AssertionError("the header of a growing array changed its size")
        finally:
            self._file.close()

    def _append(self, entry: Entry, *, gain: float) -> tuple[float, float, tuple[int, int]]:
        peak, frames = 0.0, 0
        meter = _LevelMeter(round(_LEVEL_FRAME_S * self.sample_rate))
        with open_source(entry.path, stream=entry.stream) as source:
            rate = source.info.sample_rate
            counted = _Counted(self._fitted(block, entry) for block in source.blocks(_BLOCK_FRAMES))
            for block in resampled(counted, rate, self.sample_rate):
                peak = max(peak, float(np.abs(block).max()))
                meter.push(block)
                self._store(block, gain)
                frames += block.shape[1]
        return peak, meter.level(), (rate, counted.frames)

    def _fitted(self, block: FloatArray, entry: Entry) -> FloatArray:
        """Bring a block to the pack's channels."""
        if entry.channel is not None:
            if block.shape[0] <= entry.channel:
                raise Unusable("has one channel where two are expected")
            block = block[entry.channel : entry.channel + 1]
        if self.channels == 1:
            mono: FloatArray = block.mean(axis=0, keepdims=True, dtype=np.float32)
            return mono
        fitted: FloatArray = np.repeat(block, 2, axis=0) if block.shape[0] == 1 else block[: self.channels]
        return fitted

    def _store(self, block: FloatArray, gain: float) -> None:
        scaled = np.rint(block.T * np.float32(FULL_SCALE / gain))
        values = np.clip(scaled, -32768, 32767).astype("<i2")
        try:
            self._file.write(np.ascontiguousarray(values).tobytes())
        except OSError as error:
            raise _told(error, self._path) from error
        self.frames += block.shape[1]

    def _write_header(self) -> int:
        # numpy leaves room in the header of an array for its first axis to grow.
        facts = {"descr": "<i2", "fortran_order": False, "shape": (self.frames, self.channels)}
        np.lib.format.write_array_header_1_0(self._file, facts)
        return self._file.tell()


def mixture_statistics(audio: AudioFile, stems: list[Recording]) -> SongStatistics:
    """Mean and standard deviation of a song's mixture, channels averaged, read back from the pack."""
    total, squares, frames = 0.0, 0.0, stems[0].frames
    for first in range(0, frames, _BLOCK_FRAMES):
        last = min(first + _BLOCK_FRAMES, frames)
        mixture = np.zeros(last - first)
        for one in stems:
            block = audio.read(one.offset + first, one.offset + last)
            mixture += block.mean(axis=1, dtype=np.float64) * (one.gain / FULL_SCALE)
        total += float(mixture.sum())
        squares += float(mixture @ mixture)
    mean = total / frames
    variance = max(0.0, squares - frames * mean * mean) / max(1, frames - 1)
    return SongStatistics(mean=mean, std=variance**0.5)


class _Counted:
    """Passes blocks on and counts their frames."""

    def __init__(self, blocks: Iterator[FloatArray]) -> None:
        self._blocks = blocks
        self.frames = 0

    def __iter__(self) -> Iterator[FloatArray]:
        for block in self._blocks:
            self.frames += block.shape[1]
            yield block


class _LevelMeter:
    """Level of the parts in which something sounds."""

    def __init__(self, size: int) -> None:
        self._size = max(1, size)
        self._rest = np.zeros(0)
        self._powers: list[npt.NDArray[np.float64]] = []

    def push(self, block: FloatArray) -> None:
        power = np.concatenate([self._rest, np.square(block, dtype=np.float64).mean(axis=0)])
        whole = len(power) // self._size * self._size
        self._powers.append(power[:whole].reshape(-1, self._size).mean(axis=1))
        self._rest = power[whole:]

    def level(self) -> float:
        powers = np.concatenate([*self._powers, [self._rest.mean()] if len(self._rest) else []])
        if not len(powers) or powers.max() == 0:
            return 0.0
        return float(np.sqrt(powers[powers >= powers.max() * 10 ** (-_LEVEL_RANGE_DB / 10)].mean()))


def _told(error: OSError, path: Path) -> OutputError | ResourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"the disk of {path.parent} is full", "make room there, or choose another place")
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"cannot write {path}: {reason}", "choose another place")
