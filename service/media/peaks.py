"""Overviews of a waveform at several zooms: least, greatest and root-mean-square value of each bin.

A recording is read once, block by block. The finest zoom is coarsened while reading, so that memory does
not grow with length; the others are made from it.

The binary form, all little-endian:

    4 bytes   "SWPK"
    u16 u16   version (1), channels
    u32 u64   sample rate in Hz, frames of the recording
    f32 u32   scale, number of zooms
    then for each zoom, finest first: u32 samples in a bin, u32 bins
    then for each zoom: i16[channels][bins][3], least, greatest and RMS value

A value is the integer times scale / 32767. Least values are rounded down and greatest ones up, so that a
drawn waveform never hides a sample.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import InputError, InternalError

FINEST_SAMPLES = 256
"""Samples in a bin of the finest zoom of a recording of up to `MAX_BINS` of them."""
ZOOM_FACTOR = 4
MAX_BINS = 1 << 17
"""Bins of the finest zoom; 12.7 min at 44.1 kHz before the zoom gets coarser."""
FEWEST_BINS = 256
"""The coarsest zoom has fewer bins than this times `ZOOM_FACTOR`."""

_MAGIC = b"SWPK"
_VERSION = 1
_HEAD = struct.Struct("<4sHHIQfI")
_ZOOM = struct.Struct("<II")
_FULL = 32767
# Blocks are this often coarsened bins: 12 h at 192 kHz.
_MOST_JOINS = 4

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Zoom:
    """A waveform at one zoom.

    Parameters
    ----------
    samples_per_bin
        Frames in each bin; the last one may have fewer.
    values
        shape=(channels, bins, 3), int16: least, greatest, RMS.
    scale
        What 32767 stands for.
    """

    samples_per_bin: int
    values: Int16Array
    scale: float

    @property
    def bins(self) -> int:
        """Number of bins."""
        return int(self.values.shape[1])

    def as_float(self) -> FloatArray:
        """Return the values, full scale 1."""
        return (self.values * (self.scale / _FULL)).astype(np.float32)

    def as_dict(self) -> dict[str, Any]:
        """Return the zoom as JSON-ready data, a list for each channel."""
        least, greatest, rms = np.moveaxis(np.round(self.as_float().astype(np.float64), 5), 2, 0)
        return {
            "samples_per_bin": self.samples_per_bin,
            "min": least.tolist(),
            "max": greatest.tolist(),
            "rms": rms.tolist(),
        }


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """A waveform at several zooms, finest first."""

    sample_rate: int
    channels: int
    frames: int
    zooms: tuple[Zoom, ...]

    def zoom(self, bins: int) -> Zoom:
        """Return the coarsest zoom of at least so many bins, the finest if none has as many."""
        return next((zoom for zoom in reversed(self.zooms) if zoom.bins >= bins), self.zooms[0])

    def to_bytes(self) -> bytes:
        """Return the binary form."""
        scale = self.zooms[0].scale
        head = _HEAD.pack(
            _MAGIC, _VERSION, self.channels, self.sample_rate, self.frames, scale, len(self.zooms)
        )
        table = b"".join(_ZOOM.pack(zoom.samples_per_bin, zoom.bins) for zoom in self.zooms)
        return head + table + b"".join(zoom.values.astype("<i2").tobytes() for zoom in self.zooms)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the binary form.

        Raises
        ------
        InternalError
            It is none, or of another version.
        """
        try:
            magic, version, channels, rate, frames, scale, count = _HEAD.unpack_from(data)
            if (magic, version) != (_MAGIC, _VERSION):
                raise ValueError("another format")
            at = _HEAD.size
            sizes = [_ZOOM.unpack_from(data, at + i * _ZOOM.size) for i in range(count)]
            at += count * _ZOOM.size
            zooms = []
            for samples, bins in sizes:
                values = np.frombuffer(data, "<i2", channels * bins * 3, at).reshape(channels, bins, 3)
                zooms.append(Zoom(samples_per_bin=samples, values=values, scale=scale))
                at += values.nbytes
        except (struct.error, ValueError) as error:
            raise InternalError("stored peaks are damaged", "delete the job's media folder") from error
        return cls(sample_rate=rate, channels=channels, frames=frames, zooms=tuple(zooms))


