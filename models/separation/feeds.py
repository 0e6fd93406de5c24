"""A recording as the models hear it: at their rates, on their channels, in windows.

A *feed* is what one or more models hear of a recording: a sample rate and a group of its channels.
The recording is decoded once a pass and resampled once a rate, however many feeds there are.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.channels import ChannelGroup
from stemwright.core.audio.resample import Resampler
from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What a model hears: a sample rate in Hz and a group of the recording's channels."""

    sample_rate: int
    group: ChannelGroup


@dataclass(kw_only=True)
class Moments:
    """Running count, mean and sum of squared deviations of a stream, in float64.

    Blocks are combined by Chan, Golub and LeVeque's pairwise formula (1983), so that the result
    does not depend on the blocks' sizes beyond the rounding of float64.
    """

    count: int = 0
    mean: float = 0.0
    deviations: float = 0.0

    def add(self, samples: FloatArray) -> None:
        """Take in samples, shape=(n,), n >= 1."""
        values = samples.astype(np.float64)
        count = values.size
        mean = float(values.mean())
        deviations = float(np.square(values - mean).sum())
        total = self.count + count
        step = mean - self.mean
        self.deviations += deviations + step * step * self.count * count / total
        self.mean += step * count / total
        self.count = total

    @property
    def std(self) -> float:
        """Unbiased standard deviation; 0 for fewer than two samples."""
        return math.sqrt(self.deviations / (self.count - 1)) if self.count > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class FeedFacts:
    """Length in samples of a feed, and mean and unbiased standard deviation of its channel mean."""

    frames: int
    mean: float
    std: float


@dataclass(frozen=True, kw_only=True)
class TrackAnalysis:
    """What the first pass over a recording finds.

    Parameters
    ----------
    frames
        Exact length in samples at the recording's rate.
    sample_rate
        The recording's rate in Hz.
    peak
        Largest magnitude of any sample.
    feeds
        Facts of each feed, in the order they were asked for.
    """

    frames: int
    sample_rate: int
    peak: float
    feeds: tuple[FeedFacts, ...]

    @property
    def silent(self) -> bool:
        """Whether every sample is zero."""
        return self.peak == 0

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


Observer = Callable[[int], None]
"""Called after every block of a pass with the frames read so far; may raise to end the pass."""


def analyse(
    source: AudioSource, feeds: Sequence[Feed], block_frames: int, observe: Observer
) -> TrackAnalysis:
    """Read a whole recording and measure it, holding no more than a block.

    Raises
    ------
    InputError
        No samples, or what the source raises.
    """
    moments = [Moments() for _ in feeds]
    reader = FeedReader(source, feeds, block_frames, observe)
    for index, block in reader:
        moments[index].add(block.mean(axis=0, dtype=np.float32) if block.shape[0] > 1 else block[0])
    if reader.frames == 0:
        raise InputError("the recording has no samples", "check that the file is complete")
    return TrackAnalysis(
        frames=reader.frames,
        sample_rate=source.info.sample_rate,
        peak=reader.peak,
        feeds=tuple(FeedFacts(frames=m.count, mean=m.mean, std=m.std) for m in moments),
    )


class FeedReader:
    """Iterates once over a recording as (index of the feed, block of that feed).

    Blocks have shape=(model channels, n > 0); `frames` and `peak` tell of what was read so far.
    """

    def __init__(
        self, source: AudioSource, feeds: Sequence[Feed], block_frames: int, observe: Observer
    ) -> None:
        self._source = source
        self._feeds = tuple(feeds)
        self._block_frames = block_frames
        self._observe = observe
        info = source.info
        self._resamplers = {
            rate: Resampler(info.sample_rate, rate, info.channels)
            for rate in dict.fromkeys(feed.sample_rate for feed in feeds)
        }
        self.frames = 0
        self.peak = 0.0

    def __iter__(self) -> Iterator[tuple[int, FloatArray]]:
        with closing(_Closable(self._source.blocks(self._block_frames))) as blocks:
            for block in blocks:
                self.frames += block.shape[1]
                self.peak = max(self.peak, float(block.max()), -float(block.min()))
                for rate, resampler in self._resamplers.items():
                    yield from self._at_rate(rate, resampler.push(block))
                self._observe(self.frames)
        for rate, resampler in self._resamplers.items():
            yield from self._at_rate(rate, resampler.flush())

    def _at_rate(self, rate: int, block: FloatArray) -> Iterator[tuple[int, FloatArray]]:
        if block.shape[1] == 0:
            return
        for index, feed in enumerate(self._feeds):
            if feed.sample_rate == rate:
                yield index, feed.group.to_model(block)


