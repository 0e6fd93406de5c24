"""Convolutions in forms that CPU kernels run faster, by the same arithmetic."""

from typing import Any

import numpy as np
import onnx

from stemwright.models.sessions.rewrites.graph import AnyArray, EditableGraph, Patch, attribute


def halve_gates(graph: EditableGraph) -> int:
    """Compute a gated linear unit behind a convolution as two convolutions of half the channels.

    Without the Split the halves need not be copied out of one tensor, and the sigmoid is applied
    by the convolution itself. Returns the number of gates changed.
    """
    changed = 0
    for split in [node for node in graph.nodes if node.op_type == "Split"]:
        conv = graph.producer(split.input[0])
        if conv is None or conv.op_type != "Conv" or len(graph.consumers(split.input[0])) != 1:
            continue
        if not _halves_channels(graph, split) or not _splittable(graph, conv):
            continue
        patch = Patch(graph, conv.output[0])
        for part, output in enumerate(split.output):
            _half(graph, patch, conv, part, output)
        graph.replace([conv, split], patch.nodes)
        changed += 1
    graph.prune()
    return changed


def _halves_channels(graph: EditableGraph, split: onnx.NodeProto) -> bool:
    shapes = [graph.shape(name) for name in split.output]
    return (
        len(shapes) == 2
        and shapes[0] is not None
        and shapes[0] == shapes[1]
        and attribute(split, "axis", 0) in (1, 1 - len(shapes[0]))
        and any(_is_sigmoid_gate(graph, name) for name in split.output)
    )


def _is_sigmoid_gate(graph: EditableGraph, name: str) -> bool:
    return graph.only_consumer(name, "Sigmoid") is not None


def _splittable(graph: EditableGraph, conv: onnx.NodeProto) -> bool:
    return attribute(conv, "group", 1) == 1 and all(name in graph.constants for name in conv.input[1:])


def _half(graph: EditableGraph, patch: Patch, conv: onnx.NodeProto, part: int, output: str) -> None:
    size = graph.constants[conv.input[1]].shape[0] // 2
    half = slice(part * size, (part + 1) * size)
    tensors = [graph.add_constant(name, graph.constants[name][half]) for name in conv.input[1:]]
    shape = graph.shape(output) or ()
    patch.add("Conv", [conv.input[0], *tensors], shape, output=output, **attributes_of(conv))


def unroll_transposed(graph: EditableGraph) -> int:
    """Compute a strided transposed convolution as a convolution and an interleaving.

    Holds where the kernel is twice the stride, along one axis: output phase p of block t is
    w[p] x[t] + w[p + stride] x[t - 1], a convolution of two taps to `stride` times the channels.
    Returns the number changed.
    """
    changed = 0
    for node in [node for node in graph.nodes if node.op_type == "ConvTranspose"]:
        weight = graph.constant(node.input[1])
        shape, out = graph.shape(node.input[0]), graph.shape(node.output[0])
        if weight is None or shape is None or out is None or not _doubles(graph, node, weight):
            continue
        patch = Patch(graph, node.output[0])
        _unrolled(graph, patch, node, weight, shape)
        graph.replace([node], patch.nodes)
        changed += 1
    graph.prune()
    return changed


def _doubles(graph: EditableGraph, node: onnx.NodeProto, weight: AnyArray) -> bool:
    kernel, axes = weight.shape[2:], weight.ndim - 2
    strides = attribute(node, "strides", [1] * axes)
    return (
        kernel[0] == 2 * strides[0]
        and strides[0] > 1
        and all(k == 1 and s == 1 for k, s in zip(kernel[1:], strides[1:], strict=True))
        and attribute(node, "group", 1) == 1
        and not any(attribute(node, "pads", [0]))
        and not any(attribute(node, "output_padding", [0]))
        and all(d == 1 for d in attribute(node, "dilations", [1]))
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        and all(name in graph.constants for name in node.input[1:])
    )


def _unrolled(
    graph: EditableGraph, patch: Patch, node: onnx.NodeProto, weight: AnyArray, shape: tuple[int, ...]
) -> None:
    stride = weight.shape[2] // 2
    channels, rest = weight.shape[1], shape[3:]
    # [in, out, 2, stride] -> [out, phase, in, (previous, current)]
    taps = weight.reshape(weight.shape[0], channels, 2, stride)[:, :, ::-1].transpose(1, 3, 0, 2)
    kernel = taps.reshape(channels * stride, weight.shape[0], 2, *(1 for _ in rest))
    tensors = [graph.add_constant("weight", kernel)]
    if len(node.input) > 2:
        tensors.append(graph.add_constant("bias", np.repeat(graph.constants[node.input[2]], stride)))
    blocks = shape[2] + 1
    pads = [1, *(0 for _ in rest)] * 2
    batch = shape[0]
    phases = patch.add(
        "Conv",
        [node.input[0], *tensors],
        (batch, channels * stride, blocks, *rest),
        kernel_shape=list(kernel.shape[2:]),
        pads=pads,
    )
    split = patch.reshape(phases, (batch, channels, stride, blocks, *rest))
    order = [0, 1, 3, 2, *range(4, 4 + len(rest))]
    woven = patch.add("Transpose", [split], (batch, channels, blocks, stride, *rest), perm=order)
    patch.reshape(woven, (batch, channels, blocks * stride, *rest), output=node.output[0])


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """All attributes of a node."""
    return {entry.name: attribute(node, entry.name) for entry in node.attribute}
