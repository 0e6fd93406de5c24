"""The tables that `stemwright eval listening` prints, and its plot."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stemwright.core.figures import figure_bytes, picture_format
from stemwright.eval.listening import Agreement, Interval, Ratings
from stemwright.eval.report.plots import listening_plot
from stemwright.service.staging import publish_file, refuse_existing

_PLAIN_WIDTH = 160

Differences = Mapping[tuple[str, str], Interval]
"""Difference of the correlations' strengths, by the kind of model and the other metric."""


def print_agreements(agreements: Sequence[Agreement]) -> None:
    """Print one table for each group of stimuli."""
    console = _console()
    for group in dict.fromkeys(agreement.group for agreement in agreements):
        rows = [agreement for agreement in agreements if agreement.group == group]
        console.print(f"{group}: {rows[0].stimuli} stimuli")
        table = _table("metric", "Spearman", "95 %", "Pearson", "95 %")
        for row in rows:
            table.add_row(row.metric, *_cells(row.spearman), *_cells(row.pearson))
        console.print(table)


def print_comparisons(first: str, differences: Differences) -> None:
    """Print how much stronger one metric's correlation is than the others'."""
    console = _console()
    for group in dict.fromkeys(group for group, _ in differences):
        console.print(f"{group}: |Spearman| of {first} minus that of")
        table = _table("metric", "difference", "95 %", "")
        for (_, metric), interval in ((key, one) for key, one in differences.items() if key[0] == group):
            apart = "differs" if interval.low > 0 or interval.high < 0 else "not separable"
            table.add_row(metric, *_cells(interval), apart)
        console.print(table)


def as_data(agreements: Sequence[Agreement], differences: Differences) -> dict[str, Any]:
    """Return everything as JSON-ready data; values that do not exist are null."""
    return {
        "agreements": [_plain(dataclasses.asdict(agreement)) for agreement in agreements],
        "comparisons": [
            _plain({"group": group, "metric": metric, "difference": dataclasses.asdict(interval)})
            for (group, metric), interval in differences.items()
        ],
    }


def require_plot(path: Path, *, overwrite: bool) -> None:
    """Refuse, before the work, a file that is no picture or that exists; raises OutputError."""
    picture_format(path)
    if not overwrite:
        refuse_existing(path.parent, [PurePosixPath(path.name)])


def write_plot(
    path: Path, ratings: Ratings, agreements: Sequence[Agreement], metric: str, *, overwrite: bool
) -> None:
    """Draw a metric against the listeners' ratings into a file.

    Raises
    ------
    OptionError
        There is no such metric.
    OutputError, ResourceError
        The file exists, is no picture's name, or the disk refuses.
    """
    data = figure_bytes(listening_plot(ratings, metric, agreements), picture_format(path))
    publish_file(path, data, replace=overwrite)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _cells(interval: Interval) -> tuple[str, str]:
    if np.isnan(interval.low):
        return f"{interval.value:.3f}", "too few excerpts"
    return f"{interval.value:.3f}", f"{interval.low:.3f} .. {interval.high:.3f}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, markup=False, highlight=False)
