"""Streaming overlap-add, and sums of streams that advance at different speeds.

Both give out samples as soon as nothing later can change them, and hold no more than that needs.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.models.separation.plan import Chunk, TrackPlan


class OverlapAdd:
    """Cross-fades the chunks of one plan into a stream.

    Sample t becomes sum_i w_i[t] x_i[t] / sum_i w_i[t] over the chunks i that cover it, summed in
    the order of the chunks, so that the result does not depend on how they were batched.

    Parameters
    ----------
    plan
        The plan; its window gives the weights.
    stems, channels
        Leading axes of every chunk.
    """

    def __init__(self, plan: TrackPlan, stems: int, channels: int) -> None:
        self._plan = plan
        size = plan.chunk_samples
        self._sums = np.zeros((stems, channels, size), np.float32)
        self._weights = np.zeros(size, np.float32)
        self._next = 0

    def add(self, chunk: Chunk, piece: FloatArray | None) -> FloatArray:
        """Add a chunk and return the samples that are final now.

        Parameters
        ----------
        chunk
            The next chunk of the plan.
        piece
            Its samples, shape=(stems, channels, chunk.length), overwritten; None for zeros.

        Returns
        -------
        array
            shape=(stems, channels, n), following on what was returned before; samples before the
            start of the track are left out.
        """
        if chunk.index != self._next:
            raise ValueError(f"chunk {chunk.index} came when {self._next} was due")
        self._next += 1
        weight = self._plan.window[: chunk.length]
        if piece is not None:
            np.multiply(piece, weight, out=piece)
            self._sums[..., : chunk.length] += piece
        self._weights[: chunk.length] += weight
        last = self._next == self._plan.count
        count = chunk.length if last else self._plan.stride
        done = self._sums[..., :count] / self._weights[:count]
        if not last:
            self._advance(count)
        return done[..., max(0, -chunk.start) :] if chunk.start < 0 else done

    def _advance(self, count: int) -> None:
        for array in (self._sums, self._weights):
            kept = array.shape[-1] - count
            array[..., :kept] = array[..., count:]
            array[..., kept:] = 0


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where the blocks of one stream go in a sum.

    Parameters
    ----------
    stems
        Row of the sum for each of the stream's stems.
    channels
        Channel of the sum for each of the stream's channels.
    gains
        Factor for each of the stream's stems.
    """

    stems: tuple[int, ...]
    channels: tuple[int, ...]
    gains: tuple[float, ...]

    def covers(self, stems: int, channels: int) -> bool:
        """Whether the stream is all of a sum of that shape, as it is."""
        return (
            self.stems == tuple(range(stems))
            and self.channels == tuple(range(channels))
            and self.gains == (1.0,) * stems
        )


class AlignedSum:
    """Adds several streams sample by sample; each may run ahead of the others.

    The streams are added in their own order at every sample, whatever order their blocks came in.

    Parameters
    ----------
    parts
        One for each stream.
    stems, channels
        Leading axes of the sum.
    """

    def __init__(self, parts: Sequence[Part], stems: int, channels: int) -> None:
        self._parts = tuple(parts)
        self._shape = (stems, channels)
        self._waiting: list[deque[FloatArray]] = [deque() for _ in parts]
        self._counts = [0] * len(self._parts)

    def push(self, stream: int, block: FloatArray) -> None:
        """Append a block, shape=(stems, channels, n) of that stream."""
        if block.shape[-1]:
            self._waiting[stream].append(block)
            self._counts[stream] += block.shape[-1]

    def pop(self) -> FloatArray | None:
        """Sum of what all streams have, shape=(stems, channels, n > 0), or None if one has nothing."""
        count = min(self._counts)
        if count == 0:
            return None
        if len(self._parts) == 1 and self._parts[0].covers(*self._shape) and len(self._waiting[0]) == 1:
            return self._take(0, count)[0]
        total = np.zeros((*self._shape, count), np.float32)
        for stream, part in enumerate(self._parts):
            where = np.ix_(part.stems, part.channels)
            gains = np.asarray(part.gains, np.float32)[:, None, None]
            position = 0
            for block in self._take(stream, count):
                span = slice(position, position + block.shape[-1])
                total[..., span][where] += gains * block
                position = span.stop
        return total

    def _take(self, stream: int, count: int) -> list[FloatArray]:
        waiting, taken = self._waiting[stream], []
        self._counts[stream] -= count
        while count:
            block = waiting.popleft()
            if block.shape[-1] > count:
                waiting.appendleft(block[..., count:])
                block = block[..., :count]
            taken.append(block)
            count -= block.shape[-1]
        return taken
