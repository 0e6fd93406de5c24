"""`stemwright eval run`: numbers, resuming after a kill at any moment, workers, tracks that fail."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.eval.rows import Run, read_run
from stemwright.eval.signal_metrics import sdr
from stemwright.service.cli.main import run as stemwright
from tests.support.data_sets import RATE, noise, speaker_folders, stem_folders, write
from tests.support.paths import ROOT
from tests.support.tiny_models import install_tiny_model
from tests.support.tiny_taggers import install_tiny_asked_model, install_tiny_tagger

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    install_tiny_model(
        folder, "tiny", stems=("vocals", "bass", "drums"), gains=(0.5, 0.25, 0.125), sample_rate=8000
    )
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(folder))
    return folder


def scores(run: Run) -> dict[str, dict[str, dict[str, float]]]:
    return {row.track: {name: stem.values for name, stem in row.stems.items()} for row in run.tracks}


def command(data: Path, out: Path, *more: str, model: str = "tiny", kind: str = "folder") -> list[str]:
    line = ["eval", "run", "--data", f"{kind}:{data}", "-o", str(out), "-m", model, "--metric", "sdr"]
    return [*line, *(() if model.startswith("oracle") else ("--device", "cpu")), *more]


def test_estimates_are_those_of_the_model(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = stem_folders(tmp_path / "data")
    assert stemwright(command(data, tmp_path / "run", "--keep-estimates")) == 0
    run = read_run(tmp_path / "run")
    for index in range(2):
        bass, vocals = noise(10 * index), noise(10 * index + 1)
        found = scores(run)[f"track {index}"]
        assert found["bass"]["SDR_song"] == pytest.approx(sdr(bass, 0.25 * (bass + vocals)), abs=1e-4)
        assert found["vocals"]["SDR_song"] == pytest.approx(sdr(vocals, 0.5 * (bass + vocals)), abs=1e-4)
        kept = tmp_path / "run" / "estimates" / f"track {index}"
        assert run.tracks[index].estimates == f"estimates/track {index}"
        assert sorted(path.name for path in kept.iterdir()) == ["bass.wav", "vocals.wav"]
        np.testing.assert_allclose(soundfile.read(kept / "vocals.wav")[0].T, 0.5 * (bass + vocals), atol=1e-6)
    assert run.facts.model == "tiny" and run.tracks[0].separation_s is not None
    assert "drums is not scored: there is no reference" in run.tracks[0].notes
    shown = capsys.readouterr()
    assert "medians over 2 tracks" in shown.out
    assert shown.err.count("drums is not scored") == 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "estimates",
        "run.json",
        "tracks.jsonl",
    ]


def test_oracles_frame_a_table(tmp_path: Path) -> None:
    data = stem_folders(tmp_path / "data")
    values = {}
    for oracle in ("mixture", "ibm", "irm", "wiener"):
        assert stemwright(command(data, tmp_path / oracle, model=f"oracle:{oracle}")) == 0
        run = read_run(tmp_path / oracle)
        values[oracle] = run.tracks[0].stems["vocals"].values["SDR_song"]
    bass, vocals = noise(0), noise(1)
    assert values["mixture"] == pytest.approx(sdr(vocals, bass + vocals), abs=1e-4)
    assert min(values[mask] for mask in ("ibm", "irm", "wiener")) > values["mixture"] + 3
    assert run.tracks[0].notes == ("masks of a Hann window of 1024 samples, hop 256",)


def test_speakers_in_any_order(models: Path, tmp_path: Path) -> None:
    install_tiny_model(models, "pair", stems=("one", "two"), gains=(1.0, 0.5), sample_rate=8000, channels=1)
    data = speaker_folders(tmp_path / "data", tracks=1)
    assert stemwright(command(data, tmp_path / "run", model="pair", kind="librimix")) == 0
    (row,) = read_run(tmp_path / "run").tracks
    assert list(row.stems) == ["s1", "s2"]
    orders = (
        {"s1 is the estimate one", "s2 is the estimate two"},
        {"s1 is the estimate two", "s2 is the estimate one"},
    )
    assert set(row.notes) in orders


def test_sounds_are_asked_for_by_their_names(models: Path, tmp_path: Path) -> None:
    install_tiny_tagger(models, "ears")
    install_tiny_asked_model(models, "asked")
    data = stem_folders(tmp_path / "data", tracks=1, stems=("dog", "qqq1", "cat"))
    assert stemwright(command(data, tmp_path / "run", model="asked")) == 0
    (row,) = read_run(tmp_path / "run").tracks
    assert list(row.stems) == ["cat", "dog"]
    assert "dog was asked for as Dog" in row.notes
    assert "qqq1 is not scored: there is no estimate" in row.notes


def test_stems_that_are_no_sounds_cannot_be_asked_for(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_tiny_tagger(models, "ears")
    install_tiny_asked_model(models, "asked")
    data = stem_folders(tmp_path / "data", tracks=1, stems=("qqq1", "qqq2"))
    assert stemwright(command(data, tmp_path / "run", model="asked")) == 2
    assert "called as a class of sound" in capsys.readouterr().err


def test_a_track_that_fails_does_not_end_the_run(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = stem_folders(tmp_path / "data", tracks=3)
    damaged = data / "track 1" / "vocals.wav"
    whole = damaged.read_bytes()
    samples = noise(11)
    samples[0, 4000] = np.nan
    write(damaged, samples)
    assert stemwright(command(data, tmp_path / "run")) == 3
    run = read_run(tmp_path / "run")
    assert [row.track for row in run.tracks] == ["track 0", "track 2"]
    assert [row.track for row in run.failed] == ["track 1"]
    assert "NaN or infinite sample at 0.500 s" in run.failed[0].message
    assert "track 1/vocals.wav has a NaN" in capsys.readouterr().err
    damaged.write_bytes(whole)
    assert stemwright(command(data, tmp_path / "run")) == 0
    assert len(read_run(tmp_path / "run").tracks) == 3
    assert "2 of 3 tracks were done before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--metric", "sisdr"), "there is no metric sisdr"),
        (("-m", "oracle:irm"), "an oracle cannot be averaged"),
        (("--split", "test"), "no test split"),
    ],
)
def test_what_is_wrong_with_every_track(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    data = stem_folders(tmp_path / "data", tracks=1)
    assert stemwright(command(data, tmp_path / "run", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "tracks.jsonl").exists()


def test_no_stem_in_common(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = stem_folders(tmp_path / "data", tracks=1, stems=("dog", "rain"))
    assert stemwright(command(data, tmp_path / "run")) == 2
    assert "none in common" in capsys.readouterr().err


def test_rows_as_json(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = stem_folders(tmp_path / "data")
    assert stemwright(command(data, tmp_path / "run", "--json")) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["track"] for row in rows] == ["track 0", "track 1"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_a_run_that_is_killed_goes_on_to_the_same_result(
    models: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    data, out = stem_folders(tmp_path / "data", tracks=5), tmp_path / "killed"
    process = start(command(data, out, *more))
    while process.poll() is None and _rows(out) < 2:
        time.sleep(0.002)
    process.kill()
    process.wait()
    with (out / "tracks.jsonl").open("ab") as file:
        file.write(b'{"schema": 1, "track": "torn')
    done = _rows(out)
    assert 2 <= done < 5
    assert stemwright(command(data, out, *more)) == 0
    assert _rows(out) == 5
    assert not list(out.glob(".partial-*"))
    assert stemwright(command(data, tmp_path / "whole")) == 0
    assert scores(read_run(out)) == scores(read_run(tmp_path / "whole"))


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    line = [sys.executable, "-m", "stemwright.service.cli", *arguments]
    return subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _rows(out: Path) -> int:
    path = out / "tracks.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_track_and_no_other(tmp_path: Path) -> None:
    for track in range(3):
        for index, name in enumerate(("bass", "vocals")):
            write(tmp_path / "data" / f"track {track}" / f"{name}.wav", noise(index, 60 * RATE))
    out = tmp_path / "run"
    asked = command(tmp_path / "data", out, "--workers", "2", "--metric", "bsseval", model="oracle:irm")
    process = start(asked)
    while not list(out.glob(".partial-*/stems")) and process.poll() is None:
        time.sleep(0.005)
    os.kill(_workers(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=100) == 3
    run = read_run(out)
    assert (len(run.tracks), len(run.failed)) == (2, 1)
    assert "died (SIGKILL)" in run.failed[0].message
    assert not list(out.glob(".partial-*")) or stemwright(asked) == 0


@pytest.mark.slow
def test_no_worker_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    data = stem_folders(tmp_path / "data", tracks=4)
    process = start(command(data, tmp_path / "run", "--workers", "2", model="oracle:irm"))
    while len(workers := _workers(process.pid)) < 2 and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 60
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < until, "a worker is still there"
        time.sleep(0.05)


def _workers(process: int) -> list[int]:
    """Processes that a run has started to work on tracks, each by a thread of its own."""
    tasks = Path(f"/proc/{process}/task")
    children = [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_speakers_of_libri_mix_by_an_oracle(tmp_path: Path) -> None:
    data = speaker_folders(tmp_path / "data")
    assert stemwright(command(data, tmp_path / "run", model="oracle:wiener", kind="librimix")) == 0
    run = read_run(tmp_path / "run")
    assert [list(row.stems) for row in run.tracks] == [["s1", "s2"]] * 2
    assert run.tracks[0].notes == ("masks of a Hann window of 256 samples, hop 64",)
