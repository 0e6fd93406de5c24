"""Computing at load what does not depend on the audio."""

import numpy as np
import onnx
from onnx import TensorProto

from stemwright.models.sessions.rewrites.graph import AnyArray, EditableGraph, attribute

_NOT_DETERMINISTIC = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial")
# A folded value may be larger than what it is made of (a repeated embedding), but not without bound.
_LARGEST_GROWTH = 4 << 20
_ROUNDS = 8


def fold_for_one(graph: EditableGraph) -> int:
    """Fix the batch at one, then fold: with it the exporter's arithmetic on shapes disappears."""
    graph.set_batch(1)
    return fold_constants(graph)


def fold_constants(graph: EditableGraph) -> int:
    """Replace what does not depend on the inputs by its value.

    Float16 weights with a Cast behind them become float32 weights. Returns the number of nodes
    folded.
    """
    folded = 0
    for _ in range(_ROUNDS):
        graph.infer_shapes()
        done = _fold_once(graph)
        folded += done
        if not done:
            break
    folded += _drop_identities(graph)
    graph.prune()
    return folded


def _fold_once(graph: EditableGraph) -> int:
    kept: list[onnx.NodeProto] = []
    for node in graph.nodes:
        values = _value_of(graph, node)
        if values is None or any(name in graph.outputs for name in node.output):
            kept.append(node)
        else:
            graph.constants.update(zip(node.output, values, strict=False))
    folded = len(graph.nodes) - len(kept)
    if folded:
        graph.nodes = kept
        graph.prune()
    return folded


def _value_of(graph: EditableGraph, node: onnx.NodeProto) -> list[AnyArray] | None:
    if node.op_type == "Shape":
        shape = graph.shape(node.input[0])
        if shape is None:
            return None
        start, end = attribute(node, "start", 0), attribute(node, "end", None)
        return [np.asarray(shape[start:end], np.int64)]
    if node.op_type in _NOT_DETERMINISTIC or any(entry.HasField("g") for entry in node.attribute):
        return None
    inputs = {name: graph.constants[name] for name in node.input if name in graph.constants}
    if not node.input or any(name and name not in inputs for name in node.input):
        return None
    if node.op_type == "Cast" and attribute(node, "to") == TensorProto.FLOAT:
        return [inputs[node.input[0]].astype(np.float32)]
    values = graph.evaluate(node, inputs)
    if values is None:
        return None
    size = sum(value.nbytes for value in values)
    if size > _LARGEST_GROWTH and size > sum(value.nbytes for value in inputs.values()):
        return None
    return values


def _drop_identities(graph: EditableGraph) -> int:
    renamed: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.nodes:
        source = node.input[0] if node.input else ""
        if node.op_type == "Identity" and node.output[0] not in graph.outputs:
            renamed[node.output[0]] = renamed.get(source, source)
            continue
        if any(name in renamed for name in node.input):
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            copy.input[:] = [renamed.get(name, name) for name in node.input]
            node = copy
        kept.append(node)
    graph.nodes = kept
    graph.prune()
    return len(renamed)
