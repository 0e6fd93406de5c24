"""Sessions: one loaded graph on the device that was asked for, or the best that works.

What was asked for and cannot be had is an error with a remedy; nothing falls back unasked.
"""

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import onnx

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import DeviceError, OptionError
from stemwright.models.graphs.roles import model_inputs
from stemwright.models.graphs.transforms import (
    standalone_graph,
    standalone_model,
    stems_given,
    why_not_standalone,
)
from stemwright.models.manifest import Graph, Manifest, Precision
from stemwright.models.sessions.cards import free_gpu_memory
from stemwright.models.sessions.crosscheck import crosscheck
from stemwright.models.sessions.devices import DeviceChoice, choose_device, probe_devices
from stemwright.models.sessions.hardware import usable_cores
from stemwright.models.sessions.onnxruntime_builds import runtime_conflict
from stemwright.models.sessions.precisions import choose_precision
from stemwright.models.sessions.rewrites.halves import in_float16
from stemwright.models.sessions.rewrites.pipeline import (
    ATTENTION,
    CONSTANTS,
    GATED_NORMS,
    GATES,
    INT8,
    INT8_WEIGHTS,
    LAYER_NORMS,
    MOVES,
    PLAIN_NORMS,
    TRANSPOSED,
    WEIGHTS,
    Plan,
    PreparedGraph,
    Rewrite,
    prepared_graph,
)
from stemwright.models.sessions.runtimes.contract import (
    ModelFiles,
    PrecisionChoice,
    Provider,
    Session,
    SessionFacts,
    SessionOptions,
)

