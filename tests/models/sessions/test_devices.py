"""Devices: names, choice, probes that can fail in any way, and the trap of two runtimes."""

import subprocess
from importlib import metadata
from typing import Any

import pytest

from stemwright.core.errors import DeviceError
from stemwright.models.sessions import cards, devices, onnxruntime_builds
from stemwright.models.sessions.devices import (
    Device,
    DeviceReport,
    choose_device,
    parse_device,
    probe,
    probe_apart,
    probe_devices,
)


@pytest.fixture(autouse=True)
def fresh_probes() -> Any:
    devices.probe.cache_clear()
    yield
    devices.probe.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, *usable: str) -> None:
    def report(device: Device) -> DeviceReport:
        works = device.provider in usable
        return DeviceReport(device=str(device), usable=works, detail=device.provider, remedy="mend it")

    monkeypatch.setattr(devices, "probe", report)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("auto", None),
        ("cpu", Device(provider="cpu")),
        ("openvino", Device(provider="openvino")),
        ("cuda", Device(provider="cuda")),
        ("cuda:3", Device(provider="cuda", index=3)),
        ("tensorrt:1", Device(provider="tensorrt", index=1)),
    ],
)
def test_names(text: str, device: Device | None) -> None:
    assert parse_device(text) == device
    if device is not None and ":" in text:
        assert str(device) == text


@pytest.mark.parametrize("text", ["", "gpu", "cpu:0", "openvino:1", "cuda:", "cuda:-1", "CUDA", "cuda:0 "])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(DeviceError) as caught:
        parse_device(text)
    assert "cuda:N" in caught.value.remedy


@pytest.mark.parametrize(
    ("usable", "chosen"),
    [
        (("cuda", "openvino", "cpu", "tensorrt"), "cuda"),
        (("openvino", "cpu"), "openvino"),
        (("cpu",), "cpu"),
    ],
)
def test_auto_takes_the_best_that_works(
    monkeypatch: pytest.MonkeyPatch, usable: tuple[str, ...], chosen: str
) -> None:
    pretend(monkeypatch, *usable)
    choice = choose_device("auto")
    assert choice.device.provider == chosen
    assert all(f"not {name}" in choice.because for name in ("cuda",) if name not in usable)


def test_auto_with_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(DeviceError, match="no runtime"):
        choose_device("auto")


def test_what_was_asked_for_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "cpu", "openvino")
    with pytest.raises(DeviceError, match="cuda:0 cannot be used") as caught:
        choose_device("cuda")
    assert caught.value.remedy == "mend it"


def test_probes_run_here_and_in_a_process_of_their_own() -> None:
    assert probe(Device(provider="cpu")).usable
    apart = {report.device: report for report in probe_devices()}
    assert apart["cpu"].usable
    assert not apart["cuda:0"].usable or apart["cuda:0"].detail
    assert apart["tensorrt:0"].usable or apart["tensorrt:0"].remedy


@pytest.mark.parametrize(
    ("code", "out", "err", "told"),
    [(-11, "", "Segmentation fault", "status -11: Segmentation fault"), (0, "", "", "status 0: no message")],
)
def test_a_probe_that_crashes_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str, told: str
) -> None:
    done = subprocess.CompletedProcess(args=[], returncode=code, stdout=out, stderr=err)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    report = probe_apart(Device(provider="cuda"))
    assert not report.usable
    assert told in report.detail
    assert report.remedy


def test_a_probe_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("probe", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    assert "no answer" in probe_apart(Device(provider="cuda")).detail


def test_a_provider_that_does_not_load_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists what it was compiled with and falls back by itself."""
    import onnxruntime as ort

    class Fallen:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def run(self, *_: object) -> list[float]:
            return [8.0]

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", Fallen)
    monkeypatch.setattr(devices, "preload_cuda", lambda: None)
    report = probe(Device(provider="cuda"))
    assert not report.usable
    assert "does not load" in report.detail


def test_a_provider_that_raises_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA failure 35: driver too old\nmore lines")

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", fail)
    monkeypatch.setattr(devices, "preload_cuda", lambda: None)
    assert probe(Device(provider="cuda")).detail == "CUDA failure 35: driver too old"


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def version(name: str) -> str:
        if name in names:
            return "1.30"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


def test_two_builds_of_the_runtime_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    conflict = onnxruntime_builds.runtime_conflict()
    assert conflict is not None
    assert "onnxruntime 1.30 and onnxruntime-gpu 1.30" in conflict.message
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in conflict.remedy
    report = probe(Device(provider="cuda"))
    if not report.usable:
        assert report.remedy == conflict.remedy


def test_one_build_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnxruntime")
    assert onnxruntime_builds.runtime_conflict() is None


def test_memory_of_cards() -> None:
    found = cards.parse_gpu_memory(
        "NVIDIA H100 80GB HBM3, 81559, 80000\nOdd, name, 100, 50\nbroken, [N/A], 1\n"
    )
    assert [card.name for card in found] == ["NVIDIA H100 80GB HBM3", "Odd, name"]
    assert found[0].free == 80000 << 20


def test_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert cards.gpu_memory() == ()
    assert cards.free_gpu_memory(0) is None


@pytest.mark.gpu
def test_cuda_really_runs() -> None:
    report = probe(Device(provider="cuda"))
    assert report.usable, report.detail
    assert report.free_memory
