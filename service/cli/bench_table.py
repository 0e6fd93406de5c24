"""The table that `stemwright bench` prints."""

import statistics
import sys

from rich.console import Console
from rich.table import Table

from stemwright.service.benchmarking import Results

_PLAIN_WIDTH = 160


def print_table(results: Results) -> None:
    """Print one row for each contender, and what the ratios are against."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("real-time factor", "times faster", "by CPU time", "CPU s/s", "peak MiB"):
        table.add_column(heading, justify="right")
    table.add_column("runtime")
    for one in results.measurements:
        if one.error:
            table.add_row(one.contender.label, "", "", "", "", "", one.error)
            continue
        wall, cpu = results.ratios(one)
        table.add_row(
            one.contender.label,
            f"{statistics.median(one.wall_s) / results.seconds:.3f}",
            f"{wall:.2f}",
            f"{cpu:.2f}",
            f"{statistics.median(one.cpu_s) / results.seconds:.2f}",
            f"{one.peak_mib:.0f}",
            one.runtime,
        )
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, markup=False, highlight=False)
    console.print(table)
    if results.reference is not None:
        console.print(
            f"{results.seconds:.0f} s of audio; ratios against {results.reference.contender.label},"
            " medians over the rounds"
        )
