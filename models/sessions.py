"""Sessions: one loaded graph on the device that was asked for, or the best that works.

What was asked for and cannot be had is an error with a remedy; nothing falls back unasked.
"""

from contextlib import AbstractContextManager

from stemwright.core.errors import DeviceError, OptionError
from stemwright.models.devices import choose_device, probe_devices
from stemwright.models.hardware import usable_cores
from stemwright.models.precisions import choose_precision
from stemwright.models.rewrites.pipeline import (
    ATTENTION,
    CONSTANTS,
    GATED_NORMS,
    GATES,
    INT8,
    MOVES,
    TRANSPOSED,
    PreparedGraph,
    Rewrite,
    prepared_graph,
)
from stemwright.models.runtimes.contract import (
    FloatArray,
    ModelFiles,
    PrecisionChoice,
    Provider,
    Session,
    SessionFacts,
    SessionOptions,
)

__all__ = [
    "FloatArray",
    "ModelFiles",
    "PrecisionChoice",
    "Provider",
    "Session",
    "SessionFacts",
    "SessionOptions",
    "open_session",
    "probe_devices",
]


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
        The device or precision asked for is not to be had.
    ModelFileError
        The graph is damaged or does not fit its manifest.
    OptionError
        A nonsensical number of threads.
    OutOfMemoryError
        The weights do not fit.
    """
    if options.threads is not None and options.threads < 1:
        raise OptionError(f"{options.threads} threads make no sense", "use 1 or more, or leave it out")
    threads = options.threads or usable_cores()
    choice = choose_device(options.device)
    if choice.device.provider == "openvino":
        return _open_openvino(model, options, choice.because, threads)
    if choice.device.provider == "cpu":
        return _open_cpu(model, options, choice.because, threads)
    raise DeviceError(f"{choice.device} is not supported yet", "use cpu or openvino")


def _open_cpu(model: ModelFiles, options: SessionOptions, because: str, threads: int) -> Session:
    from stemwright.models.runtimes.onnxruntime import (
        OnnxRuntimeSession,
        possible_precisions,
        runtime_name,
    )

    precision, why = choose_precision(model.manifest, "cpu", options.precision, possible_precisions())
    rewrites: tuple[Rewrite, ...] = (CONSTANTS, ATTENTION, GATED_NORMS, GATES, TRANSPOSED, MOVES)
    if precision == "int8":
        rewrites = (*rewrites, INT8)
    with _prepared(model, options, rewrites, runtime_name()) as prepared:
        facts = SessionFacts(
            provider="cpu",
            device="cpu",
            runtime=runtime_name(),
            precision=precision,
            threads=threads,
            parallel_calls=1,
            batch_limit=1,
            chosen_because=f"{because}; {why}",
            rewrites=prepared.rewrites,
        )
        return OnnxRuntimeSession(prepared.path, model.manifest.graph, facts, arena=not options.low_memory)


def _open_openvino(model: ModelFiles, options: SessionOptions, because: str, threads: int) -> Session:
    from stemwright.models.runtimes.openvino import (
        OpenVinoPlan,
        OpenVinoSession,
        possible_precisions,
        runtime_name,
    )

    precision, why = choose_precision(model.manifest, "openvino", options.precision, possible_precisions())
    rewrites: tuple[Rewrite, ...] = (CONSTANTS, GATES, TRANSPOSED, MOVES)
    if precision == "float32":
        # Not in bfloat16: the statistics would be computed in it, which costs 10 dB of accuracy.
        rewrites = (CONSTANTS, GATED_NORMS, GATES, TRANSPOSED, MOVES)
    with _prepared(model, options, rewrites, runtime_name()) as prepared:
        facts = SessionFacts(
            provider="openvino",
            device="cpu",
            runtime=runtime_name(),
            precision=precision,
            threads=threads,
            parallel_calls=1,
            batch_limit=1,
            chosen_because=f"{because}; {why}",
            rewrites=prepared.rewrites,
        )
        plan = OpenVinoPlan(streams=1, cache_dir=options.cache_dir / "openvino")
        return OpenVinoSession(prepared.path, model.manifest.graph, facts, plan)


def _prepared(
    model: ModelFiles, options: SessionOptions, rewrites: tuple[Rewrite, ...], runtime: str
) -> AbstractContextManager[PreparedGraph]:
    return prepared_graph(
        model.graph_path, model.sha256, rewrites, runtime=runtime, cache_dir=options.cache_dir
    )
