"""Devices: how they are named, which one `auto` takes, and what really works here.

A provider list tells what a library was compiled with, not what loads. CUDA and TensorRT are
therefore believed only after a small graph ran on them.
"""

import contextlib
import importlib.util
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata

import numpy as np

from stemwright.core.errors import DeviceError, StemwrightError
from stemwright.models.sessions.cards import gpu_memory
from stemwright.models.sessions.onnxruntime_builds import onnxruntime_build, runtime_conflict
from stemwright.models.sessions.runtimes.contract import Provider

PROVIDERS: tuple[Provider, ...] = ("cuda", "tensorrt", "openvino", "cpu")
_ORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_PROBE_TIMEOUT_S = 120.0
_CPU_FALLBACK = "fallback to CPU EP has been explicitly disabled"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A provider and, for GPUs, the number of the card."""

    provider: Provider
    index: int = 0

    def __str__(self) -> str:
        """Name as the user writes it, with the card's number."""
        return f"{self.provider}:{self.index}" if self.provider in ("cuda", "tensorrt") else self.provider


@dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """The device to use and why, in one line."""

    device: Device
    because: str


@dataclass(frozen=True, kw_only=True)
class DeviceReport:
    """Outcome of a probe.

    Parameters
    ----------
    device
        Name as the user writes it.
    usable
        Whether a small graph really ran there.
    detail
        Hardware and library if usable, else the cause.
    remedy
        What to do if it is not usable; empty where nothing needs doing.
    total_memory, free_memory
        Bytes on the card, for GPUs.
    """

    device: str
    usable: bool
    detail: str
    remedy: str = ""
    total_memory: int | None = None
    free_memory: int | None = None


def parse_device(text: str) -> Device | None:
    """Parse a device name; None stands for `auto`.

    Raises
    ------
    DeviceError
        No device is called that.
    """
    if text == "auto":
        return None
    match = re.fullmatch(r"(cpu|openvino|cuda|tensorrt)(?::(\d{1,3}))?", text)
    if match is None or (match[2] is not None and match[1] in ("cpu", "openvino")):
        raise DeviceError(f"unknown device {text!r}", "use auto, cpu, openvino, cuda, cuda:N or tensorrt")
    for provider in PROVIDERS:
        if provider == match[1]:
            return Device(provider=provider, index=int(match[2] or 0))
    raise DeviceError(f"unknown device {text!r}", "use auto, cpu, openvino, cuda, cuda:N or tensorrt")


def choose_device(text: str, unfit: Mapping[Provider, str] | None = None) -> DeviceChoice:
    """Settle which device to use.

    `auto` takes CUDA if a probe runs there, else OpenVINO if it is installed, else ONNX Runtime on
    the CPU.

    Parameters
    ----------
    text
        Name of a device, or `auto`.
    unfit
        Providers that `auto` is to leave out, each with the reason.

    Raises
    ------
    DeviceError
        The device asked for cannot be used here.
    """
    asked = parse_device(text)
    if asked is None:
        return _automatic(unfit or {})
    report = probe(asked)
    if not report.usable:
        raise DeviceError(f"{asked} cannot be used: {report.detail}", report.remedy)
    return DeviceChoice(device=asked, because="asked for")


def _automatic(unfit: Mapping[Provider, str]) -> DeviceChoice:
    tried: list[str] = []
    order: tuple[Provider, ...] = ("cuda", "openvino", "cpu")
    for provider in order:
        if provider in unfit:
            tried.append(f"not {provider}: {unfit[provider]}")
            continue
        device = parse_device(provider)
        assert device is not None
        report = probe(device)
        if report.usable:
            because = f"the best that works here ({report.detail})"
            return DeviceChoice(device=device, because="; ".join([because, *tried]))
        tried.append(f"not {provider}: {report.detail}")
    raise DeviceError("no runtime for the network is installed", _install_remedy("cpu"))


@lru_cache(maxsize=32)
def probe(device: Device) -> DeviceReport:
    """Find out in this process whether a device works, by running a small graph on it."""
    try:
        if device.provider == "openvino":
            return _probe_openvino()
        return _probe_onnxruntime(device)
    except StemwrightError as error:
        return DeviceReport(device=str(device), usable=False, detail=error.message, remedy=error.remedy)


