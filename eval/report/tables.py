"""Tables of runs as Markdown, CSV and LaTeX."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from stemwright.eval.report.comparison import LEAST_TRACKS, Comparison, Friedman
from stemwright.eval.report.summary import Aggregate, Summary, summarise
from stemwright.eval.rows import Run

Format = Literal["markdown", "csv", "latex"]
MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text and numbers.

    Parameters
    ----------
    title
        What it shows.
    header
        Names of its columns.
    rows
        Cells: text, whole numbers, or numbers that are printed with `decimals`; NaN is a missing one.
    notes
        What a reader must know, below it.
    decimals
        Of numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    notes: tuple[str, ...] = ()
    decimals: int = 2


def score_tables(runs: Sequence[Run], aggregate: Aggregate = "median") -> list[Table]:
    """Return a table for every column of metrics: runs down, stems across, with what was left out."""
    summaries = [(run, summarise(run, aggregate)) for run in runs]
    columns = dict.fromkeys(summary.column for _, found in summaries for summary in found)
    return [_score_table(column, summaries, aggregate) for column in columns]


def _score_table(column: str, summaries: Sequence[tuple[Run, list[Summary]]], aggregate: Aggregate) -> Table:
    stems = tuple(dict.fromkeys(s.stem for _, found in summaries for s in found if s.column == column))
    rows: list[tuple[str | int | float, ...]] = []
    notes = []
    for run, found in summaries:
        of_column = {summary.stem: summary for summary in found if summary.column == column}
        if not of_column:
            continue
        name = run_name(run)
        values = [of_column[stem].value if stem in of_column else math.nan for stem in stems]
        rows.append((name, *values, len(run.tracks), _without_number(of_column)))
        if run.failed:
            notes.append(f"{name}: {len(run.failed)} tracks failed and are left out")
        missing = len(run.facts.tracks) - len(run.tracks) - len(run.failed)
        if missing > 0:
            notes.append(f"{name}: {missing} of {len(run.facts.tracks)} tracks are not scored yet")
    how = "median over the frames of a track, then over tracks"
    if aggregate == "mean":
        how = "mean over the frames of a track, then over tracks"
    return Table(
        title=column,
        header=("run", *stems, "tracks", "without a number"),
        rows=tuple(rows),
        notes=(f"{column}: {how}.", *notes),
    )


def _without_number(of_column: dict[str, Summary]) -> str:
    """Tell how many frames, or where there are none tracks, have no number in any of the stems."""
    frames = sum(summary.frames for summary in of_column.values())
    if frames:
        return f"{sum(summary.missing_frames for summary in of_column.values())} of {frames} frames"
    tracks = sum(len(summary.per_track) for summary in of_column.values())
    return f"{sum(summary.missing_tracks for summary in of_column.values())} of {tracks}"


def comparison_table(first: Run, second: Run, comparisons: Sequence[Comparison]) -> Table:
    """Return the differences of two runs: the first one's numbers minus the second's."""
    notes = [
        f"{run_name(first)} minus {run_name(second)}: median over the tracks, 95 % interval from resampled"
        " tracks, rank-biserial effect, Wilcoxon's signed-rank test, Holm's correction over the stems.",
    ]
    if any(comparison.tracks < LEAST_TRACKS for comparison in comparisons):
        notes.append(f"Fewer than {LEAST_TRACKS} tracks give no interval.")
    return Table(
        title=f"{run_name(first)} against {run_name(second)}",
        header=("metric", "stem", "tracks", "difference", "from", "to", "effect", "p", "p (Holm)"),
        rows=tuple(
            (c.column, c.stem, c.tracks, c.difference, c.low, c.high, c.effect, p_text(c.p), p_text(c.p_holm))
            for c in comparisons
        ),
        notes=tuple(notes),
    )


def friedman_table(tests: Sequence[Friedman]) -> Table:
    """Return Friedman's test of all runs."""
    return Table(
        title="All runs",
        header=("metric", "stem", "tracks", "chi square", "p"),
        rows=tuple((t.column, t.stem, t.tracks, t.statistic, p_text(t.p)) for t in tests),
        notes=("Friedman's test: p that all runs are alike.",),
    )


def run_name(run: Run) -> str:
    """Return what a run is called: its model, or its folder."""
    return run.facts.model or run.path.name


def p_text(p: float) -> str:
    """Return a p value with two digits, or that it is very small."""
    if math.isnan(p):
        return MISSING
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def write_tables(tables: Sequence[Table], form: Format) -> str:
    """Return the text of tables, one after another."""
    return "\n".join(_FORMS[form](table) for table in tables)


def _cells(row: Sequence[str | int | float], decimals: int) -> list[str]:
    return [_cell(cell, decimals) for cell in row]


def _cell(cell: str | int | float, decimals: int) -> str:
    if isinstance(cell, float):
        return MISSING if math.isnan(cell) else f"{cell:.{decimals}f}"
    return str(cell)


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    numeric = [all(isinstance(row[i], int | float) for row in table.rows) for i in range(len(table.header))]
    rule = "|" + "|".join("---:" if right else "---" for right in numeric) + "|"
    lines = [f"### {table.title}", "", line(table.header), rule]
    lines += [line(_cells(row, table.decimals)) for row in table.rows]
    return "\n".join([*lines, "", *(f"{note}  " for note in table.notes), ""])


def _csv(table: Table) -> str:
    """Full precision, an empty cell for a missing number, the title as the first column: for programs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("table", *table.header))
    for row in table.rows:
        cells = ["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row]
        writer.writerow([_guarded(cell) for cell in (table.title, *cells)])
    return text.getvalue()


def _guarded(cell: str | int | float) -> str | int | float:
    """Return text that no spreadsheet takes for a formula: names of tracks and models come from anywhere."""
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + cell
    return repr(cell) if isinstance(cell, float) else cell


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}",
}  # fmt: skip


def _latex(table: Table) -> str:
    def escaped(text: str) -> str:
        return "".join(_LATEX.get(letter, letter) for letter in text)

    def line(cells: Sequence[str]) -> str:
        return "  " + " & ".join(escaped(cell) for cell in cells) + r" \\"

    numeric = [all(isinstance(row[i], int | float) for row in table.rows) for i in range(len(table.header))]
    shape = "".join("r" if right else "l" for right in numeric)
    lines = [
        f"% {table.title}",
        f"\\begin{{tabular}}{{{shape}}}",
        r"  \toprule",
        line(table.header),
        r"  \midrule",
        *(line(_cells(row, table.decimals)) for row in table.rows),
        r"  \bottomrule",
        r"\end{tabular}",
        *(f"% {note}" for note in table.notes),
    ]
    return "\n".join([*lines, ""])


_FORMS: dict[Format, Callable[[Table], str]] = {"markdown": _markdown, "csv": _csv, "latex": _latex}
