"""Folding of constants: nodes that only rearrange or scale constants are computed once and removed."""

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

_REARRANGING = frozenset(
    (
        "Transpose",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Unsqueeze",
        "Concat",
        "Gather",
        "Identity",
        "Mul",
        "Cast",
    )
)
_LSTM_STATES = range(5, 7)  # inputs initial_h and initial_c


def fold_constants(model: onnx.ModelProto) -> None:
    """Fold nodes over constants in place, as long as that does not make the constants larger.

    A node that makes a large constant out of small ones (a matrix of distances out of two
    sequences of places) stays: the runtime computes it when it loads the model.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        inputs = [constants[name] for name in node.input if name in constants]
        if node.op_type not in _REARRANGING or len(inputs) != sum(1 for name in node.input if name):
            kept.append(node)
            continue
        made = _evaluate(node, inputs, model)
        if sum(array.nbytes for array in made) > sum(len(_bytes(tensor)) for tensor in inputs):
            kept.append(node)
            continue
        constants |= {
            name: numpy_helper.from_array(array, name) for name, array in zip(node.output, made, strict=True)
        }
    _drop_zero_states(kept, constants)
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(kept)
    del graph.initializer[:]
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)


def _drop_zero_states(nodes: list[onnx.NodeProto], constants: dict[str, onnx.TensorProto]) -> None:
    """Leave out initial states that are zero, which is what a recurrent node starts with anyway."""
    for node in nodes:
        if node.op_type == "LSTM":
            for place in range(_LSTM_STATES.start, min(_LSTM_STATES.stop, len(node.input))):
                state = constants.get(node.input[place])
                if state is not None and not numpy_helper.to_array(state).any():
                    node.input[place] = ""


def _evaluate(
    node: onnx.NodeProto, inputs: list[onnx.TensorProto], model: onnx.ModelProto
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    values = [
        onnx.helper.make_value_info(t.name, onnx.helper.make_tensor_type_proto(t.data_type, t.dims))
        for t in inputs
    ]
    unique = {value.name: value for value in values}
    outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output]
    graph = onnx.helper.make_graph([node], "fold", list(unique.values()), outputs)
    single = onnx.helper.make_model(graph, opset_imports=list(model.opset_import))
    feeds = {tensor.name: numpy_helper.to_array(tensor) for tensor in inputs}
    return [np.ascontiguousarray(array) for array in ReferenceEvaluator(single).run(None, feeds)]


def _bytes(tensor: onnx.TensorProto) -> bytes:
    return tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
