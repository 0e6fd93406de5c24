"""Graphs without weights: what comes out of filling one is what was exported."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError, ModelFileError
from stemwright.models.graphs.weightless import (
    RECIPES_KEY,
    WeightlessGraph,
    check_recipes,
    compare,
    make_weightless,
)

WIDTH, HIDDEN = 48, 40


def random_state(seed: int) -> dict[str, FloatArray]:
    source = np.random.default_rng(seed)
    shapes = {
        "in.weight": (HIDDEN, WIDTH),
        "in.bias": (HIDDEN,),
        "out.weight": (WIDTH, HIDDEN),
        "scale": (WIDTH,),
    }
    values = {name: source.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return {name: value.astype(np.float16).astype(np.float32) for name, value in values.items()}


def exported(state: dict[str, FloatArray], *, names: str = "", extra: float = 0.5) -> onnx.ModelProto:
    """A perceptron as an exporter might write it: the weights transposed, partly by nodes."""
    constants = {
        "a": state["in.weight"].T,
        "in.bias": state["in.bias"],
        "out.weight": state["out.weight"],
        "column": state["scale"][None, :] * np.float32(2),
        "half": np.float32(extra),
        "unused": np.zeros(3, np.float32),
    }
    steps: Sequence[tuple[str, list[str], list[str]]] = [
        ("MatMul", ["x", "a"], ["h0"]),
        ("Add", ["h0", "in.bias"], ["h1"]),
        ("Relu", ["h1"], ["h2"]),
        ("Transpose", ["out.weight"], ["turned"]),
        ("MatMul", ["h2", "turned"], ["h3"]),
        ("Mul", ["h3", "column"], ["h4"]),
        ("Mul", ["h4", "half"], ["y"]),
    ]
    inner = {f"h{number}" for number in range(5)}

    def named(values: list[str]) -> list[str]:
        return [value + names if value in inner else value for value in values]

    nodes = [helper.make_node(op, named(ins), named(outs)) for op, ins, outs in steps]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto) -> FloatArray:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(9).standard_normal((3, WIDTH), np.float32)
    result: FloatArray = session.run(None, {"x": batch})[0]
    return result


@pytest.fixture
def weightless() -> WeightlessGraph:
    return make_weightless(exported(random_state(1)), random_state(1))


def test_weights_become_inputs_and_recipes(weightless: WeightlessGraph) -> None:
    onnx.checker.check_model(weightless.model)
    assert set(weightless.recipes) == {"in.weight.T", "in.bias", "out.weight.T", "scale*2"}
    assert {value.name for value in weightless.model.graph.input} == {"x", *weightless.recipes}
    assert [tensor.name for tensor in weightless.model.graph.initializer] == ["half"]
    assert [node.op_type for node in weightless.model.graph.node] == [
        "MatMul",
        "Add",
        "Relu",
        "MatMul",
        "Mul",
        "Mul",
    ]
    assert weightless.tensor_shapes == {name: value.shape for name, value in random_state(1).items()}


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_filled_graph_computes_what_was_exported(weightless: WeightlessGraph, storage: str) -> None:
    other = random_state(2)
    filled = weightless.fill(other, "float16" if storage == "float16" else "float32")
    np.testing.assert_array_equal(run(filled), run(exported(other)))
    assert [value.name for value in filled.graph.input] == ["x"]
    stored = {tensor.name: tensor.data_type for tensor in filled.graph.initializer}
    if storage == "float16":
        assert stored["in.weight.T.float16"] == TensorProto.FLOAT16
        assert stored["in.bias"] == TensorProto.FLOAT
    else:
        assert set(stored.values()) == {TensorProto.FLOAT}


def test_written_graph_is_read_back(weightless: WeightlessGraph, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    weightless.write(path)
    onnx.checker.check_model(str(path))
    read = WeightlessGraph.read(path)
    assert read.recipes == weightless.recipes
    assert not compare(read, weightless)
    np.testing.assert_array_equal(run(read.fill(random_state(3))), run(exported(random_state(3))))
    assert not read.fill(random_state(3)).metadata_props


def test_float16_is_used_only_where_it_loses_nothing(weightless: WeightlessGraph) -> None:
    state = random_state(2)
    state["in.weight"][0, 0] = 0.1
    state["out.weight"][0, 0] = 70_000.0
    stored = {tensor.name: tensor.data_type for tensor in weightless.fill(state).graph.initializer}
    assert stored["in.weight.T"] == TensorProto.FLOAT
    assert stored["out.weight.T"] == TensorProto.FLOAT
    np.testing.assert_array_equal(run(weightless.fill(state)), run(exported(state)))
    rounded = {t.name: t.data_type for t in weightless.fill(state, rounding="allowed").graph.initializer}
    assert rounded["in.weight.T.float16"] == TensorProto.FLOAT16
    assert rounded["out.weight.T"] == TensorProto.FLOAT


def test_states_that_do_not_fit(weightless: WeightlessGraph) -> None:
    state = random_state(1)
    with pytest.raises(ModelFileError, match="no tensor scale"):
        weightless.fill({name: value for name, value in state.items() if name != "scale"})
    with pytest.raises(ModelFileError, match=r"in\.bias .*\[1\], not \[40\]"):
        weightless.fill(state | {"in.bias": np.zeros(1, np.float32)})
    with pytest.raises(ModelFileError, match=r"tensor more .* not part"):
        weightless.fill(state | {"more": np.zeros(1, np.float32)})
    for value in (np.nan, np.inf):
        with pytest.raises(ModelFileError, match="not finite"):
            weightless.fill(state | {"in.bias": np.full(HIDDEN, value, np.float32)})


def test_large_constant_of_unknown_origin() -> None:
    model = exported(random_state(1))
    model.graph.initializer.append(numpy_helper.from_array(np.arange(5000, dtype=np.float32), "table"))
    model.graph.node.append(helper.make_node("Add", ["x", "table"], ["z"]))
    with pytest.raises(InternalError, match="table"):
        make_weightless(model, random_state(1))


def test_weight_that_the_graph_does_not_use() -> None:
    with pytest.raises(InternalError, match="more"):
        make_weightless(exported(random_state(1)), random_state(1) | {"more": np.ones(3, np.float32)})


def test_second_export_confirms_or_refutes(weightless: WeightlessGraph) -> None:
    check_recipes(weightless, exported(random_state(2), names="_other"), random_state(2))
    with pytest.raises(InternalError, match="differ"):
        # a constant that stayed in the graph, but depends on the weights
        check_recipes(weightless, exported(random_state(2), extra=0.25), random_state(2))


def test_comparison_tells_what_differs(weightless: WeightlessGraph) -> None:
    same = make_weightless(exported(random_state(4), names="_renamed"), random_state(4))
    assert compare(weightless, same) == []
    other = make_weightless(exported(random_state(1)), random_state(1))
    other.model.graph.node[2].op_type = "Sigmoid"
    assert compare(weightless, other) == ["node 2: Relu"]
    del other.model.graph.node[-1]
    assert "6 and 5 nodes" in compare(weightless, other)
    del other.recipes["in.bias"]
    assert "recipe of in.bias" in compare(weightless, other)


@pytest.mark.parametrize("data", [b"", b"text", b"\x08\x08"])
def test_other_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="not a weightless graph"):
        WeightlessGraph.read(path)
    with pytest.raises(ModelFileError, match="cannot read"):
        WeightlessGraph.read(tmp_path / "absent.onnx")


def test_recipes_that_are_none(weightless: WeightlessGraph, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    weightless.write(path)
    model = onnx.load(path)
    for text in ("{}x", '{"a": {"parts": []}}', '{"a": {"kind": "shell", "command": "x"}}'):
        del model.metadata_props[:]
        model.metadata_props.add(key=RECIPES_KEY, value=text)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelFileError, match="not a weightless graph"):
            WeightlessGraph.read(path)
