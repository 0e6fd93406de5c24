"""The table that `stemwright eval score` prints."""

import math
import statistics
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from stemwright.eval.measures.contract import Metric, ScoreOptions
from stemwright.eval.rows import StemScores, TrackScores

_PLAIN_WIDTH = 160


def print_scores(row: TrackScores, metrics: Sequence[Metric], options: ScoreOptions) -> None:
    """Print a row for each stem, what is to be said of them below, and what the columns are."""
    framewise = [metric for metric in metrics if metric.framewise]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stem")
    for metric in metrics:
        for column in metric.columns:
            table.add_column(column, justify="right")
    if framewise:
        table.add_column("frames", justify="right")
    for name, stem in row.stems.items():
        cells = [_cell(stem.values[column], metric) for metric in metrics for column in metric.columns]
        counted = [_counted(stem, framewise[0].columns[0])] if framewise else []
        table.add_row(name, *cells, *counted)
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, markup=False, highlight=False)
    console.print(table)
    for note, names in _notes(row).items():
        console.print(note if len(names) == len(row.stems) else f"{', '.join(names)}: {note}")
    if framewise:
        window = min(options.window_s, row.seconds)
        console.print(f"{', '.join(framewise[0].columns)}: medians in dB over frames of {window:g} s")


def print_run(rows: Sequence[TrackScores], metrics: Sequence[Metric], options: ScoreOptions) -> None:
    """Print a row for each stem of a run: medians over its tracks of each track's number."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stem")
    for metric in metrics:
        for column in metric.columns:
            table.add_column(column, justify="right")
    table.add_column("tracks", justify="right")
    for name in dict.fromkeys(name for row in rows for name in row.stems):
        stems = [row.stems[name] for row in rows if name in row.stems]
        values = [
            (metric, [stem.values[column] for stem in stems])
            for metric in metrics
            for column in metric.columns
        ]
        counted = max(sum(math.isfinite(value) for value in row) for _, row in values)
        cells = [_cell(_median(row), metric) for metric, row in values]
        table.add_row(name, *cells, str(counted))
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, markup=False, highlight=False)
    console.print(table)
    console.print(f"medians over {len(rows)} tracks; `stemwright eval report` makes tables and pages")


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def _notes(row: TrackScores) -> dict[str, list[str]]:
    """Return notes with the stems that they are of."""
    notes: dict[str, list[str]] = {}
    for name, stem in row.stems.items():
        for note in stem.notes:
            notes.setdefault(note, []).append(name)
    return notes


def _cell(value: float, metric: Metric) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if metric.unit == "dB" else f"{value:.4g}"


def _counted(stem: StemScores, column: str) -> str:
    frames = stem.frames[column]
    return f"{sum(math.isfinite(value) for value in frames)} of {len(frames)}"
