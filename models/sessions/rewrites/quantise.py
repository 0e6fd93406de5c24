"""Large linear layers in int8: weights quantised when loading, activations in each call."""

import numpy as np
import onnx

from stemwright.models.sessions.rewrites.graph import MICROSOFT, AnyArray, EditableGraph, Patch

# Smaller layers cost more in quantising their input than their product saves; chosen here.
_SMALLEST = 1 << 16


def quantise_layers(graph: EditableGraph) -> int:
    """Turn large products with a constant matrix into com.microsoft.DynamicQuantizeMatMul.

    Weights are symmetric int8 with a scale per column, activations asymmetric uint8 with a scale
    per call. Returns the number of layers changed.
    """
    changed = 0
    for node in [node for node in graph.nodes if node.op_type == "MatMul"]:
        weight = graph.constant(node.input[1])
        shape = graph.shape(node.output[0])
        if weight is None or shape is None or weight.ndim != 2 or weight.size < _SMALLEST:
            continue
        patch = Patch(graph, node.output[0])
        add, bias = _bias_behind(graph, node)
        values, scales = quantised_columns(weight)
        inputs = [
            node.input[0],
            graph.add_constant("int8", values),
            graph.add_constant("scales", scales),
            graph.add_constant("zeros", np.zeros(weight.shape[1], np.int8)),
        ]
        if bias is not None:
            inputs.append(graph.add_constant("bias", bias))
        last = node if add is None else add
        patch.add("DynamicQuantizeMatMul", inputs, shape, output=last.output[0], domain=MICROSOFT)
        graph.replace([node] if add is None else [node, add], patch.nodes)
        changed += 1
    graph.prune()
    return changed


def compress_layers(graph: EditableGraph) -> int:
    """Store large products' constant matrices as int8 with a scale per column.

    For OpenVINO, which multiplies them in int8 with activations that it quantises in groups itself.
    Returns the number of layers changed.
    """
    changed = 0
    for node in [node for node in graph.nodes if node.op_type == "MatMul"]:
        weight = graph.constant(node.input[1])
        if weight is None or weight.ndim != 2 or weight.size < _SMALLEST:
            continue
        values, scales = quantised_columns(weight)
        patch = Patch(graph, node.output[0])
        tensors = [
            graph.add_constant("int8", values),
            graph.add_constant("scales", scales),
            graph.add_constant("zeros", np.zeros(weight.shape[1], np.int8)),
        ]
        restored = patch.add("DequantizeLinear", tensors, weight.shape, axis=1)
        shape = graph.shape(node.output[0]) or ()
        patch.add("MatMul", [node.input[0], restored], shape, output=node.output[0])
        graph.replace([node], patch.nodes)
        changed += 1
    graph.prune()
    return changed


def quantised_columns(weight: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Nearest int8 values and the scale of each column of a matrix."""
    scales = np.abs(weight).max(axis=0).astype(np.float32) / np.float32(127.0)
    scales[scales == 0] = 1.0
    return np.rint(weight / scales).astype(np.int8), scales


def _bias_behind(graph: EditableGraph, node: onnx.NodeProto) -> tuple[onnx.NodeProto | None, AnyArray | None]:
    add = graph.only_consumer(node.output[0], "Add")
    if add is None:
        return None, None
    bias = next((graph.constants[name] for name in add.input if name in graph.constants), None)
    columns = (graph.shape(node.output[0]) or (0,))[-1]
    return (add, bias) if bias is not None and bias.shape == (columns,) else (None, None)
