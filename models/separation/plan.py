"""How a track is cut into calls of a network: pure arithmetic, no audio.

The default is that of `demucs.apply.apply_model` (demucs 4.1.0): chunks start every `stride`
samples until the end of the track, the last ones may be short, and a short one is put into the
middle of the network's window with real audio around it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import OptionError
from stemwright.models.manifest import ChunkPlan

MAX_SHIFT_S = 0.5
"""Largest shift of the time-shift trick, from demucs.apply.apply_model."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How the tracks are to be cut.

    Parameters
    ----------
    overlap
        Share of a chunk, None for each manifest's own.
    discard_s
        Seconds of output to discard at both ends of every call.
    shifts
        Number of shifted passes to average; 0 makes a single one without shift.
    seed
        Seed of the shifts.
    """

    overlap: float | None
    discard_s: float
    shifts: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One call of the network. Positions are samples of the track at the model's rate.

    Parameters
    ----------
    index
        Number of the chunk, from 0.
    start, length
        The part of the track that it gives; `start` is negative where a shifted track begins early.
    window_start
        First sample of the call's input window; what lies outside the track is zero.
    window_samples
        Length of that window.
    skip
        Samples of the call's output that lie before `start` and are not used.
    """

    index: int
    start: int
    length: int
    window_start: int
    window_samples: int
    skip: int


@dataclass(frozen=True, kw_only=True)
class TrackPlan:
    """The chunks of one track.

    Parameters
    ----------
    call
        What one call of the graph takes and gives.
    frames
        Length of the track.
    overlap
        Share of a chunk by which consecutive chunks overlap, 0 <= overlap < 1.
    discard
        Samples at either end of each call's output that are not used, because the network lacks
        context there; 0 is the reference implementation's plan.
    origin
        Where the first chunk starts: 0, or -d for a track that is preceded by d zeros.
    lag
        How far the outputs of calls with a state lie behind their inputs. The first chunk starts
        there, before the track.

    Raises
    ------
    OptionError
        Nothing is left of a chunk, or consecutive chunks would start at the same sample.
    """

    call: ChunkPlan
    frames: int
    overlap: float
    discard: int = 0
    origin: int = 0
    lag: int = 0

    def __post_init__(self) -> None:
        if self.chunk_samples < 1:
            raise OptionError(
                f"discarding {self.discard} samples at both ends leaves nothing of a chunk"
                f" of {self.call.output_samples}",
                "discard less context",
            )
        if not 0 <= self.overlap < 1 or self.stride < 1:
            raise OptionError(
                f"an overlap of {self.overlap:g} does not let the chunks advance",
                "give an overlap of at least 0 and below 1, for example 0.25",
            )

    @cached_property
    def chunk_samples(self) -> int:
        """Length of a whole chunk."""
        return self.call.output_samples - 2 * self.discard

    @cached_property
    def stride(self) -> int:
        """Distance of the starts of consecutive chunks."""
        return int((1 - self.overlap) * self.chunk_samples)

    @cached_property
    def _first(self) -> int:
        return self.origin - self.lag

    @cached_property
    def single(self) -> bool:
        """Whether the track runs in one call of its own length."""
        return self.call.time == "variable" and self.frames - self._first <= self.chunk_samples

    @cached_property
    def count(self) -> int:
        """Number of chunks: none for an empty track."""
        if self.frames <= 0:
            return 0
        return 1 if self.single else -(-(self.frames - self._first) // self.stride)

    @cached_property
    def window(self) -> FloatArray:
        """Weights of a chunk's samples in the cross-fade, shape=(chunk_samples,), all in (0, 1].

        A short chunk takes the first `length` of them, as demucs does.
        """
        size = self.chunk_samples
        if self.call.window == "rectangular":
            return np.ones(size, np.float32)
        if self.call.window == "hann":
            return np.asarray(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2, np.float32)
        rising = np.arange(1, size // 2 + 1)
        ramp = np.concatenate([rising, np.arange(size - size // 2, 0, -1)])
        return np.asarray(ramp / ramp.max(), np.float32)

    def chunk(self, index: int) -> Chunk:
        """Return chunk `index`, 0 <= index < count."""
        if not 0 <= index < self.count:
            raise ValueError(f"no chunk {index} of {self.count}")
        start = self._first + index * self.stride
        length = min(self.chunk_samples, self.frames - start)
        short = self.call.time == "variable" and self.call.tail == "end" and length < self.chunk_samples
        if self.single:
            skip, size = 0, self._call_samples(length)
        elif short:
            skip, size = self.discard, self._call_samples(length + self.discard)
        else:
            spare = (self.chunk_samples - length) // 2 if self.call.tail == "centred" else 0
            skip, size = self.discard + spare, self.call.input_samples
        return Chunk(
            index=index,
            start=start,
            length=length,
            window_start=start - self.call.output_offset - skip + self.lag,
            window_samples=size,
            skip=skip,
        )

    def _call_samples(self, needed: int) -> int:
        """Length of a call of variable length that has room for so many samples."""
        return -(-needed // self.call.multiple) * self.call.multiple

    def chunks(self) -> Iterator[Chunk]:
        """All chunks in order."""
        return (self.chunk(index) for index in range(self.count))


def draw_origins(generator: np.random.Generator, shifts: int, sample_rate: int) -> tuple[int, ...]:
    """Draw where the tracks of the time-shift trick begin.

    demucs pads the track with 0.5 s on both sides, draws an offset of 0 to 0.5 s into that, and
    separates from there; the drawn offset o is the origin o - 0.5 s here.

    Returns
    -------
    tuple of int
        `shifts` origins, each -0.5 s <= origin <= 0, in samples; (0,) without shifts.
    """
    if shifts == 0:
        return (0,)
    largest = int(MAX_SHIFT_S * sample_rate)
    offsets = generator.integers(0, largest, shifts, endpoint=True)
    return tuple(int(offset) - largest for offset in offsets)
