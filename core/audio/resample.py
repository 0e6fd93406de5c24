"""Streaming resampler with exact lengths, over soxr.

soxr's linear-phase filters have no delay of their own here: output sample k lies at the time
k / out_rate of the input, as in `soxr.resample`, whose result a whole stream equals.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from stemwright.core.arrays import FloatArray

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 768_000


def resampled_length(frames: int, in_rate: int, out_rate: int) -> int:
    """Frames that `frames` at `in_rate` become at `out_rate`: frames * out / in, halves rounded up."""
    return (2 * frames * out_rate + in_rate) // (2 * in_rate)


class Resampler:
    """Resamples a stream of blocks, of any sizes, to another rate.

    All output together has exactly `resampled_length(n, in_rate, out_rate)` frames for n frames
    pushed, and does not depend on how the input was cut into blocks. Equal rates pass through
    unchanged.

    Parameters
    ----------
    in_rate, out_rate
        Sample rates in Hz.
    channels
        Channels of every block.

    Raises
    ------
    ValueError
        A rate or a channel count below 1, or a block of another channel count.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        if min(in_rate, out_rate, channels) < 1:
            raise ValueError(f"rates and channels must be positive: {in_rate}, {out_rate}, {channels}")
        self.in_rate = in_rate
        self.out_rate = out_rate
        self.channels = channels
        self._taken = 0
        self._given = 0
        self._flushed = False
        self._stream = (
            None
            if in_rate == out_rate
            else soxr.ResampleStream(in_rate, out_rate, channels, dtype="float32", quality="HQ")
        )

    def push(self, block: FloatArray) -> FloatArray:
        """Take a block, shape=(channels, n), and return what is ready, shape=(channels, m), m >= 0."""
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"block has shape {block.shape}, expected ({self.channels}, n)")
        if self._flushed:
            raise ValueError("the stream was flushed")
        self._taken += block.shape[1]
        ready = block if self._stream is None or block.shape[1] == 0 else self._run(block)
        self._given += ready.shape[1]
        return ready

    def flush(self) -> FloatArray:
        """End the stream and return its remaining frames, shape=(channels, m), m >= 0."""
        if self._flushed:
            return self._nothing()
        self._flushed = True
        wanted = resampled_length(self._taken, self.in_rate, self.out_rate) - self._given
        if self._stream is None or self._taken == 0:
            return self._nothing()
        # soxr rounds the length of the whole stream its own way: silence behind the end, which it
        # assumes there anyway, gives the frame that may be missing, and the rest is cut off.
        silence = np.zeros((self.channels, self.in_rate // self.out_rate + 2), np.float32)
        rest = self._run(silence, last=True)[:, :wanted]
        self._given += rest.shape[1]
        return rest

    def _run(self, block: FloatArray, *, last: bool = False) -> FloatArray:
        assert self._stream is not None
        out = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last)
        return np.ascontiguousarray(out.reshape(-1, self.channels).T, dtype=np.float32)

    def _nothing(self) -> FloatArray:
        return np.zeros((self.channels, 0), np.float32)


def resampled(blocks: Iterable[FloatArray], in_rate: int, out_rate: int) -> Iterator[FloatArray]:
    """Blocks, each shape=(channels, n), resampled; empty blocks are left out.

    Raises
    ------
    ValueError
        As for Resampler.
    """
    resampler: Resampler | None = None
    for block in blocks:
        if resampler is None:
            resampler = Resampler(in_rate, out_rate, block.shape[0])
        ready = resampler.push(block)
        if ready.shape[1]:
            yield ready
    if resampler is not None:
        rest = resampler.flush()
        if rest.shape[1]:
            yield rest
