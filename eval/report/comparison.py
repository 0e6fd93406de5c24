"""Whether two runs over the same tracks differ, and by how much.

Tracks are what is paired and resampled: the frames of one track depend on each other.

References
----------
F. Wilcoxon, "Individual Comparisons by Ranking Methods", Biometrics Bulletin 1945.
D. Kerby, "The simple difference formula", Comprehensive Psychology 2014 (rank-biserial correlation).
S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
M. Friedman, "The use of ranks to avoid the assumption of normality", JASA 1937.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.stats

from stemwright.core.errors import InputError
from stemwright.eval.report.summary import Aggregate, track_values
from stemwright.eval.rows import Run

Doubles = npt.NDArray[np.float64]
LEAST_TRACKS = 8
"""Fewer tracks give no interval worth printing."""
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A stem's column in two runs.

    Parameters
    ----------
    stem, column
        What is compared.
    tracks
        Number of tracks that have a number in both runs.
    difference
        Median over the tracks of the first run's number minus the second's.
    low, high
        95 % interval of that from resampled tracks (percentiles); NaN below `LEAST_TRACKS` tracks.
    effect
        Rank-biserial correlation, -1 to 1: 1 if the first run's number is larger on every track.
    p
        Two-sided, of Wilcoxon's signed-rank test; NaN if no track differs or there are none.
    p_holm
        Corrected by Holm's method for the stems of the column.
    """

    stem: str
    column: str
    tracks: int
    difference: float
    low: float
    high: float
    effect: float
    p: float
    p_holm: float = np.nan


@dataclass(frozen=True, kw_only=True)
class Friedman:
    """Friedman's test of several runs in a stem's column: `p` that all are alike."""

    stem: str
    column: str
    tracks: int
    statistic: float
    p: float


def compare_runs(
    first: Run, second: Run, *, aggregate: Aggregate = "median", resamples: int = 2000, seed: int = 0
) -> list[Comparison]:
    """Compare every stem and column that both runs have.

    Parameters
    ----------
    first, second
        Runs over the same data; tracks are paired by name.
    aggregate
        How the frames of a track become its number.
    resamples, seed
        Draws of the bootstrap.

    Raises
    ------
    InputError
        The runs share no track, or no stem and column.
    """
    shared = _shared([first, second])
    rng = np.random.default_rng(seed)
    found = []
    for stem, column in _places([first, second]):
        left, right = (_paired(run, shared, stem, column, aggregate) for run in (first, second))
        both = np.isfinite(left) & np.isfinite(right)
        found.append(_comparison(stem, column, left[both] - right[both], resamples, rng))
    return [
        corrected
        for column in dict.fromkeys(c.column for c in found)
        for corrected in holm([comparison for comparison in found if comparison.column == column])
    ]


def friedman(runs: Sequence[Run], *, aggregate: Aggregate = "median") -> list[Friedman]:
    """Test three or more runs over the same tracks at once, for every stem and column that all have.

    Raises
    ------
    InputError
        Fewer than three runs, or they share no track, or no stem and column.
    """
    if len(runs) < 3:
        raise InputError("Friedman's test is for three runs or more", "compare two by their differences")
    shared = _shared(runs)
    found = []
    for stem, column in _places(runs):
        table = np.stack([_paired(run, shared, stem, column, aggregate) for run in runs])
        table = table[:, np.isfinite(table).all(axis=0)]
        statistic, p = np.nan, np.nan
        if table.shape[1] > 1 and np.ptp(table, axis=0).any():
            statistic, p = scipy.stats.friedmanchisquare(*table)
        found.append(
            Friedman(stem=stem, column=column, tracks=table.shape[1], statistic=float(statistic), p=float(p))
        )
    return found


def holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p values of a family of tests; NaN stays and does not count."""
    order = sorted((c.p, index) for index, c in enumerate(comparisons) if np.isfinite(c.p))
    corrected = list(comparisons)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[index] = replace(comparisons[index], p_holm=largest)
    return corrected


def _comparison(
    stem: str, column: str, differences: Doubles, resamples: int, rng: np.random.Generator
) -> Comparison:
    low, high = np.nan, np.nan
    if len(differences) >= LEAST_TRACKS:
        low, high = _interval(differences, resamples, rng)
    return Comparison(
        stem=stem,
        column=column,
        tracks=len(differences),
        difference=float(np.median(differences)) if len(differences) else np.nan,
        low=low,
        high=high,
        effect=rank_biserial(differences),
        p=float(scipy.stats.wilcoxon(differences).pvalue) if differences.any() else np.nan,
    )


def rank_biserial(differences: Doubles) -> float:
    """Rank sum of the positive differences minus that of the negative, over all; NaN if none differs."""
    moved = differences[differences != 0]
    if not moved.size:
        return float("nan")
    ranks = scipy.stats.rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def _interval(differences: Doubles, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    medians = []
    for start in range(0, resamples, _BLOCK):  # in blocks, so that many tracks need little memory
        draws = rng.integers(0, len(differences), (min(_BLOCK, resamples - start), len(differences)))
        medians.append(np.median(differences[draws], axis=1))
    low, high = np.percentile(np.concatenate(medians), [2.5, 97.5])
    return float(low), float(high)


def _shared(runs: Sequence[Run]) -> list[str]:
    """Names of the tracks that all runs have, in the first one's order."""
    others = [{row.track for row in run.tracks} for run in runs[1:]]
    shared = [row.track for row in runs[0].tracks if all(row.track in names for names in others)]
    if not shared:
        raise InputError(
            f"{' and '.join(str(run.path) for run in runs)} have no track in common",
            "compare runs over the same data",
        )
    return shared


def _places(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Stems and columns that all runs have, in the first one's order."""
    places = [
        (stem, column)
        for stem in runs[0].stems
        for column in runs[0].columns
        if all(stem in run.stems and column in run.columns for run in runs[1:])
    ]
    if not places:
        raise InputError(
            f"{' and '.join(str(run.path) for run in runs)} have no stem and metric in common",
            "compare runs of the same stems and metrics",
        )
    return places


def _paired(run: Run, tracks: Sequence[str], stem: str, column: str, aggregate: Aggregate) -> Doubles:
    values = track_values(run, stem, column, aggregate)
    return np.array([values[name] for name in tracks], np.float64)
