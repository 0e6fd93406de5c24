"""Whether a runtime computes a model rightly on this machine: found out once, then remembered.

Kernels are chosen by the processor, and one that is wrong gives stems that look like stems: OpenVINO's
float32 was seen to put an error of -14 dB of the mixture into one stem on one machine, and none on
others. So the first time that a model is opened on anything but ONNX Runtime's CPU provider, one
window goes through both, on the CPU through the graph as it is stored, and the stems are compared.
Only norms over all channels are written otherwise first: the CPU provider's own ones are off by -50 dB
over the tens of millions of values that they have in Demucs v3.
"""

import hashlib
import json
import logging
import platform
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import OutOfMemoryError
from stemwright.models.graphs.roles import model_inputs, stems_from_outputs
from stemwright.models.manifest import Graph, Manifest, Precision
from stemwright.models.sessions.cards import gpu_memory
from stemwright.models.sessions.hardware import cpu_flags, usable_cores
from stemwright.models.sessions.rewrites.pipeline import CONSTANTS, PLAIN_NORMS, Plan, prepared_graph
from stemwright.models.sessions.runtimes.contract import ModelFiles, Session, SessionFacts

_LOG = logging.getLogger(__name__)
_VERSION = 2

ALLOWED_DB: dict[Precision, float] = {"float32": -50.0, "float16": -20.0, "bfloat16": -15.0, "int8": -12.0}
"""Largest error relative to the stems, in dB. Chosen here: a lower precision's own error lies 10 dB and
more below (HTDemucs: float32 -80 dB, bfloat16 -33 dB, int8 -30 dB), a wrong kernel's above."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Error of a runtime's stems relative to the reference's, in dB, and whether it is acceptable."""

    error_db: float
    agrees: bool


def crosscheck(model: ModelFiles, session: Session, cache_dir: Path) -> Verdict | None:
    """Compare a session with ONNX Runtime's CPU provider, or recall the result from before.

    Parameters
    ----------
    model
        The model.
    session
        Its session on another provider.
    cache_dir
        Where verdicts are kept. If it cannot be written the check is made anew each time.

    Returns
    -------
    Verdict or None
        None if there is nothing to compare with: no ONNX Runtime, or not enough memory for it.
    """
    path = cache_dir / "checks" / f"{_key(model, session.facts)}.json"
    kept = _recall(path)
    if kept is not None:
        return kept
    _LOG.info(
        "first use of %s on %s: comparing one window with the CPU",
        model.manifest.name,
        session.facts.device,
    )
    window = _test_window(model.manifest)
    try:
        expected = _reference(model, window)
    except (ImportError, OutOfMemoryError) as reason:
        _LOG.warning("%s was not compared with the CPU: %s", model.manifest.name, reason)
        return None
    calls = session.facts.parallel_calls
    with ThreadPoolExecutor(calls) as executor:  # all streams of the runtime at once, as in use
        found = list(
            executor.map(lambda _: _stems(model.manifest, session.graph, window, session), range(calls))
        )
    error_db = max(_error_db(stems, expected) for stems in found)
    verdict = Verdict(error_db=error_db, agrees=error_db <= ALLOWED_DB[session.facts.precision])
    _keep(path, verdict)
    return verdict


def _error_db(found: FloatArray, expected: FloatArray) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    error = float(np.sum(np.square(found.astype(np.float64) - expected)))
    power = float(np.sum(np.square(expected, dtype=np.float64)))
    return float(10 * np.log10(max(error, 1e-30) / max(power, 1e-30)))


def _reference(model: ModelFiles, window: FloatArray) -> FloatArray:
    """Stems by the stored graph, its norms written as means."""
    from stemwright.models.sessions.runtimes.onnxruntime import OnnxRuntimeSession, runtime_name

    facts = SessionFacts(
        provider="cpu",
        device="cpu",
        runtime=runtime_name(),
        precision="float32",
        threads=usable_cores(),
        parallel_calls=1,
        batch_limit=1,
        chosen_because="reference",
    )
    graph = model.manifest.graph
    plan = Plan(rewrites=(CONSTANTS, PLAIN_NORMS), runtime=runtime_name())
    with (
        tempfile.TemporaryDirectory(prefix="stemwright-") as scratch,
        prepared_graph(model.graph_path, model.sha256, plan, cache_dir=Path(scratch)) as prepared,
    ):
        session = OnnxRuntimeSession(prepared.path, graph, facts)
    try:
        return _stems(model.manifest, graph, window, session)
    finally:
        session.close()


def _stems(manifest: Manifest, graph: Graph, window: FloatArray, session: Session) -> FloatArray:
    inputs = model_inputs(graph, window)
    arrays = dict(inputs.arrays)
    if manifest.query is not None:
        size = manifest.query.size
        port = next(port.name for port in graph.inputs if port.role == "condition")
        arrays[port] = np.linspace(1, 0, size, dtype=np.float32)[None]
    for tensor in graph.state:
        arrays[tensor.input] = np.full(tensor.shape, tensor.initial, tensor.dtype)
    return stems_from_outputs(graph, session.run(arrays), inputs.spectrum, window.shape[-1])


def _test_window(manifest: Manifest) -> FloatArray:
    """Return a window of decaying chords, clicks and a little noise, at the level that the network takes."""
    channels = manifest.audio.channels if manifest.audio.mode == "native" else 1
    samples, rate = manifest.plan.input_samples, manifest.audio.sample_rate
    generator = np.random.default_rng(0)
    times = np.arange(samples) / rate
    sound = 0.01 * generator.standard_normal((channels, samples))
    for beat in np.arange(0, times[-1], 0.4):
        since = times - beat
        decay = np.where(since >= 0, np.exp(-np.maximum(since, 0) * 6), 0)
        pitch = 55.0 * 2 ** (generator.integers(0, 48) / 12)
        for partial in range(1, 6):
            if pitch * partial < rate / 2:
                pan = generator.uniform(0.3, 1, (channels, 1))
                sound += pan * decay * np.sin(2 * np.pi * pitch * partial * since) / partial
        burst = np.where((since >= 0) & (since < 0.02), 1, 0)
        sound += 0.5 * burst * generator.standard_normal((channels, samples))
    level = 1.0 if manifest.normalisation is not None else 0.1
    return np.asarray(sound * (level / sound.std()), np.float32)[None]


def _key(model: ModelFiles, facts: SessionFacts) -> str:
    hardware = sorted(cpu_flags())
    if facts.provider in ("cuda", "tensorrt"):
        hardware += [card.name for card in gpu_memory()]
    parts = [
        str(_VERSION),
        model.sha256,
        facts.device,
        facts.runtime,
        facts.precision,
        *facts.rewrites,
        platform.machine(),
        *hardware,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _recall(path: Path) -> Verdict | None:
    try:
        told = json.loads(path.read_text())
        return Verdict(error_db=float(told["error_db"]), agrees=bool(told["agrees"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, verdict: Verdict) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(verdict)))
    except OSError as error:
        _LOG.warning("cannot keep the result of a check in %s: %s", path.parent, error)
