"""Keeping equals in one order: which output of a call is which speaker of the calls before."""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from stemwright.core.arrays import FloatArray
from stemwright.models.separation.plan import Chunk, TrackPlan

SILENCE_DB = -60.0
"""Outputs whose power over the overlap is below the recording's by this much say nothing about the
order, which then stays. Chosen here."""
_TRY_ALL = 4
"""Up to so many stems all orders are tried (24 of them); beyond, the assignment problem is solved."""


class StemOrder:
    """Brings the stems of each chunk of a lane into the order of the chunk before.

    Of all orders, the one is taken in which the sum over the stems of their covariances with the chunk
    before, over the samples that both give, is the largest. Their power is the same in every order, so
    that this is also the order with the least squared difference.

    Parameters
    ----------
    plan
        The lane's plan; consecutive chunks of it overlap.
    stems
        Number of stems.
    level
        Level (standard deviation) of the recording.
    """

    def __init__(self, plan: TrackPlan, stems: int, level: float) -> None:
        self._stride = plan.stride
        self._order = tuple(range(stems))
        self._floor = level * level * 10 ** (SILENCE_DB / 10)
        self._tail: FloatArray | None = None

    def apply(self, chunk: Chunk, piece: FloatArray | None) -> FloatArray | None:
        """Order the next chunk, shape=(stems, channels, chunk.length); None for silence."""
        if piece is None:
            self._tail = None
            return None
        if self._tail is not None:
            count = min(self._tail.shape[-1], chunk.length)
            self._decide(self._tail[..., :count], piece[..., :count])
        ordered = piece[list(self._order)]
        self._tail = ordered[..., self._stride :].copy()
        return ordered

    def _decide(self, before: FloatArray, found: FloatArray) -> None:
        if not before.shape[-1]:
            return
        first, second = _centred(before), _centred(found)
        powers = [float(np.square(one).sum(axis=0).mean()) for one in (first, second)]
        if min(powers) > self._floor:
            self._order = best_order(first @ second.T)


def best_order(gains: NDArray[np.float64]) -> tuple[int, ...]:
    """Order of the columns with the largest trace, the first such in lexical order.

    Parameters
    ----------
    gains
        What column j in row i's place is worth, shape=(n, n).
    """
    count = len(gains)
    if count <= _TRY_ALL:
        rows = range(count)
        return max(permutations(rows), key=lambda order: sum(gains[row, order[row]] for row in rows))
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(gains, maximize=True)
    return tuple(int(column) for column in columns)


def _centred(stems: FloatArray) -> NDArray[np.float64]:
    """Stems without the mean of each channel, channels one after another, shape=(stems, n)."""
    values = stems.astype(np.float64)
    values -= values.mean(axis=-1, keepdims=True)
    return values.reshape(len(values), -1)