__all__ = [
    "ModelFiles",
    "PrecisionChoice",
    "Provider",
    "Session",
    "SessionFacts",
    "SessionOptions",
    "open_session",
    "probe_devices",
]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What is to be opened, and on which device."""

    model: ModelFiles
    options: SessionOptions
    choice: DeviceChoice
    threads: int

    def precision(self, possible: frozenset[Precision]) -> tuple[Precision, str]:
        return choose_precision(
            self.model.manifest, self.choice.device.provider, self.options.precision, possible
        )

    def prepared(self, plan: Plan) -> AbstractContextManager[PreparedGraph]:
        return prepared_graph(
            self.model.graph_path, self.model.sha256, plan, cache_dir=self.options.cache_dir
        )

    @property
    def _parallel_calls(self) -> int:
        # Two calls side by side on half the cores each wait less at their joints than one on all.
        on_cpu = self.choice.device.provider in ("cpu", "openvino")
        return min(2, self.threads) if on_cpu and not self.options.low_memory else 1

    def facts(self, prepared: PreparedGraph, *, runtime: str, precision: Precision, why: str) -> SessionFacts:
        return SessionFacts(
            provider=self.choice.device.provider,
            device=str(self.choice.device),
            runtime=runtime,
            precision=precision,
            threads=self.threads,
            parallel_calls=self._parallel_calls,
            batch_limit=1,
            chosen_because=f"{self.choice.because}; {why}",
            rewrites=prepared.rewrites,
        )


def open_session(model: ModelFiles, options: SessionOptions) -> Session:
    """Load a model's graph.

    Parameters
    ----------
    model
        An installed model.
    options
        Device, precision, threads, memory, place of the caches.

    Raises
    ------
    DeviceError
        The device or precision asked for is not to be had, or computes wrongly on this machine.
    ModelFileError
        The graph is damaged or does not fit its manifest.
    OptionError
        A nonsensical number of threads.
    OutOfMemoryError
        The weights do not fit.
    """
    if options.threads is not None and options.threads < 1:
        raise OptionError(f"{options.threads} threads make no sense", "use 1 or more, or leave it out")
    conflict = runtime_conflict()
    if conflict is not None:
        _LOG.warning("%s; %s", conflict.message, conflict.remedy)
    unfit: dict[Provider, str] = {}
    if any(tensor.dtype == "float64" for tensor in model.manifest.graph.state):
        unfit["openvino"] = "it keeps states in single precision, whose sums drift over an hour"
    while True:
        choice = choose_device(options.device, unfit)
        threads = options.threads or usable_cores()
        session = _open(_Request(model=model, options=options, choice=choice, threads=threads))
        if choice.device.provider == "cpu":
            return session
        verdict = crosscheck(model, session, options.cache_dir)
        if verdict is None or verdict.agrees:
            return session
        session.close()
        wrong = f"its stems of {model.manifest.name} differ from the CPU's by {verdict.error_db:.0f} dB"
        if options.device != "auto":
            raise DeviceError(
                f"{choice.device} computes wrongly here: {wrong}", "use --device cpu, or update the runtime"
            )
        _LOG.warning("%s is not used: %s", choice.device, wrong)
        unfit[choice.device.provider] = wrong


def _open(request: _Request) -> Session:
    if request.choice.device.provider == "openvino":
        return _open_openvino(request)
    if request.choice.device.provider == "cpu":
        return _open_cpu(request)
    return _open_gpu(request)


def _open_cpu(request: _Request) -> Session:
    from stemwright.models.sessions.runtimes.onnxruntime import (
        OnnxRuntimeSession,
        possible_precisions,
        runtime_name,
    )

    precision, why = request.precision(possible_precisions())
    rewrites: tuple[Rewrite, ...] = (CONSTANTS, ATTENTION, GATED_NORMS, PLAIN_NORMS, GATES, TRANSPOSED, MOVES)
    if precision == "int8":
        rewrites = (*rewrites, INT8)
    with request.prepared(Plan(rewrites=rewrites, runtime=runtime_name())) as prepared:
        facts = request.facts(prepared, runtime=runtime_name(), precision=precision, why=why)
        return OnnxRuntimeSession(prepared.path, request.model.manifest.graph, facts)


def _open_openvino(request: _Request) -> Session:
    from stemwright.models.sessions.runtimes.openvino import (
        OpenVinoPlan,
        OpenVinoSession,
        possible_precisions,
        runtime_name,
    )

    precision, why = request.precision(possible_precisions())
    rewrites: tuple[Rewrite, ...] = (CONSTANTS, GATED_NORMS, LAYER_NORMS, GATES, TRANSPOSED, MOVES)
    if precision == "int8":
        rewrites = (*rewrites, INT8_WEIGHTS)
    elif precision != "float32":
        # A folded norm's statistics would be computed in the lower precision, which costs 3 dB of
        # accuracy; OpenVINO's own norm computes them in float32.
        rewrites = (CONSTANTS, GATES, TRANSPOSED, MOVES)
    with request.prepared(Plan(rewrites=rewrites, runtime=runtime_name())) as prepared:
        facts = request.facts(prepared, runtime=runtime_name(), precision=precision, why=why)
        plan = OpenVinoPlan(streams=facts.parallel_calls, cache_dir=request.options.cache_dir / "openvino")
        return OpenVinoSession(prepared.path, request.model.manifest.graph, facts, plan)


def probe_inputs(graph: Graph, manifest: Manifest, item: tuple[int, int]) -> dict[str, FloatArray]:
    """Make the inputs of one call on silence, as a session of this signature takes them."""
    size = 1 if manifest.query is None else manifest.query.size
    condition = np.zeros((1, size), np.float32)
    arrays = model_inputs(graph, np.zeros((1, *item), np.float32), condition=condition).arrays
    for tensor in graph.state:
        arrays[tensor.input] = np.full(tensor.shape, tensor.initial, np.dtype(tensor.dtype))
    return arrays


def _open_gpu(request: _Request) -> Session:
    from stemwright.models.sessions.runtimes import gpu
    from stemwright.models.sessions.runtimes.onnxruntime import runtime_name

    manifest, device = request.model.manifest, request.choice.device
    precision, why = request.precision(frozenset({"float32", "float16"}))
    channels = manifest.audio.channels if manifest.audio.mode == "native" else 1
    item = (channels, manifest.plan.input_samples)
    # The transforms go onto the card, unless the host alone knows what they need.
    inside = why_not_standalone(manifest) is None

    def finish(model: onnx.ModelProto) -> onnx.ModelProto:
        core = in_float16(model) if precision == "float16" and device.provider == "cuda" else model
        if not inside:
            return core
        return standalone_model(core, manifest.graph, channels, stems_given(model, manifest), item[1])

    graph = standalone_graph(manifest.graph) if inside else manifest.graph
    probe = probe_inputs(graph, manifest, item)
    key = f"2 standalone={inside:d} {precision} {device.provider} {item} {manifest.graph.model_dump_json()}"
    cuda = ("CUDAExecutionProvider", gpu.cuda_options(device.index))
    with request.prepared(
        Plan(rewrites=(WEIGHTS,), runtime=runtime_name(), finish=finish, finish_key=key)
    ) as prepared:
        providers = [cuda]
        if device.provider == "tensorrt":
            cache = request.options.cache_dir / "tensorrt" / prepared.key
            cache.mkdir(parents=True, exist_ok=True)
            half = precision == "float16"
            # Calls of several lengths would each need a profile of their own.
            fixed = manifest.plan.time == "fixed" and graph.batch == "dynamic"
            shapes = {name: array.shape[1:] for name, array in probe.items()} if fixed else {}
            options = gpu.tensorrt_options(device.index, cache=cache, shapes=shapes, half=half)
            providers = [("TensorrtExecutionProvider", options), cuda]
        facts = request.facts(prepared, runtime=runtime_name(), precision=precision, why=why)
        plan = gpu.GpuPlan(
            providers=providers,
            device_type="cuda",
            device_id=device.index,
            probe=probe,
            free_memory=lambda: free_gpu_memory(device.index),
        )
        return gpu.GpuSession(prepared.path, graph, facts, plan)
