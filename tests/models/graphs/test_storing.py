"""Weights in float16 and int8 against what they were made of."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from stemwright.models.graphs.code_nodes import code_nodes, find_code
from stemwright.models.graphs.position_codes import sinusoid_1d, sinusoid_2d
from stemwright.models.graphs.storing import quantised, same_weights, stored_as
from stemwright.models.sessions.rewrites.folding import fold_constants
from stemwright.models.sessions.rewrites.graph import EditableGraph


def random(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network() -> onnx.ModelProto:
    """Every kind of weight, and a position code."""
    constants: dict[str, Any] = {
        "conv": random(32, 16, 3) / 8,
        "transposed": random(32, 16, 4) / 8,
        "lstm": random(2, 64, 16) / 8,
        "back": random(2, 64, 16, seed=1) / 8,
        "right": random(32, 128),
        "left": random(40, 64),
        "code": sinusoid_1d(length=40, dim=128)[None],
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"]),
        helper.make_node("ConvTranspose", ["a", "transposed"], ["b"], strides=[2]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[2, 0, 1]),
        helper.make_node("LSTM", ["c", "lstm", "back"], ["d"], hidden_size=16, direction="bidirectional"),
        helper.make_node("Transpose", ["d"], ["e"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["e", "rows"], ["f"]),
        helper.make_node("MatMul", ["f", "right"], ["g"]),
        helper.make_node("MatMul", ["left", "g"], ["h"]),
        helper.make_node("Add", ["h", "code"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    tensors.append(numpy_helper.from_array(np.array([1, 64, 32]), "rows"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 33])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 40, 128])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run(model: onnx.ModelProto) -> Any:
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    # Beyond that, the runtime multiplies weights behind a DequantizeLinear in int8.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"x": random(1, 16, 33, seed=9)})[0]


def types(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


@pytest.mark.parametrize(("storage", "bound"), [("float32", 1e-6), ("float16", 5e-3), ("int8", 0.1)])
def test_every_storage_computes_nearly_the_same(storage: Any, bound: float) -> None:
    model = network()
    truth = run(model)
    other = stored_as(model, storage)
    assert np.abs(run(other) - truth).max() / truth.std() < bound
    assert same_weights(model, other) == (storage == "float32")
    again = stored_as(other, storage)
    assert types(again) == types(other)
    np.testing.assert_allclose(run(again), run(other), atol=1e-5 * float(truth.std()))


def test_int8_takes_a_quarter() -> None:
    model = network()
    sizes = {kind: len(stored_as(model, kind).SerializeToString()) for kind in ("float32", "float16", "int8")}
    kinds = types(stored_as(model, "int8"))
    for name in ("conv", "transposed", "lstm", "back", "right", "left"):
        assert kinds[f"{name}.int8"] == TensorProto.INT8
        assert name not in kinds
    assert "code" not in kinds
    assert sizes["int8"] < 0.45 * sizes["float32"]
    assert sizes["float16"] < 0.66 * sizes["float32"]


def test_sessions_fold_int8_into_float32() -> None:
    graph = EditableGraph(stored_as(network(), "int8"))
    fold_constants(graph)
    assert {node.op_type for node in graph.nodes}.isdisjoint({"DequantizeLinear", "Sin", "Cast"})
    truth = run(stored_as(network(), "int8"))
    np.testing.assert_allclose(run(graph.to_model()), truth, atol=1e-5 * float(truth.std()))


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    seed=st.integers(0, 1 << 20),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    data=st.data(),
)
def test_quantising_is_no_worse_than_by_the_largest_value(
    shape: list[int], seed: int, spread: float, data: Any
) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    weight = random(*shape, seed=seed) * np.float32(spread)
    values, scales = quantised(weight, axis)
    assert values.shape == weight.shape and scales.shape == (shape[axis],)
    assert values.dtype == np.dtype(np.int8)
    column = [1] * len(shape)
    column[axis] = -1
    rest = tuple(place for place in range(len(shape)) if place != axis)
    largest = np.abs(weight).max(axis=rest).astype(np.float64)
    error = np.square(values * scales.reshape(column).astype(np.float64) - weight).sum(axis=rest)
    steps = largest / 127
    bound = np.square(steps / 2) * (weight.size // shape[axis])
    assert (error <= bound * 1.001 + 1e-30).all()


@pytest.mark.parametrize(
    "code",
    [
        sinusoid_1d(length=100, dim=64),
        sinusoid_2d(count=90, dim=64, half=0),
        sinusoid_2d(count=90, dim=64, half=1).reshape(90, 1, 64),
    ],
)
def test_codes_are_computed_by_their_nodes(code: Any) -> None:
    found = find_code(code)
    assert found is not None
    tensors, nodes = code_nodes(found, "code")
    output = helper.make_tensor_value_info("code", TensorProto.FLOAT, code.shape)
    graph = helper.make_graph(nodes, "g", [], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made = session.run(None, {})[0]
    assert made.shape == code.shape
    assert np.abs(made - code).max() <= 6e-8
    changed = code.copy()
    changed.reshape(-1)[7] += 1e-4
    assert find_code(changed) is None


@pytest.mark.parametrize(("turned", "channels"), [(0, 48), (1, 64)])
def test_weights_of_a_dense_layer_have_their_channels_where_it_says(turned: int, channels: int) -> None:
    weight = (
        random(64, 48)
        * np.linspace(0.01, 1, 48 if turned == 0 else 64, dtype=np.float32)[
            (None, slice(None)) if turned == 0 else (slice(None), None)
        ]
    )
    node = helper.make_node("Gemm", ["x", "weight"], ["y"], transB=turned)
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, weight.shape[turned]])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, channels])
    graph = helper.make_graph([node], "g", [port], [out], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    stored = {tensor.name: tensor for tensor in stored_as(model, "int8").graph.initializer}
    scales = [tensor for name, tensor in stored.items() if name != "weight.int8"]
    assert stored["weight.int8"].data_type == TensorProto.INT8
    assert [tuple(tensor.dims) for tensor in scales] == [(channels,)]
    half = stored_as(model, "float16").graph.initializer
    assert [tensor.data_type for tensor in half] == [TensorProto.FLOAT16]