def probe_apart(device: Device) -> DeviceReport:
    """Probe in a process of its own, so that a crash of a driver is a finding, not the end."""
    command = [sys.executable, "-c", f"from {__name__} import main; main({str(device)!r})"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return DeviceReport(
            device=str(device),
            usable=False,
            detail=f"no answer within {_PROBE_TIMEOUT_S:.0f} s",
            remedy="check the driver with nvidia-smi",
        )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return DeviceReport(
            device=str(device),
            usable=False,
            detail=f"the probe ended with status {done.returncode}: {cause}",
            remedy=f"reinstall the runtime: {_install_remedy(device.provider)}",
        )
    return DeviceReport(**json.loads(lines[-1]))


def main(name: str) -> None:
    """Probe one device and print the report as JSON; the other half of `probe_apart`."""
    device = parse_device(name)
    if device is None:
        raise ValueError("auto is not a device")
    sys.stdout.write(json.dumps(asdict(probe(device))) + "\n")


def probe_devices() -> list[DeviceReport]:
    """Probe every provider in processes of their own: all CUDA cards, TensorRT, OpenVINO, CPU."""
    cards = max(1, len(gpu_memory()))
    devices = [Device(provider="cuda", index=index) for index in range(cards)]
    devices += [Device(provider="tensorrt"), Device(provider="openvino"), Device(provider="cpu")]
    return [probe_apart(device) for device in devices]


def _probe_openvino() -> DeviceReport:
    if importlib.util.find_spec("openvino") is None:
        return DeviceReport(
            device="openvino",
            usable=False,
            detail="openvino is not installed",
            remedy=_install_remedy("openvino"),
        )
    from stemwright.models.sessions.runtimes.openvino_core import openvino_core

    remedy = "pip install --force-reinstall openvino"
    try:
        core = openvino_core()
        compiled = core.compile_model(core.read_model(_probe_graph()), "CPU")
        got = compiled([np.ones((1, 4, 16), np.float32)])[0]
        name = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
    except Exception as error:  # OpenVINO raises RuntimeError and its children for everything
        return DeviceReport(device="openvino", usable=False, detail=_first_line(error), remedy=remedy)
    if not np.allclose(got, 8.0):
        return DeviceReport(device="openvino", usable=False, detail="it computes wrongly", remedy=remedy)
    return DeviceReport(device="openvino", usable=True, detail=f"OpenVINO {_version('openvino')} on {name}")


def _probe_onnxruntime(device: Device) -> DeviceReport:
    if importlib.util.find_spec("onnxruntime") is None:
        return DeviceReport(
            device=str(device),
            usable=False,
            detail="ONNX Runtime is not installed",
            remedy=_install_remedy(device.provider),
        )
    import onnxruntime as ort

    wanted = _ORT_NAMES[device.provider]
    conflict = runtime_conflict()
    if wanted not in ort.get_available_providers() and conflict is not None:
        return DeviceReport(device=str(device), usable=False, detail=conflict.message, remedy=conflict.remedy)
    if wanted not in ort.get_available_providers():
        return DeviceReport(
            device=str(device),
            usable=False,
            detail=f"{onnxruntime_build()} {ort.__version__} is built without {wanted}",
            remedy=_install_remedy(device.provider),
        )
    return _run_probe(device, wanted)


def _run_probe(device: Device, wanted: str) -> DeviceReport:
    import onnxruntime as ort

    remedy = "check the driver with nvidia-smi, and CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    options = ort.SessionOptions()
    options.log_severity_level = 4
    provider: tuple[str, dict[str, str]] = (wanted, {})
    if device.provider == "cpu":
        remedy = "pip install --force-reinstall 'stemwright[cpu]'"
    else:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        provider = (wanted, {"device_id": str(device.index)})
    probe_graph = _probe_graph()
    try:
        with _quiet_onnxruntime():
            if device.provider != "cpu":
                preload_cuda()
            session = ort.InferenceSession(probe_graph, options, providers=[provider])
            got = session.run(None, {"x": np.ones((1, 4, 16), np.float32)})[0]
    except Exception as error:  # ONNX Runtime raises bare exceptions of many kinds
        # A provider that does not load leaves its nodes to the CPU, and that is what is complained of.
        detail = _not_loading(wanted) if _CPU_FALLBACK in str(error) else _first_line(error)
        return DeviceReport(device=str(device), usable=False, detail=detail, remedy=remedy)
    if wanted not in session.get_providers():
        return DeviceReport(device=str(device), usable=False, detail=_not_loading(wanted), remedy=remedy)
    if not np.allclose(got, 8.0):
        return DeviceReport(device=str(device), usable=False, detail="it computes wrongly", remedy=remedy)
    if device.provider == "cpu":
        return DeviceReport(device="cpu", usable=True, detail=f"ONNX Runtime {ort.__version__}")
    cards = gpu_memory()
    card = cards[device.index] if device.index < len(cards) else None
    return DeviceReport(
        device=str(device),
        usable=True,
        detail=f"{card.name if card else 'GPU'}, ONNX Runtime {ort.__version__}",
        total_memory=card.total if card else None,
        free_memory=card.free if card else None,
    )


def preload_cuda() -> None:
    """Let ONNX Runtime load the CUDA and cuDNN libraries of the nvidia wheels, where it can."""
    import onnxruntime as ort

    if hasattr(ort, "preload_dlls"):
        told = io.StringIO()
        with contextlib.redirect_stdout(told):  # it prints what is missing among the program's own output
            ort.preload_dlls(directory="")
        for line in told.getvalue().splitlines():
            _LOG.info("ONNX Runtime: %s", line)


def _not_loading(provider: str) -> str:
    return f"{provider} does not load (driver, CUDA or cuDNN is missing or of another version)"


def _probe_graph() -> bytes:
    """Graph with one convolution and one matrix product, so that cuDNN and cuBLAS both load."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["y"]),
            helper.make_node("MatMul", ["y", "matrix"], ["z"]),
        ],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 16])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, 2])],
        [
            numpy_helper.from_array(np.full((4, 4, 1), 0.125, np.float32), "kernel"),
            numpy_helper.from_array(np.ones((16, 2), np.float32), "matrix"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet_onnxruntime() -> Iterator[None]:
    """Keep ONNX Runtime's own lines about a provider that fails to load off stderr."""
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def _install_remedy(provider: str) -> str:
    extra = {"openvino": "openvino", "cpu": "cpu"}.get(provider, "gpu")
    if extra == "gpu" and onnxruntime_build() != "none":
        # Both builds write the same files, so that the old one has to go first.
        return "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'stemwright[gpu]'"
    return f"pip install 'stemwright[{extra}]'"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version"
