"""How well metrics agree with listeners: correlations per kind of model and per model, with intervals.

Stimuli of one excerpt are not independent, so intervals come from resampling excerpts, not stimuli
(cluster bootstrap, percentiles). Two metrics are compared on the same resamples.

References
----------
P. Bereuter et al., "Towards Reliable Objective Evaluation Metrics for Generative Singing Voice
Separation Models", WASPAA 2025.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.stats

from stemwright.core.errors import InputError, OptionError

Doubles = npt.NDArray[np.float64]
FEWEST_EXCERPTS = 8
"""Below this, no interval is given: chosen here, as percentiles of so few clusters mean little."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of a table's columns; the defaults are those of the published study's data.

    `metrics` None means all columns after the rating's.
    """

    excerpt: str = "file_id"
    model: str = "model_name"
    kind: str = "model_type"
    rating: str = "DMOS"
    metrics: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """A listening test: one row for each stimulus.

    Parameters
    ----------
    excerpts, models, kinds
        What each stimulus is made of, by which model, of which kind (discriminative, generative).
    rating
        Mean opinion, shape=(stimuli,).
    metrics
        Values of each metric, shape=(stimuli,).
    """

    excerpts: tuple[str, ...]
    models: tuple[str, ...]
    kinds: tuple[str, ...]
    rating: Doubles
    metrics: Mapping[str, Doubles]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its 95 % interval; NaN bounds where there are too few excerpts for one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Correlations of a metric with the ratings among some stimuli."""

    metric: str
    group: str
    stimuli: int
    spearman: Interval
    pearson: Interval


def read_ratings(path: Path, columns: Columns | None = None) -> Ratings:
    """Read a CSV file.

    Raises
    ------
    InputError
        Not readable, without rows, or with a cell that is missing or not a number.
    OptionError
        A column that the file does not have.
    """
    columns = columns or Columns()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} as CSV: {error}", "give a CSV file with a header") from error
    for name in (columns.excerpt, columns.model, columns.kind, columns.rating, *(columns.metrics or ())):
        if name not in names:
            raise OptionError(f"{path} has no column {name}", f"it has {', '.join(names)}")
    if not rows:
        raise InputError(f"{path} has no rows", "give one row for each stimulus")
    metrics = columns.metrics or tuple(names[names.index(columns.rating) + 1 :])
    if not metrics:
        raise OptionError(f"no column of {path} holds a metric", "name them, or put them after the rating")
    return Ratings(
        excerpts=tuple(row[columns.excerpt] for row in rows),
        models=tuple(row[columns.model] for row in rows),
        kinds=tuple(row[columns.kind] for row in rows),
        rating=_numbers(path, rows, columns.rating),
        metrics={name: _numbers(path, rows, name) for name in metrics},
    )


def _numbers(path: Path, rows: Sequence[Mapping[str, str]], column: str) -> Doubles:
    values = np.empty(len(rows))
    for index, row in enumerate(rows):
        try:
            values[index] = float(row[column])
        except (TypeError, ValueError):
            values[index] = math.nan
        if not math.isfinite(values[index]):
            raise InputError(
                f"{path}, line {index + 2}: {column} is {row[column]!r}, not a number",
                "complete the table, or leave that metric out",
            )
    return values


def agreements(ratings: Ratings, *, resamples: int = 2000, seed: int = 0) -> list[Agreement]:
    """Correlate every metric with the ratings, for each kind of model and for each model.

    Returns
    -------
    list
        By group in the order of appearance, kinds first; within a group by the strength of Spearman's
        correlation.
    """
    groups = {kind: np.array([k == kind for k in ratings.kinds]) for kind in dict.fromkeys(ratings.kinds)}
    groups |= {name: np.array([m == name for m in ratings.models]) for name in dict.fromkeys(ratings.models)}
    found: list[Agreement] = []
    for group, members in groups.items():
        draws = _resamples(ratings, members, resamples, seed)
        values = np.stack(list(ratings.metrics.values()))[:, members]
        rating = ratings.rating[members]
        spearman = _intervals(_spearman(values, rating), [_spearman(values[:, d], rating[d]) for d in draws])
        pearson = _intervals(_pearson(values, rating), [_pearson(values[:, d], rating[d]) for d in draws])
        ranked = [
            Agreement(metric=name, group=group, stimuli=len(rating), spearman=rank, pearson=linear)
            for name, rank, linear in zip(ratings.metrics, spearman, pearson, strict=True)
        ]
        found += sorted(ranked, key=lambda agreement: -abs(agreement.spearman.value))
    return found


def compare(
    ratings: Ratings, kind: str, first: str, second: str, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Compare two metrics: the difference of their Spearman correlations' strengths, first minus second.

    An interval that holds 0 does not separate them.
    """
    members = np.array([k == kind for k in ratings.kinds])
    rating = ratings.rating[members]
    values = np.stack([ratings.metrics[first], ratings.metrics[second]])[:, members]
    draws = _resamples(ratings, members, resamples, seed)

    def difference(values: Doubles, rating: Doubles) -> Doubles:
        strengths = np.abs(_spearman(values, rating))
        return strengths[:1] - strengths[1:]

    (found,) = _intervals(difference(values, rating), [difference(values[:, d], rating[d]) for d in draws])
    return found


def _resamples(
    ratings: Ratings, members: npt.NDArray[np.bool_], count: int, seed: int
) -> list[npt.NDArray[np.intp]]:
    """Draw excerpts with replacement; each draw lists the stimuli, as positions within the group."""
    excerpts = np.array(ratings.excerpts)[members]
    distinct = np.unique(excerpts)
    if len(distinct) < FEWEST_EXCERPTS:
        return []
    positions = [np.flatnonzero(excerpts == excerpt) for excerpt in distinct]
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(distinct), (count, len(distinct)))
    return [np.concatenate([positions[index] for index in row]) for row in drawn]


def _intervals(values: Doubles, resampled: list[Doubles]) -> list[Interval]:
    if not resampled:
        return [Interval(value=float(value), low=math.nan, high=math.nan) for value in values]
    low, high = np.nanpercentile(np.stack(resampled), [2.5, 97.5], axis=0)
    bounds = zip(values, low, high, strict=True)
    return [Interval(value=float(value), low=float(least), high=float(most)) for value, least, most in bounds]


def _spearman(values: Doubles, rating: Doubles) -> Doubles:
    """Rank correlation of each row with the rating, shape=(rows,)."""
    return _pearson(scipy.stats.rankdata(values, axis=1), scipy.stats.rankdata(rating))


def _pearson(values: Doubles, rating: Doubles) -> Doubles:
    """Correlation of each row with the rating, shape=(rows,); NaN where either is constant."""
    a = values - values.mean(axis=1, keepdims=True)
    b = rating - rating.mean()
    scale = np.sqrt(np.square(a).sum(axis=1) * (b @ b))
    return np.asarray(np.divide(a @ b, scale, out=np.full(len(a), np.nan), where=scale > 0))
