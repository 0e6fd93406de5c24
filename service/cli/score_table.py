"""The table that `stemwright eval score` prints."""

import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from stemwright.eval.bss_eval.images import METRICS, ImageScores

_PLAIN_WIDTH = 160


def print_scores(scores: ImageScores) -> None:
    """Print the medians over the frames, one row for each stem, with the number of frames that count."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stem")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    table.add_column("frames", justify="right")
    table.add_column("")
    medians = {metric: scores.median(metric) for metric in METRICS}
    for index, name in enumerate(scores.names):
        counted = int(np.isfinite(scores.values[0, index]).sum())
        values = [medians[metric][name] for metric in METRICS]
        cells = ["-" if np.isnan(value) else f"{value:.2f}" for value in values]
        frames = f"{counted} of {scores.values.shape[2]}"
        table.add_row(name, *cells, frames, scores.reasons.get(name, ""))
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, markup=False, highlight=False)
    console.print(table)
    console.print(f"medians in dB over frames of {scores.window_s:g} s")
