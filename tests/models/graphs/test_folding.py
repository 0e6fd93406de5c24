"""Folding: constants are rearranged at export, and never grow."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemwright.core.arrays import FloatArray
from stemwright.models.graphs.folding import fold_constants


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, FloatArray], output: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_chain_is_folded_and_its_constants_dropped() -> None:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("Split", ["t"], ["upper", "lower"], num_outputs=2),
        helper.make_node("Mul", ["lower", "two"], ["doubled"]),
        helper.make_node("MatMul", ["x", "doubled"], ["y"]),
    ]
    model = model_of(nodes, {"w": weight, "two": np.asarray(2, np.float32)}, "y")
    fold_constants(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    (kept,) = model.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(kept), weight.T[2:] * 2)


def test_what_makes_constants_larger_stays() -> None:
    places = np.arange(100, dtype=np.float32)
    nodes = [
        helper.make_node("Mul", ["column", "row"], ["table"]),
        helper.make_node("MatMul", ["x", "table"], ["y"]),
    ]
    model = model_of(nodes, {"column": places[:, None], "row": places[None, :]}, "y")
    fold_constants(model)
    assert [node.op_type for node in model.graph.node] == ["Mul", "MatMul"]


def test_zero_states_are_left_out() -> None:
    constants = {
        "w": np.ones((1, 8, 3), np.float32),
        "r": np.ones((1, 8, 2), np.float32),
        "b": np.ones((1, 16), np.float32),
        "zero": np.zeros((1, 1, 2), np.float32),
        "one": np.ones((1, 1, 2), np.float32),
    }
    for cell, left in (
        ("zero", ["x", "w", "r", "b", "", "", ""]),
        ("one", ["x", "w", "r", "b", "", "", "one"]),
    ):
        node = helper.make_node("LSTM", ["x", "w", "r", "b", "", "zero", cell], ["y"], hidden_size=2)
        model = model_of([node], constants, "y")
        fold_constants(model)
        assert list(model.graph.node[0].input) == left
        assert "zero" not in {tensor.name for tensor in model.graph.initializer}
