"""Graphs without a recording's machinery around them: a batch in, arrays out, on any device.

Taggers and embedders run so. The devices are those of separation; these graphs are plain, so that none of
its rewrites is needed and batches are real ones.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import DeviceError, ModelFileError
from stemwright.models.sessions.devices import DeviceChoice, choose_device
from stemwright.models.sessions.hardware import usable_cores
from stemwright.models.sessions.runtimes.contract import SessionOptions


@dataclass(frozen=True, kw_only=True)
class PlainGraph:
    """What a runtime has to know of a graph.

    Parameters
    ----------
    path
        The ONNX file.
    input
        Name of its only input.
    outputs
        Names of the outputs that are wanted.
    threads
        CPU threads.
    """

    path: Path
    input: str
    outputs: tuple[str, ...]
    threads: int


class PlainRuntime(Protocol):
    """A loaded graph."""

    def run(self, values: FloatArray) -> tuple[FloatArray, ...]:
        """Compute the outputs of a batch, all float32."""

    def close(self) -> None:
        """Free its memory."""


def open_plain_graph(graph: PlainGraph, choice: DeviceChoice) -> PlainRuntime:
    """Load a graph on the device chosen.

    Raises
    ------
    DeviceError
        The runtime put the graph somewhere else.
    ModelFileError
        The graph is damaged or does not have these inputs and outputs.
    """
    if choice.device.provider == "openvino":
        return _OpenVino(graph)
    return _OnnxRuntime(graph, choice)


class SharedGraph:
    """A graph on a device; may be used from several threads, one call at a time runs.

    Parameters
    ----------
    path
        The ONNX file.
    input_name
        Name of its only input.
    outputs
        Names of the outputs that are wanted.
    options
        Device and threads; all is computed in float32.

    Raises
    ------
    DeviceError
        The device asked for cannot be had.
    ModelFileError
        The graph is damaged or does not have these inputs and outputs.
    """

    def __init__(
        self, path: Path, *, input_name: str, outputs: tuple[str, ...], options: SessionOptions | None
    ) -> None:
        options = SessionOptions() if options is None else options
        self.choice = choose_device(options.device)
        self.threads = options.threads or usable_cores()
        graph = PlainGraph(path=path, input=input_name, outputs=outputs, threads=self.threads)
        self._runtime = open_plain_graph(graph, self.choice)
        self._lock = threading.Lock()

    def run(self, values: FloatArray) -> tuple[FloatArray, ...]:
        """Compute the outputs of a batch, all float32."""
        with self._lock:
            return self._runtime.run(values)

    def close(self) -> None:
        """Free its memory."""
        self._runtime.close()


class _OnnxRuntime:
    def __init__(self, graph: PlainGraph, choice: DeviceChoice) -> None:
        import onnxruntime as ort

        from stemwright.models.sessions.runtimes.onnxruntime import create_session

        device = choice.device
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
            raise DeviceError(f"ONNX Runtime did not put the graph on {device}", "run stemwright doctor")
        _check_names(
            graph,
            {port.name for port in self._session.get_inputs()},
            {port.name for port in self._session.get_outputs()},
        )
        self._input, self._outputs = graph.input, list(graph.outputs)

    def run(self, values: FloatArray) -> tuple[FloatArray, ...]:
        from stemwright.models.sessions.runtimes.onnxruntime import translate_failure

        try:
            made = self._session.run(self._outputs, {self._input: values})
        except Exception as error:  # the runtime's errors share no base class
            raise translate_failure(error) from error
        return tuple(np.asarray(one, np.float32) for one in made)

    def close(self) -> None:
        del self._session


class _OpenVino:
    def __init__(self, graph: PlainGraph) -> None:
        from stemwright.models.sessions.runtimes.openvino_core import openvino_core

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
        self._input, self._outputs = graph.input, graph.outputs

    def run(self, values: FloatArray) -> tuple[FloatArray, ...]:
        self._request.infer({self._input: values}, share_inputs=True)
        return tuple(np.array(self._request.get_tensor(name).data, np.float32) for name in self._outputs)

    def close(self) -> None:
        del self._request


def _check_names(graph: PlainGraph, inputs: set[str], outputs: set[str]) -> None:
    if inputs != {graph.input} or not set(graph.outputs) <= outputs:
        raise ModelFileError(
            f"{graph.path} has inputs {sorted(inputs)} and outputs {sorted(outputs)}, which are not those "
            "of its manifest",
            "import or pull the model again",
        )
