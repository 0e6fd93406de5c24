"""What `stemwright doctor` looks at: each check gives findings, and each problem a remedy."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av

from stemwright.core.errors import StemwrightError
from stemwright.models.registry.store import ModelStore
from stemwright.models.sessions.cards import gpu_memory
from stemwright.models.sessions.devices import DeviceReport, probe_devices
from stemwright.models.sessions.hardware import available_memory, has_bfloat16, usable_cores
from stemwright.models.sessions.onnxruntime_builds import onnxruntime_build, runtime_conflict
from stemwright.models.sessions.runtimes.contract import default_cache_dir

State = Literal["ok", "note", "problem"]

_OLDEST_PYTHON = (3, 11)
# What the largest model takes while it runs, and what a song of stems takes on disk; chosen here.
_MEMORY_BYTES = 2 << 30
_DISK_BYTES = 2 << 30
_DECODERS = ("aac", "alac", "flac", "mp3", "opus", "pcm_s16le", "vorbis")
_ENCODERS = ("aac", "alac", "libmp3lame")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at.

    Parameters
    ----------
    subject
        What was looked at.
    state
        `problem` is something broken, `note` something that could be there and is not.
    detail
        What was found.
    remedy
        What to do; empty where nothing needs doing.
    """

    subject: str
    state: State
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, str | None]:
        """Return the finding as JSON data."""
        return {
            "subject": self.subject,
            "state": self.state,
            "detail": self.detail,
            "remedy": self.remedy or None,
        }


def examine() -> list[Finding]:
    """Make all checks."""
    return [
        *check_python(),
        *check_runtime(),
        *check_devices(probe_devices()),
        *check_memory(),
        *check_models(ModelStore()),
        *check_codecs(),
        *check_folders(default_cache_dir(), ModelStore().root),
    ]


def check_python() -> Iterator[Finding]:
    """Look at the interpreter."""
    version = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        wanted = ".".join(str(part) for part in _OLDEST_PYTHON)
        yield Finding(
            subject="Python",
            state="problem",
            detail=f"{version} is too old",
            remedy=f"use Python {wanted} or newer",
        )
    else:
        yield Finding(subject="Python", state="ok", detail=f"{version} at {sys.executable}")


def check_runtime() -> Iterator[Finding]:
    """Look whether exactly one build of ONNX Runtime is installed."""
    conflict = runtime_conflict()
    build = onnxruntime_build()
    if conflict is not None:
        yield Finding(
            subject="ONNX Runtime", state="problem", detail=conflict.message, remedy=conflict.remedy
        )
    elif build == "none":
        yield Finding(
            subject="ONNX Runtime",
            state="problem",
            detail="not installed",
            remedy="pip install 'stemwright[cpu]' or 'stemwright[gpu]'",
        )
    else:
        yield Finding(subject="ONNX Runtime", state="ok", detail=f"one build, {build}")


def check_devices(reports: list[DeviceReport]) -> Iterator[Finding]:
    """Tell which devices a small graph ran on; without any nothing can be separated."""
    cards = gpu_memory()
    for report in reports:
        detail, remedy = report.detail, report.remedy
        if report.free_memory is not None and report.total_memory is not None:
            detail += f", {_gib(report.free_memory)} of {_gib(report.total_memory)} free"
        state: State = "ok" if report.usable else "note"
        if not report.usable and report.device.startswith(("cuda", "tensorrt")):
            if not cards:
                detail, remedy = "no NVIDIA card, or its driver is not installed", ""
            elif report.device.startswith("cuda") and onnxruntime_build() == "onnxruntime-gpu":
                state = "problem"
        yield Finding(subject=f"device {report.device}", state=state, detail=detail, remedy=remedy)
    if not any(report.usable for report in reports):
        yield Finding(
            subject="devices",
            state="problem",
            detail="none can be used",
            remedy="pip install --force-reinstall 'stemwright[cpu]'",
        )


def check_memory() -> Iterator[Finding]:
    """Look at cores and memory."""
    extra = ", with bfloat16" if has_bfloat16() else ""
    yield Finding(subject="CPU", state="ok", detail=f"{usable_cores()} cores for this process{extra}")
    free = available_memory()
    if free is not None and free < _MEMORY_BYTES:
        yield Finding(
            subject="memory",
            state="note",
            detail=f"{_gib(free)} free",
            remedy="use --low-memory, or close other programs",
        )
    elif free is not None:
        yield Finding(subject="memory", state="ok", detail=f"{_gib(free)} free")


def check_models(store: ModelStore) -> Iterator[Finding]:
    """Check every installed model against its hashes."""
    try:
        names = store.names()
    except StemwrightError as error:
        yield Finding(subject="models", state="problem", detail=error.message, remedy=error.remedy)
        return
    if not names:
        yield Finding(
            subject="models",
            state="note",
            detail=f"none in {store.root}",
            remedy="stemwright models pull htdemucs",
        )
    for name in names:
        try:
            model = store.verify(name)
        except StemwrightError as error:
            yield Finding(subject=f"model {name}", state="problem", detail=error.message, remedy=error.remedy)
        else:
            detail = f"whole, {', '.join(model.manifest.stems)}"
            yield Finding(subject=f"model {name}", state="ok", detail=detail)


def check_codecs() -> Iterator[Finding]:
    """Look which decoders and encoders PyAV brings."""
    modes: tuple[tuple[str, tuple[str, ...], Literal["r", "w"]], ...] = (
        ("decoders", _DECODERS, "r"),
        ("encoders", _ENCODERS, "w"),
    )
    for subject, names, mode in modes:
        missing = [name for name in names if not _has_codec(name, mode)]
        if missing:
            yield Finding(
                subject=subject,
                state="problem",
                detail=f"PyAV {av.__version__} has no {', '.join(missing)}",
                remedy="pip install --force-reinstall av",
            )
        else:
            yield Finding(subject=subject, state="ok", detail=f"PyAV {av.__version__}: {', '.join(names)}")


def check_folders(cache: Path, models: Path) -> Iterator[Finding]:
    """Look whether the folders can be written and have room."""
    for subject, folder in (("cache folder", cache), ("models folder", models)):
        place = _existing(folder)
        free = shutil.disk_usage(place).free
        if not os.access(place, os.W_OK | os.X_OK):
            state: State = "note" if subject == "cache folder" else "problem"
            yield Finding(
                subject=subject,
                state=state,
                detail=f"{folder} cannot be written",
                remedy="mend its permissions, or set XDG_CACHE_HOME or STEMWRIGHT_MODELS to another folder",
            )
        elif free < _DISK_BYTES:
            yield Finding(
                subject=subject,
                state="problem",
                detail=f"{folder} has {_gib(free)} left",
                remedy="free some space, or set XDG_CACHE_HOME or STEMWRIGHT_MODELS to another disk",
            )
        else:
            yield Finding(subject=subject, state="ok", detail=f"{folder}, {_gib(free)} free")


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.codec.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _existing(folder: Path) -> Path:
    """Nearest folder above that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
