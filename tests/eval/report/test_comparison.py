"""Two runs beside each other, against statistics by their definitions."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stemwright.core.errors import InputError
from stemwright.eval.report.comparison import Comparison, compare_runs, friedman, holm, rank_biserial
from tests.eval.report.runs import make_run

RNG = np.random.default_rng(5)


def exact_p(differences: np.ndarray) -> float:
    """Two-sided p of the signed-rank statistic over all 2^n signs."""
    ranks = scipy.stats.rankdata(np.abs(differences))
    seen = (ranks * np.sign(differences)).sum()
    sums = [(ranks * np.array(signs)).sum() for signs in itertools.product((-1, 1), repeat=len(ranks))]
    return float(np.mean(np.abs(sums) >= abs(seen) - 1e-9))


def test_test_and_effect_are_those_of_all_signs() -> None:
    left, right = RNG.normal(5, 1, (9, 1)), RNG.normal(4.6, 1, (9, 1))
    (found,) = compare_runs(make_run("a", {"vocals": left}), make_run("b", {"vocals": right}))
    differences = (left - right)[:, 0]
    assert found.p == pytest.approx(exact_p(differences), abs=1e-12)
    assert found.difference == np.median(differences)
    pairs = [differences[i] + differences[j] for i in range(9) for j in range(i, 9)]
    # Walsh averages give the same correlation as ranks do.
    assert found.effect == pytest.approx(np.mean(np.sign(pairs)), abs=1e-12)
    assert found.low <= found.difference <= found.high
    assert found.tracks == 9


def test_intervals_cover_as_often_as_they_say() -> None:
    covered = 0
    for _ in range(200):
        sample = RNG.normal(1, 1, (30, 1))
        (found,) = compare_runs(
            make_run("a", {"s": sample}), make_run("b", {"s": np.zeros_like(sample)}), resamples=500
        )
        covered += found.low <= 1 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_few_tracks_have_no_interval() -> None:
    left, right = RNG.normal(size=(7, 1)), RNG.normal(size=(7, 1))
    (found,) = compare_runs(make_run("a", {"s": left}), make_run("b", {"s": right}))
    assert np.isnan([found.low, found.high]).all()
    assert np.isfinite(found.p)


def test_equal_runs_do_not_differ() -> None:
    run = make_run("a", {"s": RNG.normal(size=(8, 3))})
    (found,) = compare_runs(run, run)
    assert found.difference == 0
    assert np.isnan(found.p) and np.isnan(found.effect)


def test_tracks_without_a_number_in_one_run_count_in_none() -> None:
    left, right = RNG.normal(size=(9, 1)), RNG.normal(size=(9, 1))
    left[3] = np.nan
    (found,) = compare_runs(make_run("a", {"s": left}), make_run("b", {"s": right}))
    assert found.tracks == 8


def test_runs_that_share_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="no stem and metric in common"):
        compare_runs(make_run("a", {"s": np.ones((8, 1))}), make_run("b", {"t": np.ones((8, 1))}))


def test_friedman_is_its_formula() -> None:
    tables = [RNG.normal(mean, 1, (12, 1)) for mean in (0, 0.5, 1)]
    (found,) = friedman([make_run(str(index), {"s": table}) for index, table in enumerate(tables)])
    ranks = scipy.stats.rankdata(np.hstack(tables), axis=1).sum(axis=0)
    n, k = 12, 3
    statistic = 12 / (n * k * (k + 1)) * (ranks**2).sum() - 3 * n * (k + 1)
    assert found.statistic == pytest.approx(statistic)
    assert found.p == pytest.approx(scipy.stats.chi2.sf(statistic, k - 1))


def comparison(p: float) -> Comparison:
    return Comparison(stem="s", column="SDR", tracks=9, difference=0, low=0, high=0, effect=0, p=p)


def test_holm_on_a_known_family() -> None:
    # Holm 1979: sorted p times the number of tests that are left, never falling.
    corrected = holm([comparison(p) for p in (0.01, 0.04, 0.03, 0.005, np.nan)])
    assert [c.p_holm for c in corrected[:4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(corrected[4].p_holm)


@given(
    arrays(
        np.float64, st.integers(1, 20), elements=st.floats(-5, 5).filter(lambda x: x == 0 or abs(x) > 1e-3)
    )
)
def test_effects_lie_between_minus_one_and_one(differences: np.ndarray) -> None:
    effect = rank_biserial(differences)
    if not differences.any():
        assert np.isnan(effect)
        return
    assert -1 - 1e-12 <= effect <= 1 + 1e-12
    assert rank_biserial(-differences) == pytest.approx(-effect)
