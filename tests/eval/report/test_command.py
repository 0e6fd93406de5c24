"""`stemwright eval report` over runs of several tools."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from stemwright.eval.rows import facts_json, row_json
from stemwright.service.cli.main import run
from tests.eval.report.runs import make_run

RNG = np.random.default_rng(3)


def store(folder: Path, model: str, mean: float) -> Path:
    """Write a run of 9 tracks."""
    made = make_run(model, {"vocals": RNG.normal(mean, 1, (9, 5)), "drums": RNG.normal(mean, 1, (9, 5))})
    folder.mkdir()
    (folder / "run.json").write_text(facts_json(made.facts))
    (folder / "tracks.jsonl").write_text("".join(row_json(row) + "\n" for row in made.tracks))
    return folder


def test_two_runs_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low, high = store(tmp_path / "low", "plain", 4), store(tmp_path / "high", "better", 8)
    assert run(["eval", "report", str(low), str(high), "--format", "csv"]) == 0
    rows = [row for row in csv.reader(io.StringIO(capsys.readouterr().out)) if row]
    scores = [row for row in rows if row[0] == "SDR"]
    assert [row[1] for row in scores] == ["plain", "better"]
    vocals = next(row for row in rows if row[0] == "better against plain" and row[2] == "vocals")
    assert 3 < float(vocals[4]) < 5
    assert float(vocals[7]) == 1
    assert vocals[9] == "0.0078"  # 2 of 2^9 signs, twice for two stems


def test_runs_of_one_model_go_by_their_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [store(tmp_path / name, "htdemucs", 5) for name in ("fast", "slow", "third")]
    assert run(["eval", "report", *map(str, folders)]) == 0
    text = capsys.readouterr().out
    assert "htdemucs (fast)" in text and "htdemucs (slow) against htdemucs (fast)" in text
    assert "Friedman" in text


def test_files_of_museval_are_runs_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "peer" / "test"
    folder.mkdir(parents=True)
    metric = {"SDR": 1.5, "SIR": float("nan"), "ISR": 3.0, "SAR": 4.0}
    frames = [{"time": 0.0, "duration": 1.0, "metrics": metric}]
    (folder / "song.json").write_text(json.dumps({"targets": [{"name": "vocals", "frames": frames}]}))
    assert run(["eval", "report", str(tmp_path / "peer"), "--metric", "SDR"]) == 0
    text = capsys.readouterr().out
    assert "| peer | 1.50 | 1 | 0 of 1 frames |" in text
    assert "ISR" not in text


def test_what_is_no_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "report", str(tmp_path)]) == 2
    assert "no JSON files" in capsys.readouterr().err
    folder = store(tmp_path / "run", "m", 1)
    assert run(["eval", "report", str(folder), "--metric", "SRD"]) == 2
    assert "there are SDR" in capsys.readouterr().err


def test_a_file_is_written_once(tmp_path: Path) -> None:
    folder, out = store(tmp_path / "run", "m", 1), tmp_path / "tables.tex"
    command = ["eval", "report", str(folder), "--format", "latex", "-o", str(out)]
    assert run(command) == 0
    assert out.read_text().startswith("% SDR\n\\begin{tabular}")
    assert run(command) == 2
    assert run([*command, "--overwrite"]) == 0
