"""`stemwright bench` on a tiny model: contenders in processes of their own, ratios, failures in the table."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from stemwright.core.errors import EXIT_OK, EXIT_USAGE
from stemwright.service import benchmarking
from stemwright.service.benchmarking import (
    BenchPlan,
    Contender,
    Measurement,
    Results,
    chosen_contenders,
    generated_music,
)
from stemwright.service.cli.main import run
from tests.support.tiny_models import install_tiny_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    install_tiny_model(tmp_path / "models", segment=44100)
    return tmp_path


def measured(device: str, wall: tuple[float, ...], cpu: tuple[float, ...]) -> Measurement:
    contender = Contender(device=device, precision="float32")
    return Measurement(contender=contender, runtime="any 1", wall_s=wall, cpu_s=cpu, peak_mib=100.0)


def test_ratios_are_medians_over_the_rounds() -> None:
    results = Results(
        seconds=10.0,
        measurements=(
            Measurement(contender=Contender(device="demucs", precision="float32"), error="gone"),
            measured("cpu", (4.0, 6.0, 40.0), (8.0, 8.0, 8.0)),
            measured("openvino", (2.0, 2.0, 2.0), (4.0, 4.0, 4.0)),
        ),
    )
    assert results.reference is results.measurements[1]
    assert results.ratios(results.measurements[2]) == (3.0, 2.0)
    rows = results.as_json()["results"]
    assert rows[0]["error"] == "gone"
    assert rows[2]["real_time_factor"] == 0.2
    with pytest.raises(ValueError, match="measured"):
        results.ratios(results.measurements[0])


def test_generated_music_is_the_same_every_time() -> None:
    first, second = generated_music(1.5, 8000), generated_music(1.5, 8000)
    assert first.shape == (2, 12000)
    assert first.dtype == np.float32
    assert np.array_equal(first, second)
    assert 0.05 < float(np.abs(first).max()) < 1.5


def test_devices_with_and_without_precision() -> None:
    plan = BenchPlan(model="tiny")
    assert chosen_contenders(plan, ("cpu:float32",)) == (Contender(device="cpu", precision="float32"),)
    assert chosen_contenders(plan, ("cpu",))[0] == Contender(device="cpu", precision="float32")


@pytest.mark.parametrize("device", ["auto", "gargle", "tensorrt"])
def test_devices_that_cannot_be_measured(device: str, capsys: Capture) -> None:
    assert run(["bench", "-m", "tiny", "--device", device]) == EXIT_USAGE
    assert "hint: " in capsys.readouterr().err


def test_the_peer_is_measured_for_its_own_family_only(store: Path) -> None:
    plan = BenchPlan(model="tiny")
    assert all(one.device != "demucs" for one in chosen_contenders(plan, ("cpu:float32",)))


@pytest.mark.slow
def test_a_run(capsys: Capture) -> None:
    arguments = [
        "bench",
        "-m",
        "tiny",
        "--seconds",
        "2",
        "--rounds",
        "2",
        "--device",
        "cpu:float32",
        "--json",
    ]
    assert run(arguments) == EXIT_OK
    data = json.loads(capsys.readouterr().out)
    assert data["audio_seconds"] == 2.0
    (row,) = data["results"]
    assert row["times_faster_wall"] == 1.0
    assert len(row["wall_s"]) == 2
    assert row["peak_mib"] > 10


@pytest.mark.slow
def test_a_recording_and_a_precision_that_is_not_possible(store: Path, capsys: Capture) -> None:
    sf.write(store / "song.wav", np.full((24000, 1), 0.1, np.float32), 24000)
    arguments = ["bench", str(store / "song.wav"), "-m", "tiny", "--rounds", "1"]
    assert run([*arguments, "--device", "cpu:float16", "--device", "cpu:float32"]) == EXIT_OK
    out = capsys.readouterr().out
    assert "float16 is not possible on cpu here" in out
    assert "1 s of audio; ratios against cpu float32" in out


def test_a_process_that_dies_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarking, "_PEER", "raise SystemExit('torch is broken')")
    plan = BenchPlan(model="tiny", seconds=1.0, rounds=1)
    results = benchmarking.run(plan, (Contender(device="demucs", precision="float32"),))
    assert results.measurements[0].error == "its process ended: torch is broken"
    assert results.reference is None


def test_an_unreadable_recording(store: Path, capsys: Capture) -> None:
    (store / "song.wav").write_text("not a song")
    assert run(["bench", str(store / "song.wav"), "-m", "tiny", "--device", "cpu:float32"]) == EXIT_USAGE
    assert "song.wav" in capsys.readouterr().err
