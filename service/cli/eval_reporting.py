"""What `stemwright eval report` does."""

from dataclasses import dataclass, replace
from pathlib import Path

from stemwright.core.errors import OptionError
from stemwright.eval.museval_folders import read_museval_folder
from stemwright.eval.report.comparison import compare_runs, friedman
from stemwright.eval.report.summary import Aggregate
from stemwright.eval.report.tables import (
    Format,
    Table,
    comparison_table,
    friedman_table,
    score_tables,
    write_tables,
)
from stemwright.eval.rows import RUN_FILE, Run, StemScores, TrackScores, read_run


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a report is of.

    Parameters
    ----------
    runs
        Folders of runs, or of museval's JSON files.
    form
        Of the tables.
    aggregate
        Over the frames of a track, then over tracks.
    columns
        Columns of metrics; None for all.
    resamples, seed
        Draws of the bootstrap.
    """

    runs: tuple[Path, ...]
    form: Format
    aggregate: Aggregate
    columns: tuple[str, ...] | None
    resamples: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class ReportTables:
    """All tables of a report: scores of the runs, and whether these differ."""

    scores: list[Table]
    comparisons: list[Table]

    def text(self, form: Format) -> str:
        """Return them one after another."""
        return write_tables([*self.scores, *self.comparisons], form)


def open_runs(request: ReportRequest) -> list[Run]:
    """Read the runs, each under a name of its own, with the columns asked for.

    Raises
    ------
    InputError
        A folder is no run.
    OptionError
        A column that no run has.
    """
    runs = [_read(path) for path in request.runs]
    names = [run.facts.model or run.path.resolve().name for run in runs]
    for index, run in enumerate(runs):
        name = names[index]
        if names.count(name) > 1:  # two runs of a model: their folders tell them apart
            name = f"{name} ({run.path.resolve().name})"
        runs[index] = replace(run, facts=replace(run.facts, model=name))
    if request.columns is None:
        return runs
    there = tuple(dict.fromkeys(column for run in runs for column in run.columns))
    for column in request.columns:
        if column not in there:
            raise OptionError(f"no run has the column {column}", f"there are {', '.join(there)}")
    return [_only(run, request.columns) for run in runs]


def report_tables(runs: list[Run], request: ReportRequest) -> ReportTables:
    """Return all tables of a report.

    Raises
    ------
    InputError
        Runs that have nothing in common.
    """
    comparisons = []
    if len(runs) > 2:
        comparisons.append(friedman_table(friedman(runs, aggregate=request.aggregate)))
    for run in runs[1:]:
        found = compare_runs(
            run, runs[0], aggregate=request.aggregate, resamples=request.resamples, seed=request.seed
        )
        comparisons.append(comparison_table(run, runs[0], found))
    return ReportTables(scores=score_tables(runs, request.aggregate), comparisons=comparisons)


def _read(path: Path) -> Run:
    return read_run(path) if (path / RUN_FILE).is_file() else read_museval_folder(path)


def _only(run: Run, columns: tuple[str, ...]) -> Run:
    def stem(scores: StemScores) -> StemScores:
        return replace(
            scores,
            values={column: value for column, value in scores.values.items() if column in columns},
            frames={column: row for column, row in scores.frames.items() if column in columns},
        )

    def track(row: TrackScores) -> TrackScores:
        return replace(row, stems={name: stem(scores) for name, scores in row.stems.items()})

    return replace(run, tracks=tuple(track(row) for row in run.tracks))
