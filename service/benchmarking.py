"""Measuring providers against each other: a process for each, warmed up, taking turns."""

import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import open_source
from stemwright.core.errors import DeviceError, InputError
from stemwright.models.manifest import Precision
from stemwright.models.registry.store import ModelStore, open_model
from stemwright.models.sessions.devices import parse_device, probe_apart, probe_devices

_GPU_PRECISIONS: tuple[Precision, ...] = ("float32", "float16")
_CHANNELS = 2

# Built with the published settings; the weights are random, because speed does not depend on them.
_PEER = """
import json, resource, sys, time
from fractions import Fraction
import numpy, torch
from demucs.apply import apply_model
from demucs.htdemucs import HTDemucs
audio, threads = sys.argv[1], int(sys.argv[2])
if threads:
    torch.set_num_threads(threads)
torch.manual_seed(0)
stems = ["drums", "bass", "other", "vocals"]
model = HTDemucs(stems, bottom_channels=512, dconv_mode=3, segment=Fraction(39, 5))
model.eval()
mixture = torch.from_numpy(numpy.load(audio))[None]
def turn():
    cpu, wall = time.process_time(), time.perf_counter()
    with torch.inference_mode():
        apply_model(model, mixture, shifts=0)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu,
            "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
turn()
print(json.dumps({"ready": True, "runtime": "torch " + torch.__version__}), flush=True)
for _ in sys.stdin:
    print(json.dumps(turn()), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """What to measure.

    Parameters
    ----------
    model
        Name or path.
    audio
        A recording; None for generated music.
    seconds
        Length to separate.
    rounds
        Turns of each contender.
    threads
        CPU threads; None for each one's own choice.
    peer
        Whether to measure the demucs package beside, if it is installed.
    """

    model: str
    audio: Path | None = None
    seconds: float = 30.0
    rounds: int = 3
    threads: int | None = None
    peer: bool = True


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One thing to measure: a device and precision, or the demucs package (device `demucs`)."""

    device: str
    precision: Precision

    @property
    def label(self) -> str:
        """Name in the table."""
        return self.device if self.device == "demucs" else f"{self.device} {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a contender took.

    Parameters
    ----------
    contender
        What was measured.
    runtime
        Library and version.
    wall_s, cpu_s
        Seconds of each turn.
    peak_mib
        Peak of memory of its process.
    error
        Why it could not be measured; empty if it was.
    """

    contender: Contender
    runtime: str = ""
    wall_s: tuple[float, ...] = ()
    cpu_s: tuple[float, ...] = ()
    peak_mib: float = 0.0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Results:
    """All measurements; the first that succeeded is what the others are compared with."""

    seconds: float
    measurements: tuple[Measurement, ...]

    @property
    def reference(self) -> Measurement | None:
        """What ratios are against."""
        return next((one for one in self.measurements if not one.error), None)

    def ratios(self, one: Measurement) -> tuple[float, float]:
        """How many times faster than the reference, by wall and by CPU time: medians over the rounds."""
        reference = self.reference
        if reference is None or one.error:
            raise ValueError("only what was measured has a ratio")
        return (
            statistics.median(a / b for a, b in zip(reference.wall_s, one.wall_s, strict=True)),
            statistics.median(a / b for a, b in zip(reference.cpu_s, one.cpu_s, strict=True)),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the results as JSON data."""
        return {
            "audio_seconds": self.seconds,
            "reference": self.reference.contender.label if self.reference else None,
            "results": [self._row(one) for one in self.measurements],
        }

    def _row(self, one: Measurement) -> dict[str, Any]:
        row: dict[str, Any] = {"device": one.contender.device, "precision": one.contender.precision}
        if one.error:
            return row | {"error": one.error}
        wall, cpu = self.ratios(one)
        return row | {
            "runtime": one.runtime,
            "real_time_factor": statistics.median(one.wall_s) / self.seconds,
            "wall_s": list(one.wall_s),
            "cpu_s": list(one.cpu_s),
            "times_faster_wall": wall,
            "times_faster_cpu": cpu,
            "peak_mib": one.peak_mib,
        }


def chosen_contenders(plan: BenchPlan, wanted: tuple[str, ...]) -> tuple[Contender, ...]:
    """List what is to be measured.

    Parameters
    ----------
    plan
        Its model and whether the demucs package is wanted.
    wanted
        `DEVICE` or `DEVICE:PRECISION`; empty for all that work here.

    Raises
    ------
    DeviceError
        A device asked for that is unknown or does not work.
    """
    if wanted:
        found = [contender for text in wanted for contender in _asked(text)]
    else:
        usable = [report.device for report in probe_devices() if report.usable]
        found = [contender for device in usable for contender in _with_precisions(device)]
    family = open_model(plan.model, ModelStore()).manifest.family
    if plan.peer and family == "demucs" and importlib.util.find_spec("demucs") is not None:
        found.insert(0, Contender(device="demucs", precision="float32"))
    return tuple(found)


def _asked(text: str) -> list[Contender]:
    name, _, last = text.rpartition(":")
    precisions: dict[str, Precision] = {
        "float32": "float32",
        "bfloat16": "bfloat16",
        "float16": "float16",
        "int8": "int8",
    }
    device = parse_device(name if last in precisions else text)
    if device is None:
        raise DeviceError("auto is not a device to measure", "name one, for example openvino:bfloat16")
    report = probe_apart(device)
    if not report.usable:
        raise DeviceError(f"{device} cannot be used: {report.detail}", report.remedy)
    if last in precisions:
        return [Contender(device=str(device), precision=precisions[last])]
    return _with_precisions(str(device))


