"""OpenVINO on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import openvino as ov

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError, ModelFileError, OutOfMemoryError
from stemwright.models.manifest import Graph, Precision
from stemwright.models.sessions.hardware import cpu_flags, has_bfloat16
from stemwright.models.sessions.runtimes.batching import run_graph
from stemwright.models.sessions.runtimes.contract import SessionFacts
from stemwright.models.sessions.runtimes.openvino_core import openvino_core

_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
# Activations of one row that share a scale; 128 loses less than the row's own 512 to 2048, and the
# kernels want a multiple of 32.
_INT8_GROUP = "128"


@dataclass(frozen=True, kw_only=True)
class OpenVinoPlan:
    """How the CPU is divided.

    Parameters
    ----------
    streams
        Calls computed at the same time; the threads are shared out among them.
    cache_dir
        Where OpenVINO keeps the compiled graph; None keeps nothing.
    """

    streams: int = 1
    cache_dir: Path | None = None


class OpenVinoSession:
    """A graph compiled by OpenVINO for the CPU.

    Parameters
    ----------
    path
        ONNX file, read by the runtime itself.
    graph
        Signature that the file is to have.
    facts
        What is reported; threads and precision are used.
    plan
        How the CPU is divided.
    """

    def __init__(self, path: Path, graph: Graph, facts: SessionFacts, plan: OpenVinoPlan) -> None:
        config = {
            "INFERENCE_PRECISION_HINT": _HINTS[facts.precision],
            "PERFORMANCE_HINT": "LATENCY" if plan.streams == 1 else "THROUGHPUT",
            "NUM_STREAMS": str(plan.streams),
            "INFERENCE_NUM_THREADS": str(facts.threads),
        }
        if facts.precision == "int8":
            config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = _INT8_GROUP
        if plan.cache_dir is not None:
            config["CACHE_DIR"] = str(plan.cache_dir)
        try:
            self._compiled = openvino_core().compile_model(str(path), "CPU", config)
        except Exception as error:  # OpenVINO raises RuntimeError and its children for everything
            raise _loading_failure(path, error) from error
        self._outputs: dict[str, str] = {port.name: "float32" for port in graph.outputs}
        self._outputs |= {tensor.output: tensor.dtype for tensor in graph.state}
        self.graph = graph
        self.facts = facts
        self._requests: SimpleQueue[ov.InferRequest] = SimpleQueue()
        for _ in range(facts.parallel_calls):
            self._requests.put(self._compiled.create_infer_request())
        self._check_signature(path)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch; see Session.run."""
        return run_graph(self._call, self.graph, inputs)

    def _call(self, feed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        request = self._requests.get()
        try:
            request.infer(dict(feed), share_inputs=True)
            return {
                name: np.array(request.get_tensor(name).data, dtype) for name, dtype in self._outputs.items()
            }
        except Exception as error:  # OpenVINO raises RuntimeError and its children for everything
            raise _running_failure(error) from error
        finally:
            self._requests.put(request)

    def close(self) -> None:
        """Free the network's memory."""
        while not self._requests.empty():
            self._requests.get()
        del self._compiled

    def _check_signature(self, path: Path) -> None:
        said_in, said_out = set(self.graph.input_names), set(self.graph.output_names)
        found_in = {port.get_any_name() for port in self._compiled.inputs}
        found_out = {name for port in self._compiled.outputs for name in port.get_names()}
        if said_in != found_in or not said_out <= found_out:
            raise ModelFileError(
                f"{path.name} has inputs {sorted(found_in)} and outputs {sorted(found_out)}, "
                f"its manifest says {sorted(said_in)} and {sorted(said_out)}",
                "import or pull the model again",
            )


def possible_precisions() -> frozenset[Precision]:
    """Precisions that OpenVINO computes in hardware on this CPU."""
    capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found: set[Precision] = {"float32"}
    if "BF16" in capabilities and has_bfloat16():
        found.add("bfloat16")
    if "FP16" in capabilities:
        found.add("float16")
    if cpu_flags() & {"avx512_vnni", "avx_vnni"}:
        found.add("int8")
    return frozenset(found)


def runtime_name() -> str:
    """Library and version."""
    return f"OpenVINO {ov.__version__.partition('-')[0]}"


def _loading_failure(path: Path, error: Exception) -> ModelFileError | OutOfMemoryError:
    if _is_memory(error):
        return OutOfMemoryError("the network's weights do not fit into memory", "close other programs")
    return ModelFileError(
        f"OpenVINO cannot load {path.name}: {_last_line(error)}",
        "verify the model, or use --device cpu",
    )


def _running_failure(error: Exception) -> InternalError | OutOfMemoryError:
    if _is_memory(error):
        return OutOfMemoryError("the network ran out of memory", "use --low-memory or a smaller batch")
    return InternalError(f"OpenVINO failed: {_last_line(error)}", "try --device cpu --precision float32")


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "bad_alloc" in str(error) or "allocate" in str(error)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
