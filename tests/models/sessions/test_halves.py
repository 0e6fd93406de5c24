"""Graphs in float16."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from stemwright.models.sessions.rewrites.halves import without_repeated_casts


def _cast(reader: int) -> list[onnx.NodeProto]:
    """A Cast as ONNX Runtime's converter up to 1.31 adds it for each reader of a value, and the reader."""
    return [
        helper.make_node("Cast", ["half"], ["half_cast_to_fp32"], to=TensorProto.FLOAT, name="half_cast"),
        helper.make_node("Add", ["half_cast_to_fp32", "x"], [f"y{reader}"], name=f"add{reader}"),
    ]


def test_a_value_with_two_readers_is_cast_once() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y1", "y2")]
    half = helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16, name="half")
    graph = helper.make_graph([half, *_cast(1), *_cast(2)], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(without_repeated_casts(model).SerializeToString())
    first, second = session.run(None, {"x": np.array([1, -0.5], np.float32)})
    assert first.tolist() == second.tolist() == [2, -1]
