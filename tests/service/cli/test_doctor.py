"""`stemwright doctor`: every kind of trouble is found, with its remedy, and healthy is healthy."""

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from stemwright.core.errors import EXIT_FAILURE, EXIT_OK
from stemwright.models.registry.store import ModelStore
from stemwright.models.sessions.cards import GpuMemory
from stemwright.models.sessions.devices import DeviceReport
from stemwright.models.sessions.onnxruntime_builds import RuntimeConflict
from stemwright.service.cli import symptoms
from stemwright.service.cli.main import run
from stemwright.service.cli.symptoms import Finding
from tests.support.tiny_models import install_tiny_model

Capture = pytest.CaptureFixture[str]
CPU = DeviceReport(device="cpu", usable=True, detail="ONNX Runtime")
CUDA = DeviceReport(device="cuda:0", usable=False, detail="it does not load", remedy="mend it")
CARD = GpuMemory(name="H100", total=80 << 30, free=79 << 30)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own, and probes that cost nothing."""
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(symptoms, "probe_devices", lambda: [CPU])
    return tmp_path


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.state for finding in findings}


def test_a_healthy_machine(machine: Path, capsys: Capture) -> None:
    install_tiny_model(machine / "models")
    assert run(["doctor"]) == EXIT_OK
    out = capsys.readouterr().out
    assert "PROBLEM" not in out
    assert "model tiny: whole, drums" in out


def test_json(machine: Path, capsys: Capture) -> None:
    assert run(["doctor", "--json"]) == EXIT_OK
    data = json.loads(capsys.readouterr().out)
    assert data["healthy"] is True
    models = next(finding for finding in data["findings"] if finding["subject"] == "models")
    assert models["state"] == "note"
    assert models["remedy"] == "stemwright models pull htdemucs"


def test_a_damaged_model(machine: Path, capsys: Capture) -> None:
    folder = install_tiny_model(machine / "models")
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    assert run(["doctor"]) == EXIT_FAILURE
    out = capsys.readouterr().out
    assert "PROBLEM model tiny" in out
    assert "-> " in out.split("PROBLEM model tiny")[1].splitlines()[1]


def test_two_runtimes(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    conflict = RuntimeConflict(installed=("onnxruntime 1", "onnxruntime-gpu 1"), owner="onnxruntime")
    monkeypatch.setattr(symptoms, "runtime_conflict", lambda: conflict)
    assert run(["doctor"]) == EXIT_FAILURE
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in capsys.readouterr().out


def test_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symptoms, "runtime_conflict", lambda: None)
    monkeypatch.setattr(symptoms, "onnxruntime_build", lambda: "none")
    assert [finding.state for finding in symptoms.check_runtime()] == ["problem"]


class TestDevices:
    def test_none_usable(self) -> None:
        broken = DeviceReport(device="cpu", usable=False, detail="gone", remedy="install it")
        assert states(list(symptoms.check_devices([broken])))["devices"] == "problem"

    def test_no_card_needs_no_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(symptoms, "gpu_memory", lambda: ())
        found = next(iter(symptoms.check_devices([CUDA, CPU])))
        assert (found.state, found.remedy) == ("note", "")

    @pytest.mark.parametrize(("build", "state"), [("onnxruntime-gpu", "problem"), ("onnxruntime", "note")])
    def test_a_card_that_cannot_be_used(
        self, monkeypatch: pytest.MonkeyPatch, build: str, state: str
    ) -> None:
        monkeypatch.setattr(symptoms, "gpu_memory", lambda: (CARD,))
        monkeypatch.setattr(symptoms, "onnxruntime_build", lambda: build)
        found = next(iter(symptoms.check_devices([CUDA, CPU])))
        assert (found.state, found.remedy) == (state, "mend it")

    def test_memory_of_a_card(self) -> None:
        works = DeviceReport(
            device="cuda:0", usable=True, detail="H100", total_memory=80 << 30, free_memory=8 << 30
        )
        assert "8.0 GiB of 80.0 GiB free" in next(iter(symptoms.check_devices([works]))).detail


def test_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symptoms, "_OLDEST_PYTHON", (99, 0))
    found = next(symptoms.check_python())
    assert found.state == "problem"
    assert "99.0" in found.remedy


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symptoms, "available_memory", lambda: 1 << 29)
    found = {finding.subject: finding for finding in symptoms.check_memory()}
    assert "--low-memory" in found["memory"].remedy


def test_missing_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symptoms, "_DECODERS", ("flac", "gargle"))
    found = states(list(symptoms.check_codecs()))
    assert found == {"decoders": "problem", "encoders": "ok"}


def test_full_disk(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1 << 20))
    found = states(list(symptoms.check_folders(machine / "cache", machine / "models")))
    assert set(found.values()) == {"problem"}


def test_folders_that_cannot_be_written(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = states(list(symptoms.check_folders(machine / "cache", machine / "models")))
    assert found == {"cache folder": "note", "models folder": "problem"}


def test_an_unreadable_store(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("stemwright.models.registry.store.os.scandir", fail)
    assert [finding.state for finding in symptoms.check_models(ModelStore())] == ["problem"]