@dataclass(kw_only=True)
class Lockstep:
    """Hands out a recording in pieces of the caller's sizes.

    Parameters
    ----------
    source
        The recording, read from its beginning.
    block_frames
        Size of the blocks it is read in.
    """

    source: AudioSource
    block_frames: int
    _blocks: "_Closable | None" = field(default=None, init=False)
    _rest: FloatArray | None = field(default=None, init=False)

    def take(self, count: int) -> FloatArray:
        """Return the next `count` samples, shape=(channels, count).

        Raises
        ------
        InputError
            The recording has become shorter than it was in the first pass.
        """
        if self._blocks is None:
            self._blocks = _Closable(self.source.blocks(self.block_frames))
        piece = np.empty((self.source.info.channels, count), np.float32)
        position = 0
        while position < count:
            block = self._rest if self._rest is not None else next(self._blocks, None)
            if block is None:
                raise changed_while_read()
            used = min(block.shape[1], count - position)
            piece[:, position : position + used] = block[:, :used]
            self._rest = block[:, used:] if used < block.shape[1] else None
            position += used
        return piece

    def close(self) -> None:
        """Stop reading."""
        if self._blocks is not None:
            self._blocks.close()


class SlidingBuffer:
    """The part of a feed that windows still need, shape=(channels, n).

    Parameters
    ----------
    channels
        Channels of the feed.
    frames
        Length of the whole feed; everything outside 0..frames is zero.
    """

    def __init__(self, channels: int, frames: int) -> None:
        self._frames = frames
        self._store = np.zeros((channels, 0), np.float32)
        self._start = 0
        self._held = 0

    @property
    def end(self) -> int:
        """How far the feed has been read."""
        return self._start + self._held

    def append(self, block: FloatArray) -> None:
        """Take the next block, shape=(channels, n)."""
        needed = self._held + block.shape[1]
        if needed > self._store.shape[1]:
            grown = np.empty((self._store.shape[0], max(needed, self._store.shape[1] * 3 // 2)), np.float32)
            grown[:, : self._held] = self._store[:, : self._held]
            self._store = grown
        self._store[:, self._held : needed] = block
        self._held = needed

    def has(self, stop: int) -> bool:
        """Whether everything before `stop` that lies inside the feed has been read."""
        return self.end >= min(stop, self._frames)

    def span(self, start: int, stop: int) -> tuple[FloatArray, int]:
        """Part of start..stop inside the feed, and how many zeros come before it.

        Returns
        -------
        tuple
            A view, shape=(channels, n), valid until the next call of append or discard; and the
            offset of its first sample from `start`.
        """
        low, high = max(start, 0), min(stop, self._frames)
        if low >= high:
            return self._store[:, :0], 0
        if low < self._start or high > self.end:
            raise ValueError(f"samples {low} to {high} are not held")
        return self._store[:, low - self._start : high - self._start], low - start

    def discard(self, before: int) -> None:
        """Forget what lies before a sample."""
        count = min(before - self._start, self._held)
        if count <= 0:
            return
        kept = self._held - count
        self._store[:, :kept] = self._store[:, count : self._held]
        self._start += count
        self._held = kept


def changed_while_read() -> InputError:
    """Return the error for a recording that differs between two passes."""
    return InputError("the recording changed while it was being read", "separate it again")


class _Closable:
    """Any iterator with a `close`, so that a decoder is released at once when reading ends early."""

    def __init__(self, blocks: Iterator[FloatArray]) -> None:
        self._blocks = blocks

    def __iter__(self) -> Iterator[FloatArray]:
        return self

    def __next__(self) -> FloatArray:
        return next(self._blocks)

    def close(self) -> None:
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()