def _with_precisions(device: str) -> list[Contender]:
    if device == "openvino":
        from stemwright.models.sessions.runtimes.openvino import possible_precisions as possible
    elif device == "cpu":
        from stemwright.models.sessions.runtimes.onnxruntime import possible_precisions as possible
    else:
        return [Contender(device=device, precision=precision) for precision in _GPU_PRECISIONS]
    exact_first = sorted(possible(), key=lambda precision: (precision != "float32", precision))
    return [Contender(device=device, precision=precision) for precision in exact_first]


def run(plan: BenchPlan, contenders: tuple[Contender, ...]) -> Results:
    """Measure all contenders.

    Raises
    ------
    InputError
        The recording cannot be read.
    ModelNotFoundError, ModelFileError
        The model is not installed, or damaged.
    """
    rate = open_model(plan.model, ModelStore()).manifest.audio.sample_rate
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stemwright-bench-")))
        samples = _music(plan, rate)
        np.save(folder / "audio.npy", samples)
        racers = [
            stack.enter_context(_Racer.started(plan, contender, folder / "audio.npy", rate))
            for contender in contenders
        ]
        for racer in racers:
            racer.wait_until_ready()
        for _ in range(plan.rounds):
            for racer in racers:
                racer.take_turn()
        return Results(
            seconds=samples.shape[1] / rate,
            measurements=tuple(racer.measurement() for racer in racers),
        )


class _Racer:
    """The process of one contender."""

    def __init__(self, contender: Contender, process: "subprocess.Popen[str]", log: Path) -> None:
        self._contender = contender
        self._process = process
        self._log = log
        self._runtime = ""
        self._turns: list[dict[str, float]] = []
        self._error = ""

    @classmethod
    @contextlib.contextmanager
    def started(cls, plan: BenchPlan, contender: Contender, audio: Path, rate: int) -> Iterator["_Racer"]:
        threads = plan.threads or 0
        if contender.device == "demucs":
            command = [sys.executable, "-c", _PEER, str(audio), str(threads)]
        else:
            arguments = (plan.model, str(audio), rate, contender.device, contender.precision, threads)
            code = f"from stemwright.service.bench_worker import main; main(*{arguments!r})"
            command = [sys.executable, "-c", code]
        log = audio.with_name(f"{contender.label.replace(' ', '-').replace(':', '-')}.log")
        with log.open("w") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        try:
            yield cls(contender, process, log)
        finally:
            process.kill()
            process.communicate()

    def wait_until_ready(self) -> None:
        answer = self._answer()
        self._runtime = str(answer.get("runtime", ""))

    def take_turn(self) -> None:
        if self._error or self._process.stdin is None:
            return
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._error = self._last_words()
            return
        answer = self._answer()
        if not self._error:
            self._turns.append(answer)

    def measurement(self) -> Measurement:
        if self._error:
            return Measurement(contender=self._contender, error=self._error)
        return Measurement(
            contender=self._contender,
            runtime=self._runtime,
            wall_s=tuple(turn["wall_s"] for turn in self._turns),
            cpu_s=tuple(turn["cpu_s"] for turn in self._turns),
            peak_mib=max(turn["peak_kib"] for turn in self._turns) / 1024,
        )

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        self._error = str(answer.get("error", ""))
        return answer

    def _last_words(self) -> str:
        words = self._log.read_text(errors="replace").strip().splitlines()
        return f"its process ended: {words[-1][:200] if words else 'no message'}"


def _music(plan: BenchPlan, rate: int) -> FloatArray:
    """Read the recording as stereo at the model's rate, or generate music."""
    if plan.audio is None:
        return generated_music(plan.seconds, rate)
    with open_source(plan.audio, end_s=plan.seconds) as source:
        blocks = list(source.blocks())
        if not blocks:
            raise InputError(f"{plan.audio} holds no sound", "name another recording")
        samples, found = np.concatenate(blocks, axis=1), source.info.sample_rate
    stereo = samples[[0, min(1, samples.shape[0] - 1)]]
    if found != rate:
        stereo = soxr.resample(stereo.T, found, rate).T
    return np.ascontiguousarray(stereo, np.float32)


def generated_music(seconds: float, rate: int, seed: int = 0) -> FloatArray:
    """Chords, a bass line and noisy beats, the same for the same seed: [2, seconds * rate]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate), dtype=np.float32) / np.float32(rate)
    beat = (time * 2).astype(np.int64)
    roots = rng.choice([110.0, 130.8, 146.8, 164.8], size=int(beat[-1]) + 1)[beat].astype(np.float32)
    chord = sum(np.sin(2 * np.pi * np.cumsum(roots * ratio) / rate) for ratio in (1.0, 1.25, 1.5, 2.0))
    bass = np.sin(2 * np.pi * np.cumsum(roots / 2) / rate)
    hits = rng.standard_normal((_CHANNELS, time.size)).astype(np.float32) * np.exp(-12 * (time * 2 % 1))
    return np.asarray(0.08 * chord + 0.15 * bass + 0.1 * hits, np.float32)
