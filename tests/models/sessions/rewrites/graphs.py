"""Small random graphs with the patterns that rewrites look for, and the comparison before and after."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from stemwright.models.sessions.rewrites.graph import EditableGraph

Array = npt.NDArray[Any]


class GraphMaker:
    """Collects nodes and random weights into a model with one input `x` and one output `y`."""

    def __init__(self, shape: tuple[int | str, ...], *, seed: int = 0, opset: int = 18) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.shape = shape
        self.opset = opset

    def weight(self, *shape: int, scale: float = 0.3) -> str:
        return self.tensor((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def tensor(self, value: npt.ArrayLike) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        return self.tensor(np.asarray(values, np.int64))

    def add(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{op_type.lower()}{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def model(self, result: str) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "made",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            self.tensors,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)


def output_of(model: onnx.ModelProto, x: Array) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": x})[0])


def rewritten(model: onnx.ModelProto, rewrite: Callable[[EditableGraph], int]) -> tuple[int, onnx.ModelProto]:
    graph = EditableGraph(model)
    graph.set_batch(1)
    graph.infer_shapes()
    places = rewrite(graph)
    return places, graph.to_model()


def check(
    model: onnx.ModelProto,
    rewrite: Callable[[EditableGraph], int],
    *,
    places: int,
    tolerance: float = 2e-6,
) -> onnx.ModelProto:
    """The rewrite changes as many places as told, and not the output; give the new model back."""
    axes = model.graph.input[0].type.tensor_type.shape.dim
    shape = [axis.dim_value or 1 for axis in axes]
    x = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    before = output_of(model, x)
    found, new = rewritten(model, rewrite)
    assert found == places
    after = output_of(new, x)
    assert after.shape == before.shape
    assert np.abs(after - before).max() <= tolerance * max(1.0, float(np.abs(before).max()))
    return new


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]
