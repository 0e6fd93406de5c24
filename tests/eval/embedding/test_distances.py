"""Distances of embeddings, against their definitions in other arithmetic.

benchmarks/fad_agreement.py holds them to fadtk itself.
"""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stemwright.core.errors import InputError
from stemwright.eval.embedding.distances import (
    FrameStatistics,
    Gaussian,
    frechet_distance,
    mean_squared_error,
    song_to_song,
)

Doubles = NDArray[np.float64]


def by_eigenvalues(m1: Doubles, c1: Doubles, m2: Doubles, c2: Doubles) -> float:
    """The form of the study: the root of C1 C2 by its eigen-decomposition with complex roots."""
    values, vectors = np.linalg.eig(c1 @ c2)
    root = (vectors * np.sqrt(values.astype(complex))) @ np.linalg.inv(vectors)
    offset = m1 - m2
    return float(offset.dot(offset)) + float(np.trace(c1) + np.trace(c2) - 2 * np.trace(root).real)


def by_sqrtm(m1: Doubles, c1: Doubles, m2: Doubles, c2: Doubles) -> float:
    root = scipy.linalg.sqrtm(c1 @ c2).real
    offset = m1 - m2
    return float(offset @ offset + np.trace(c1) + np.trace(c2) - 2 * np.trace(root))


def noise(seed: int, frames: int, size: int, scale: float = 1.0, mean: float = 0.0) -> Doubles:
    draws = np.random.default_rng(seed)
    mixing = draws.normal(0, 1, (size, size))
    return np.asarray(draws.normal(0, scale, (frames, size)) @ mixing + mean)


def gaussian(frames: NDArray[np.floating]) -> Gaussian:
    return Gaussian(
        mean=frames.mean(axis=0, dtype=np.float64),
        covariance=np.atleast_2d(np.cov(frames.astype(np.float64), rowvar=False)),
        frames=len(frames),
    )


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=st.integers(2, 40), m=st.integers(2, 40), size=st.integers(2, 24))
def test_song_to_song_is_the_studys_form(seed: int, n: int, m: int, size: int) -> None:
    one = noise(seed, n, size, 0.3).astype(np.float16)
    other = noise(seed + 1, m, size, 0.2, 0.5).astype(np.float16)
    wanted = by_eigenvalues(
        one.mean(axis=0), np.cov(one, rowvar=False), other.mean(axis=0), np.cov(other, rowvar=False)
    )
    level = np.var(one.astype(float)) * size + np.var(other.astype(float)) * size + 1
    # An eigen-decomposition of a product without full rank is good to the root of float64's precision.
    assert song_to_song(one, other) == pytest.approx(wanted, abs=1e-5 * level)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, size=st.integers(1, 24))
def test_sets_of_full_rank_by_the_matrix_root(seed: int, size: int) -> None:
    one, other = noise(seed, 6 * size + 6, size), noise(seed + 1, 8 * size + 6, size, 0.5, 1.0)
    first, second = gaussian(one), gaussian(other)
    first, second = (
        Gaussian(mean=g.mean, covariance=np.atleast_2d(g.covariance), frames=g.frames)
        for g in (first, second)
    )
    wanted = by_sqrtm(first.mean, first.covariance, second.mean, second.covariance)
    assert frechet_distance(first, second) == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(2, 50), size=st.integers(1, 20))
def test_laws_of_distances(seed: int, n: int, size: int) -> None:
    one, other = noise(seed, n, size).astype(np.float32), noise(seed + 1, n, size).astype(np.float32)
    level = float(np.square(one).sum() + np.square(other).sum()) / n + 1
    assert mean_squared_error(one, one) == 0
    assert mean_squared_error(one, other) == mean_squared_error(other, one)
    assert song_to_song(one, one) == pytest.approx(0, abs=1e-6 * level)
    assert song_to_song(one, other) == pytest.approx(song_to_song(other, one), abs=1e-6 * level)
    assert song_to_song(one, other) >= -1e-6 * level
    moved = song_to_song(one, one + np.float32(2))
    assert moved == pytest.approx(4 * size, rel=1e-3, abs=1e-3 * level)


