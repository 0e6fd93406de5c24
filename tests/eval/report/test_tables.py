"""Tables, read back by programs that know their forms."""

import csv
import io

import numpy as np
import pytest

from stemwright.eval.report.comparison import compare_runs
from stemwright.eval.report.tables import Table, comparison_table, score_tables, write_tables
from tests.eval.report.runs import make_run

RUNS = [
    make_run(
        "htdemucs",
        {"vocals": np.array([[8.0, 9.0], [7.0, np.nan]]), "drums": np.array([[5.0, 5.0], [6.0, 6.0]])},
    ),
    make_run("oracle:irm", {"vocals": np.array([[12.0, 12.0], [14.0, 14.0]])}),
]


def test_runs_stand_below_each_other_with_what_they_lack() -> None:
    (table,) = score_tables(RUNS)
    assert table.header == ("run", "vocals", "drums", "tracks", "without a number")
    assert table.rows[0] == ("htdemucs", 7.75, 5.5, 2, "1 of 8 frames")
    assert table.rows[1][:2] == ("oracle:irm", 13.0)
    assert np.isnan(table.rows[1][2])


def test_csv_keeps_every_digit_and_no_formula() -> None:
    table = Table(title="SDR", header=("run", "vocals"), rows=(("=1+1", 1 / 3), ("b", float("nan"))))
    rows = list(csv.DictReader(io.StringIO(write_tables([table], "csv"))))
    assert float(rows[0]["vocals"]) == 1 / 3
    assert rows[0]["run"] == "'=1+1"
    assert rows[1]["vocals"] == ""


def test_markdown_has_as_many_cells_in_every_line() -> None:
    text = write_tables(score_tables([make_run("a|b", {"vocals": np.ones((1, 1))})]), "markdown")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "a\\|b" in text


@pytest.mark.parametrize("name", ["100 % _new_ & {old}", "a\\b~c^d"])
def test_latex_escapes_names(name: str) -> None:
    text = write_tables(score_tables([make_run(name, {"vocals": np.ones((1, 1))})]), "latex")
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(line.count(" & ") == body[0].count(" & ") for line in body)
    assert name not in text


def test_a_comparison_says_which_way_round() -> None:
    first, second = (
        make_run(name, {"s": np.full((9, 1), value)}) for name, value in (("a", 3.0), ("b", 1.0))
    )
    table = comparison_table(first, second, compare_runs(first, second))
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert (row["difference"], row["from"], row["to"], row["effect"]) == (2, 2, 2, 1)
    assert row["p"] == "0.0039"  # 2 of 2^9 signs
    assert "a minus b" in table.notes[0]
