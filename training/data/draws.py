"""Random numbers that depend on nothing but a seed, a step and a place: any worker draws the same ones."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt


def generator(seed: int, *keys: int | str) -> np.random.Generator:
    """Return the generator of a place, such as `generator(seed, "speech", step, index)`.

    Parameters
    ----------
    seed
        The run's seed, not negative.
    keys
        What tells this place from all others: names of purposes, steps, indices (not negative).
    """
    words = [_word(key) for key in (seed, *keys)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def shuffled(seed: int, count: int, *keys: int | str) -> npt.NDArray[np.int64]:
    """Return the order of `count` things at a place, shape=(count,)."""
    return _shuffled(seed, count, keys)


def nth_of_rounds(number: int, count: int, seed: int, *keys: int | str) -> int:
    """Return the thing that comes `number`-th when `count` things are dealt in rounds, shuffled each round.

    Each round deals everything once, so that after any number of draws no thing leads another by more than 1.
    """
    return int(shuffled(seed, count, *keys, number // count)[number % count])


def weighted(draw: float, bounds: npt.NDArray[np.float64]) -> int:
    """Return where a draw in 0..1 falls among cumulative weights, shape=(n,), whose last is their sum."""
    return min(int(np.searchsorted(bounds, draw * bounds[-1], side="right")), len(bounds) - 1)


def share(seed: int, name: str) -> float:
    """Return a number in 0..1 that depends on a name alone: for parts that stay when things are added."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / float(1 << 56)


@lru_cache(maxsize=256)
def _shuffled(seed: int, count: int, keys: Sequence[int | str]) -> npt.NDArray[np.int64]:
    order = generator(seed, *keys).permutation(count)
    order.flags.writeable = False
    return order


def _word(key: int | str) -> int:
    """Return a number for a key; `hash` would differ from one process to the next."""
    if isinstance(key, str):
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    if key < 0:
        raise ValueError(f"seeds, steps and indices must not be negative: {key}")
    return key