class _Builder:
    """Exact values of the bins read so far; they are joined by `ZOOM_FACTOR` when there is no room for more.

    Blocks but the last must be of a multiple of the bins' size, now and after joining.
    """

    def __init__(self, channels: int, samples_per_bin: int, max_bins: int) -> None:
        self.samples_per_bin = samples_per_bin
        self.frames = 0
        self.bins = 0
        self._least = np.empty((channels, max_bins), np.float32)
        self._greatest = np.empty((channels, max_bins), np.float32)
        self._squares = np.empty((channels, max_bins), np.float64)

    def add(self, block: FloatArray) -> None:
        """Take a block, shape=(channels, n)."""
        while self.frames + block.shape[1] > self.samples_per_bin * self._least.shape[1]:
            self.join()
        starts = np.arange(0, block.shape[1], self.samples_per_bin)
        new = slice(self.bins, self.bins + starts.size)
        self._least[:, new] = np.minimum.reduceat(block, starts, axis=1)
        self._greatest[:, new] = np.maximum.reduceat(block, starts, axis=1)
        self._squares[:, new] = np.add.reduceat(np.square(block, dtype=np.float64), starts, axis=1)
        self.bins = new.stop
        self.frames += block.shape[1]

    def join(self) -> None:
        """Make one bin of every `ZOOM_FACTOR`, and of what is left at the end."""
        starts = np.arange(0, self.bins, ZOOM_FACTOR)
        for values, ufunc in (
            (self._least, np.minimum),
            (self._greatest, np.maximum),
            (self._squares, np.add),
        ):
            values[:, : starts.size] = ufunc.reduceat(values[:, : self.bins], starts, axis=1)
        self.bins = starts.size
        self.samples_per_bin *= ZOOM_FACTOR

    def scale(self) -> float:
        """Return the largest magnitude, at least 1, as it is stored."""
        peak = max(-self._least[:, : self.bins].min(), self._greatest[:, : self.bins].max())
        return float(np.float32(max(1.0, peak)))

    def zoom(self, scale: float) -> Zoom:
        """Return the bins as they are stored."""
        counts = np.full(self.bins, self.samples_per_bin, np.float64)
        counts[-1] = self.frames - self.samples_per_bin * (self.bins - 1)
        unit = _FULL / scale
        values = (
            np.floor(self._least[:, : self.bins] * unit),
            np.ceil(self._greatest[:, : self.bins] * unit),
            np.rint(np.sqrt(self._squares[:, : self.bins] / counts) * unit),
        )
        stacked = np.clip(np.stack(values, axis=2), -_FULL - 1, _FULL).astype(np.int16)
        return Zoom(samples_per_bin=self.samples_per_bin, values=stacked, scale=scale)


def compute_peaks(source: AudioSource, *, finest: int = FINEST_SAMPLES, max_bins: int = MAX_BINS) -> Peaks:
    """Read a recording and make its overviews.

    Parameters
    ----------
    source
        Read once.
    finest
        Samples in a bin of the finest zoom, if the recording is short enough.
    max_bins
        Bins of the finest zoom; for a longer recording its bins grow by `ZOOM_FACTOR`.

    Raises
    ------
    InputError
        The recording cannot be read, or is longer than `max_bins` bins of the coarsest size.
    """
    builder = _Builder(source.info.channels, finest, max_bins)
    block_frames = finest * ZOOM_FACTOR**_MOST_JOINS
    for block in source.blocks(block_frames):
        if builder.frames + block.shape[1] > block_frames * max_bins:
            raise InputError("the recording is too long to be drawn", "cut it into shorter parts")
        builder.add(block)
    scale = builder.scale()
    zooms = [builder.zoom(scale)]
    while math.ceil(builder.bins / ZOOM_FACTOR) >= FEWEST_BINS:
        builder.join()
        zooms.append(builder.zoom(scale))
    return Peaks(
        sample_rate=source.info.sample_rate,
        channels=source.info.channels,
        frames=builder.frames,
        zooms=tuple(zooms),
    )
