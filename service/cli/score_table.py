"""The table that `stemwright eval score` prints."""

import math
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
