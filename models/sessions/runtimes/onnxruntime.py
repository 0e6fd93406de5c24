"""ONNX Runtime on the CPU."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError, ModelFileError, OutOfMemoryError
from stemwright.models.manifest import Graph, Precision
from stemwright.models.sessions.hardware import cpu_flags
from stemwright.models.sessions.runtimes.batching import run_graph
from stemwright.models.sessions.runtimes.contract import SessionFacts

_OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate", "out of memory", "OUT_OF_MEMORY", "CUDA failure 2")


class OnnxRuntimeSession:
    """A graph loaded by ONNX Runtime on the CPU.

    Parameters
    ----------
    path
        ONNX file, read by the runtime itself so that the weights are not held twice.
    graph
        Signature that the file is to have.
    facts
        What is reported; `threads` and `parallel_calls` are used.
    """

    def __init__(self, path: Path, graph: Graph, facts: SessionFacts) -> None:
        options = ort.SessionOptions()
        # Every call computes in its caller's thread too, so that calls and pool make up all threads.
        options.intra_op_num_threads = max(1, facts.threads - facts.parallel_calls + 1)
        # From the second call on, a plan of all activations is laid out beside what the first one
        # took: 0.8 GB more for HTDemucs and no faster.
        options.enable_mem_pattern = False
        self._session = create_session(path, options, [("CPUExecutionProvider", {})])
        self._outputs = list(graph.output_names)
        self.graph = graph
        self.facts = facts
        check_signature(path, graph, self._session)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch; see Session.run."""
        return run_graph(self._call, self.graph, inputs)

    def _call(self, feed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        try:
            got = self._session.run(self._outputs, dict(feed))
        except Exception as error:  # the runtime's errors share no base class
            raise translate_failure(error) from error
        return dict(zip(self._outputs, got, strict=True))

    def close(self) -> None:
        """Free the network's memory."""
        del self._session


def create_session(
    path: Path, options: ort.SessionOptions, providers: list[tuple[str, dict[str, str]]]
) -> ort.InferenceSession:
    """Create a session from a file.

    Raises
    ------
    ModelFileError
        The file is no graph that this runtime can load.
    OutOfMemoryError
        The weights do not fit.
    """
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the runtime's errors share no base class
        failure = translate_failure(error)
        if isinstance(failure, OutOfMemoryError):
            raise failure from error
        raise ModelFileError(
            f"ONNX Runtime cannot load {path.name}: {_first_line(error)}",
            "verify the model, or import or pull it again",
        ) from error


def check_signature(path: Path, graph: Graph, session: ort.InferenceSession) -> None:
    """Compare a loaded graph's inputs and outputs with what its manifest says.

    Raises
    ------
    ModelFileError
        They differ in name.
    """
    for kind, said, found in (
        ("inputs", set(graph.input_names), {port.name for port in session.get_inputs()}),
        ("outputs", set(graph.output_names), {port.name for port in session.get_outputs()}),
    ):
        if not said <= found or (kind == "inputs" and said != found):
            raise ModelFileError(
                f"{path.name} has {kind} {sorted(found)}, its manifest says {sorted(said)}",
                "import or pull the model again",
            )


def translate_failure(error: Exception) -> OutOfMemoryError | InternalError:
    """Turn what ONNX Runtime raised into one of ours."""
    text = str(error)
    if isinstance(error, MemoryError) or any(mark in text for mark in _OUT_OF_MEMORY):
        return OutOfMemoryError(
            "the network ran out of memory", "use --low-memory, a smaller batch, or another device"
        )
    return InternalError(f"ONNX Runtime failed: {_first_line(error)}", "try --device cpu --precision float32")


def possible_precisions() -> frozenset[Precision]:
    """Precisions that the CPU kernels compute fast and well on this machine.

    int8 only where the CPU has dot products for it (VNNI): without them products of 8-bit values
    saturate, or are slower than float32.
    """
    vnni = cpu_flags() & {"avx512_vnni", "avx_vnni"}
    return frozenset({"float32", "int8"}) if vnni else frozenset({"float32"})


def runtime_name() -> str:
    """Library and version."""
    return f"ONNX Runtime {ort.__version__}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
