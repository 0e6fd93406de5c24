"""`stemwright eval score`: metrics by name, the mixture, rows as JSON, museval's file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.eval.metrics import METRICS
from stemwright.eval.rows import TrackScores, parse_row
from stemwright.service.cli.main import run

RATE = 8000


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Options that name a folder of references with their mixture, and one of estimates 20 dB apart."""
    random = np.random.default_rng(0)
    true = 0.1 * random.standard_normal((2, 3 * RATE, 1))
    found = true + 0.01 * random.standard_normal(true.shape)
    for folder in ("true", "found"):
        (tmp_path / folder).mkdir()
    for index, name in enumerate(("bass", "vocals")):
        soundfile.write(tmp_path / "true" / f"{name}.wav", true[index], RATE, subtype="FLOAT")
        soundfile.write(tmp_path / "found" / f"{name}.wav", found[index], RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "true" / "mixture.wav", true.sum(axis=0), RATE, subtype="FLOAT")
    return ["eval", "score", "--reference", str(tmp_path / "true"), "--estimate", str(tmp_path / "found")]


def test_metrics_by_name(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*folders, "--metric", "sdr", "--metric", "si-sdri"]) == 0
    heading, bass, vocals = capsys.readouterr().out.splitlines()
    assert heading.split() == ["stem", "SDR_song", "SI-SDRi"]
    for line in (bass, vocals):
        assert [float(cell) for cell in line.split()[1:]] == pytest.approx([20, 20], abs=0.3)


def test_rows_as_json(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*folders, "--metric", "bsseval", "--metric", "sdr", "--json"]) == 0
    row = parse_row(capsys.readouterr().out)
    assert isinstance(row, TrackScores)
    assert (row.track, row.seconds, row.sample_rate, row.channels) == ("true", 3.0, RATE, 1)
    assert list(row.stems) == ["bass", "vocals"]
    assert len(row.stems["bass"].frames["SAR"]) == 3
    assert row.stems["bass"].values["SDR"] == pytest.approx(20, abs=0.3)


def test_the_mixture(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = tmp_path / "true" / "mixture.wav"
    elsewhere = here.rename(tmp_path / "mix.wav")
    assert run([*folders, "--metric", "sdri"]) == 2
    assert "sdri compares with the mixture" in capsys.readouterr().err
    assert run([*folders, "--metric", "sdri", "--mixture", str(elsewhere)]) == 0
    samples, _ = soundfile.read(elsewhere)
    soundfile.write(elsewhere, samples, 2 * RATE)
    assert run([*folders, "--metric", "sdri", "--mixture", str(elsewhere)]) == 2
    assert "16000 Hz" in capsys.readouterr().err


def test_options_that_contradict(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    assert run([*folders, "--metric", "sdr", "-o", str(out)]) == 2
    assert "bsseval" in capsys.readouterr().err
    assert run([*folders, "--metric", "sdr", "--exact"]) == 2
    assert run([*folders, "--metric", "nonsense"]) == 2
    assert "there is no metric nonsense" in capsys.readouterr().err
    assert not out.exists()


def test_musevals_file_of_other_frames(folders: list[str], tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    assert run([*folders, "--exact", "--window", "0.5", "--hop", "0.25", "-o", str(out)]) == 0
    frames = json.loads(out.read_text())["targets"][0]["frames"]
    assert len(frames) == 11
    assert frames[1]["time"] == 0.25
    assert frames[1]["duration"] == 0.5


def test_the_help_names_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "score", "--help"]) == 0
    words = set(re.split(r"[\s,;.]+", capsys.readouterr().out))
    assert set(METRICS) - {"bsseval-exact"} <= words  # that one is --exact