def test_one_dimension_has_a_closed_form() -> None:
    one, other = (np.random.default_rng(s).normal(s, s + 1, (400, 1)) for s in (0, 3))
    first, second = (
        Gaussian(mean=x.mean(0), covariance=np.cov(x, rowvar=False).reshape(1, 1), frames=400)
        for x in (one, other)
    )
    wanted = (one.mean() - other.mean()) ** 2 + (one.std(ddof=1) - other.std(ddof=1)) ** 2
    assert frechet_distance(first, second) == pytest.approx(wanted)


def test_the_squared_error_is_float16_throughout() -> None:
    """Step by step in the decimal values that float16 has."""
    one = np.asarray([[1.0, 0.1, 100.0], [2.0, 0.001, 0.5]], np.float16)
    other = np.asarray([[1.001, 0.2, 99.0], [2.0, 0.0015, 0.25]], np.float16)
    squares = [
        float(np.float16(float(np.float16(float(a) - float(b))) ** 2))
        for a, b in zip(one.ravel(), other.ravel(), strict=True)
    ]
    assert mean_squared_error(one, other) == float(np.float16(np.float32(sum(squares)) / np.float32(6)))


def test_small_differences_underflow_as_published() -> None:
    one = np.full((5, 4), 0.05, np.float16)
    other = np.nextafter(one, np.float16(1))
    assert mean_squared_error(one, other) == 0  # (3e-5)^2 is below float16's least
    assert mean_squared_error(one.astype(np.float32), other.astype(np.float32)) > 0


def test_overflow_is_infinite_and_raises_nothing() -> None:
    one, other = np.full((3, 2), 300.0, np.float16), np.full((3, 2), -300.0, np.float16)
    assert mean_squared_error(one, other) == np.inf
    assert np.isnan(song_to_song(np.full((3, 2), np.inf, np.float16), one))


def test_frames_have_to_agree() -> None:
    with pytest.raises(InputError, match="5 frames of 3 values, the estimate 4 of 3"):
        mean_squared_error(np.zeros((5, 3), np.float16), np.zeros((4, 3), np.float16))
    with pytest.raises(InputError, match="different sizes"):
        song_to_song(np.zeros((5, 3), np.float16), np.zeros((5, 2), np.float16))


@pytest.mark.parametrize("frames", [0, 1])
def test_a_covariance_needs_two_frames(frames: int) -> None:
    few = np.zeros((frames, 3), np.float16)
    calls: list[Callable[[], object]] = [lambda: FrameStatistics.empty(3).gaussian()]
    if frames:
        calls.append(lambda: song_to_song(few, np.zeros((4, 3), np.float16)))
    for call in calls:
        with pytest.raises(InputError, match="needs two frames"):
            call()


def test_gaussians_of_different_sizes_are_refused() -> None:
    one, other = gaussian(noise(0, 9, 3)), gaussian(noise(0, 9, 4))
    with pytest.raises(InputError, match="3 and 4 dimensions"):
        frechet_distance(one, other)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_statistics_grow_file_by_file(seed: int, sizes: list[int]) -> None:
    frames = noise(seed, sum(sizes) + 2, 5, 1.0, 3.0).astype(np.float32)
    statistics, start = FrameStatistics.empty(5), 0
    for count in (*sizes, 2):
        statistics.add(frames[start : start + count])
        start += count
    made, wanted = statistics.gaussian(), gaussian(frames)
    assert made.frames == len(frames)
    np.testing.assert_allclose(made.mean, wanted.mean, rtol=1e-9)
    np.testing.assert_allclose(made.covariance, wanted.covariance, rtol=1e-7, atol=1e-7)
