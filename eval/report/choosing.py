"""Which tracks and which frames of runs are worth a look: the worst, the median, and what lies between."""

from collections.abc import Sequence

import numpy as np

from stemwright.eval.metrics import METRICS
from stemwright.eval.report.summary import Aggregate, track_values
from stemwright.eval.rows import Run, StemScores

_DISTANCES = ("mse:", "mse32:", "fad:")


def higher_is_better(column: str) -> bool:
    """Whether a larger number of a column is the better one."""
    known = {name: metric.better for metric in METRICS.values() for name in metric.columns}
    return known.get(column, "higher") == "higher" and not column.startswith(_DISTANCES)


def framewise_columns(runs: Sequence[Run]) -> list[str]:
    """Return the columns that have frames in any run, in their order."""
    stems = (stem for run in runs for row in run.tracks for stem in row.stems.values())
    return list(dict.fromkeys(column for stem in stems for column in stem.frames))


def ranked_tracks(
    run: Run, column: str, aggregate: Aggregate = "median", stem: str | None = None
) -> list[str]:
    """Return the tracks that have a number, the worst first.

    Parameters
    ----------
    run, column, aggregate
        What is ranked, by which numbers.
    stem
        Of which stem; None for the mean over the stems that have a number.
    """
    stems = run.stems if stem is None else (stem,)
    of_stems = [track_values(run, name, column, aggregate) for name in stems]
    numbers: dict[str, float] = {}
    for row in run.tracks:
        values = np.array([values[row.track] for values in of_stems], np.float64)
        if np.isfinite(values).any():
            numbers[row.track] = float(values[np.isfinite(values)].mean())
    sign = 1 if higher_is_better(column) else -1
    return sorted(numbers, key=lambda name: sign * numbers[name])


def spread(ranking: Sequence[str], count: int) -> list[str]:
    """Choose from a ranking: the median; with it the worst; the best; then evenly between."""
    if count >= len(ranking):
        return list(ranking)
    last = len(ranking) - 1
    few = {0: [], 1: [last / 2], 2: [0, last / 2]}
    places = few[count] if count in few else np.linspace(0, last, count)
    return [ranking[place] for place in dict.fromkeys(int(place) for place in places)]


def noted_frames(scores: StemScores, column: str) -> dict[str, int]:
    """Return the median and the worst frame of a column by these names; none where no frame has a number."""
    values = np.array(scores.frames.get(column, ()), np.float64)
    places = np.flatnonzero(np.isfinite(values))
    if not places.size:
        return {}
    order = places[np.argsort(values[places], kind="stable")]
    worst = order[0] if higher_is_better(column) else order[-1]
    found = {"median": int(order[(len(order) - 1) // 2]), "worst": int(worst)}
    return found if found["median"] != found["worst"] else {"median": found["median"]}


def noted_plots(runs: Sequence[Run], column: str, aggregate: Aggregate) -> list[tuple[str, str, str]]:
    """Return stem, `worst` or `median`, and track, of the first run that has frames of a column."""
    run = next((run for run in runs if column in framewise_columns([run])), None)
    if run is None:
        return []
    return [
        (stem, what, track)
        for stem in run.stems
        for what, track in noted_tracks(run, column, stem, aggregate).items()
        if any(row.track == track and row.stems[stem].frames.get(column) for row in run.tracks)
    ]


def ranking_column(runs: Sequence[Run]) -> str:
    """Return the column that tracks are ranked by: the first with frames, else the first."""
    columns = [*framewise_columns(runs), *(column for run in runs for column in run.columns)]
    return columns[0] if columns else ""


def noted_tracks(run: Run, column: str, stem: str, aggregate: Aggregate = "median") -> dict[str, str]:
    """Return the worst and the median track of a stem by these names."""
    ranking = ranked_tracks(run, column, aggregate, stem)
    if not ranking:
        return {}
    found = {"worst": ranking[0], "median": ranking[(len(ranking) - 1) // 2]}
    return found if found["worst"] != found["median"] else {"worst": found["worst"]}
