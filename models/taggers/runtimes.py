"""A tagger's graph on a device: a batch of features in, probabilities and embeddings out.

The devices are those of separation; the graphs are small and plain, so that none of its rewrites is
needed and batches are real ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import DeviceError, ModelFileError
from stemwright.models.manifest import Tagger
from stemwright.models.sessions.devices import DeviceChoice


@dataclass(frozen=True, kw_only=True)
class TaggerGraph:
    """What a runtime has to know of a tagger.

    Parameters
    ----------
    path
        The ONNX file.
    manifest
        Its manifest: the names of input and outputs.
    threads
        CPU threads.
    """

    path: Path
    manifest: Tagger
    threads: int


class TaggerRuntime(Protocol):
    """A loaded graph."""

    def run(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Compute [B, N, bands] -> [B, K] and [B, E], all float32."""

    def close(self) -> None:
        """Free its memory."""


def open_runtime(graph: TaggerGraph, choice: DeviceChoice) -> TaggerRuntime:
    """Load a tagger's graph on the device chosen.

    Raises
    ------
    DeviceError
        The runtime put the graph somewhere else.
    ModelFileError
        The graph is damaged or does not fit its manifest.
    """
    if choice.device.provider == "openvino":
        return _OpenVino(graph)
    return _OnnxRuntime(graph, choice)


class _OnnxRuntime:
    def __init__(self, graph: TaggerGraph, choice: DeviceChoice) -> None:
        import onnxruntime as ort

        from stemwright.models.sessions.runtimes.onnxruntime import create_session

        device, manifest = choice.device, graph.manifest
        options = ort.SessionOptions()
        options.intra_op_num_threads = graph.threads
        # int8 weights become float32 once when the graph is loaded, not in every call.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        providers: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]
        if device.provider != "cpu":
            from stemwright.models.sessions.runtimes.gpu import cuda_options

            providers = [("CUDAExecutionProvider", cuda_options(device.index))]
        self._session = create_session(graph.path, options, providers)
        if providers[0][0] not in self._session.get_providers():
            raise DeviceError(f"ONNX Runtime did not put the tagger on {device}", "run stemwright doctor")
        _check_names(
            graph,
            {port.name for port in self._session.get_inputs()},
            {port.name for port in self._session.get_outputs()},
        )
        self._input, self._outputs = manifest.features, [manifest.probabilities, manifest.embedding]

    def run(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        from stemwright.models.sessions.runtimes.onnxruntime import translate_failure

        try:
            probabilities, embedding = self._session.run(self._outputs, {self._input: features})
        except Exception as error:  # the runtime's errors share no base class
            raise translate_failure(error) from error
        return np.asarray(probabilities, np.float32), np.asarray(embedding, np.float32)

    def close(self) -> None:
        del self._session


class _OpenVino:
    def __init__(self, graph: TaggerGraph) -> None:
        from stemwright.models.sessions.runtimes.openvino_core import openvino_core

        manifest = graph.manifest
        config = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(graph.threads),
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # 8-bit weights must not round activations too
        }
        try:
            compiled = openvino_core().compile_model(str(graph.path), "CPU", config)
        except Exception as error:  # OpenVINO raises RuntimeError and its children for everything
            raise ModelFileError(
                f"OpenVINO cannot load {graph.path}", "verify the model, or use --device cpu"
            ) from error
        _check_names(
            graph,
            {port.get_any_name() for port in compiled.inputs},
            {name for port in compiled.outputs for name in port.get_names()},
        )
        self._request = compiled.create_infer_request()
        self._input, self._outputs = manifest.features, (manifest.probabilities, manifest.embedding)

    def run(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        self._request.infer({self._input: features}, share_inputs=True)
        first, second = (np.array(self._request.get_tensor(name).data, np.float32) for name in self._outputs)
        return first, second

    def close(self) -> None:
        del self._request


def _check_names(graph: TaggerGraph, inputs: set[str], outputs: set[str]) -> None:
    manifest = graph.manifest
    if inputs != {manifest.features} or not {manifest.probabilities, manifest.embedding} <= outputs:
        raise ModelFileError(
            f"{graph.path} has inputs {sorted(inputs)} and outputs {sorted(outputs)}, which are not those "
            "of its manifest",
            "import or pull the model again",
        )
