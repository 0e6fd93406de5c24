"""Group normalisation over all channels at once: recognising it, and folding it into its neighbours."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from stemwright.models.sessions.rewrites.graph import AnyArray, EditableGraph, Patch, attribute

_LAYER_NORM_OPSET = 17


@dataclass(frozen=True, kw_only=True)
class GroupNorm:
    """y = (x - mean) / sqrt(variance + epsilon) * weight + bias over all of [C, T] of each row.

    Parameters
    ----------
    nodes
        The nodes that compute it.
    source, output
        Names of x and y, [N, C, ...].
    weight, bias
        Shape (C,).
    epsilon
        As in the formula.
    """

    nodes: tuple[onnx.NodeProto, ...]
    source: str
    output: str
    weight: AnyArray
    bias: AnyArray
    epsilon: float


def find_group_norm(graph: EditableGraph, node: onnx.NodeProto) -> GroupNorm | None:
    """Recognise a normalisation with one group by its central node, in either exporter's form."""
    if node.op_type == "GroupNormalization":
        return _from_operator(graph, node)
    if node.op_type == "InstanceNormalization":
        return _from_instances(graph, node)
    return None


def _from_operator(graph: EditableGraph, node: onnx.NodeProto) -> GroupNorm | None:
    weight, bias = graph.constant(node.input[1]), graph.constant(node.input[2])
    shape = graph.shape(node.input[0])
    if attribute(node, "num_groups") != 1 or weight is None or bias is None or shape is None:
        return None
    return GroupNorm(
        nodes=(node,),
        source=node.input[0],
        output=node.output[0],
        weight=np.broadcast_to(weight, (shape[1],)),
        bias=np.broadcast_to(bias, (shape[1],)),
        epsilon=attribute(node, "epsilon", 1e-5),
    )


def _from_instances(graph: EditableGraph, node: onnx.NodeProto) -> GroupNorm | None:
    """Reshape to [N, 1, C T], normalise, reshape back, times weight, plus bias."""
    before = graph.producer(node.input[0])
    after = graph.only_consumer(node.output[0], "Reshape")
    if before is None or before.op_type != "Reshape" or after is None:
        return None
    shape, flat = graph.shape(before.input[0]), graph.shape(node.input[0])
    if shape is None or flat is None or flat[:2] != (shape[0], 1) or graph.shape(after.output[0]) != shape:
        return None
    plain = (graph.constant(node.input[1]), graph.constant(node.input[2]))
    if plain[0] is None or plain[1] is None or np.any(plain[0] != 1) or np.any(plain[1] != 0):
        return None
    times = graph.only_consumer(after.output[0], "Mul")
    plus = graph.only_consumer(times.output[0], "Add") if times is not None else None
    if times is None or plus is None:
        return None
    weight, bias = _per_channel(graph, times, shape), _per_channel(graph, plus, shape)
    if weight is None or bias is None or len(graph.consumers(before.output[0])) != 1:
        return None
    return GroupNorm(
        nodes=(before, node, after, times, plus),
        source=before.input[0],
        output=plus.output[0],
        weight=weight,
        bias=bias,
        epsilon=attribute(node, "epsilon", 1e-5),
    )


def _per_channel(graph: EditableGraph, node: onnx.NodeProto, shape: tuple[int, ...]) -> AnyArray | None:
    """Constant operand of a node that differs by channel only (axis 1 of `shape`), as (C,)."""
    value = next((graph.constants[name] for name in node.input if name in graph.constants), None)
    if value is None or value.ndim > len(shape):
        return None
    full = (1,) * (len(shape) - value.ndim) + value.shape
    if any(size != 1 for axis, size in enumerate(full) if axis != 1):
        return None
    return np.broadcast_to(value.reshape(-1), (shape[1],))


@dataclass(frozen=True, kw_only=True)
class _Gate:
    """Second half of a residual branch: 1x1 convolution, norm, gated linear unit, perhaps a scale."""

    nodes: tuple[onnx.NodeProto, ...]
    conv: onnx.NodeProto
    norm: GroupNorm
    output: str
    scale: AnyArray | None


def fold_gated_norms(graph: EditableGraph) -> int:
    """Fold a norm between a 1x1 convolution and a gated linear unit into the convolution.

    The norm's statistics are those of W h + b, and follow from h alone, which has a sixteenth of
    the channels in Demucs. Let w and c be the means of W and b over the output channels, and m the
    time mean of h: the mean is s + c with s = w m, and what is normalised is V (h, s, 1) with
    V = [W | -1 | b - c]. With V'V = R'R the variance is the mean over time of |R (h, s, 1)|^2 over
    the number of channels: a sum of squares, which loses no digits. What is left of the norm is a
    factor per row, put on (h, s, 1), and a factor per channel, put into V. The gate becomes two
    convolutions, and a scale behind it (LayerScale) goes into the first of them.

    Returns the number of places folded.
    """
    folded = 0
    for node in list(graph.nodes):
        norm = find_group_norm(graph, node)
        gate = _find_gate(graph, norm) if norm is not None else None
        if gate is not None:
            _fold_gate(graph, gate)
            folded += 1
    graph.prune()
    return folded


def _find_gate(graph: EditableGraph, norm: GroupNorm) -> _Gate | None:
    conv = graph.producer(norm.source)
    split = graph.only_consumer(norm.output, "Split")
    if conv is None or conv.op_type != "Conv" or split is None or len(graph.consumers(norm.source)) != 1:
        return None
    if not _is_pointwise(graph, conv) or len(split.output) != 2 or attribute(split, "axis", 0) != 1:
        return None
    shape = graph.shape(norm.source)
    sigmoid = graph.only_consumer(split.output[1], "Sigmoid")
    product = graph.only_consumer(split.output[0], "Mul")
    if shape is None or sigmoid is None or product is None or not _is_even(graph, split):
        return None
    if set(product.input) != {split.output[0], sigmoid.output[0]}:
        return None
    half = (shape[0], shape[1] // 2, *shape[2:])
    nodes = [conv, *norm.nodes, split, sigmoid, product]
    times = graph.only_consumer(product.output[0], "Mul")
    scale = _per_channel(graph, times, half) if times is not None else None
    if times is not None and scale is not None:
        nodes.append(times)
    return _Gate(nodes=tuple(nodes), conv=conv, norm=norm, output=nodes[-1].output[0], scale=scale)


def _is_even(graph: EditableGraph, split: onnx.NodeProto) -> bool:
    sizes = graph.constant(split.input[1]) if len(split.input) > 1 else attribute(split, "split", (1, 1))
    return sizes is not None and len(set(np.asarray(sizes).tolist())) == 1


def _is_pointwise(graph: EditableGraph, conv: onnx.NodeProto) -> bool:
    weight = graph.constant(conv.input[1])
    return (
        weight is not None
        and all(size == 1 for size in weight.shape[2:])
        and all(name in graph.constants for name in conv.input[1:])
        and attribute(conv, "group", 1) == 1
        and not any(attribute(conv, "pads", [0]))
        and all(stride == 1 for stride in attribute(conv, "strides", [1]))
    )


def _fold_gate(graph: EditableGraph, gate: _Gate) -> None:
    hidden = gate.conv.input[0]
    rows, width, *rest = graph.shape(hidden) or ()
    ones = (1,) * len(rest)
    weight = graph.constants[gate.conv.input[1]].astype(np.float64).reshape(-1, width)
    size = weight.shape[0]
    bias = np.zeros(size)
    if len(gate.conv.input) > 2:
        bias = graph.constants[gate.conv.input[2]].astype(np.float64)
    everything = np.column_stack([weight, -np.ones(size), bias - bias.mean()])
    patch = Patch(graph, gate.output)
    ready = _normalised(graph, patch, hidden, everything, weight.mean(axis=0), gate.norm.epsilon)
    gain, shift = gate.norm.weight.astype(np.float64), gate.norm.bias.astype(np.float64)
    kernel = (gain[:, None] * everything).reshape(size, width + 2, *ones)
    half = size // 2
    scale = np.ones(half) if gate.scale is None else gate.scale.astype(np.float64)
    shape = (rows, half, *rest)
    a, b = (
        patch.add("Conv", [ready, *_tensors(graph, part)], shape, kernel_shape=list(ones))
        for part in (
            (kernel[:half] * scale.reshape(-1, 1, *ones), shift[:half] * scale),
            (kernel[half:], shift[half:]),
        )
    )
    patch.add("Mul", [a, patch.add("Sigmoid", [b], shape)], shape, output=gate.output)
    graph.replace(gate.nodes, patch.nodes)


def _normalised(
    graph: EditableGraph,
    patch: Patch,
    hidden: str,
    everything: AnyArray,
    mean_weight: AnyArray,
    epsilon: float,
) -> str:
    """(h, s, 1) / sqrt(variance + epsilon), the variance being that of `everything` (h, s, 1)."""
    rows, width, *rest = graph.shape(hidden) or ()
    ones, level = (1,) * len(rest), (rows, 1, *rest)
    time = list(range(2, 2 + len(rest)))
    mean = _mean(graph, patch, hidden, time)
    summed = patch.add(
        "Conv", [mean, *_tensors(graph, (mean_weight.reshape(1, width, *ones),))], (rows, 1, *ones)
    )
    whole = patch.add("Expand", [summed, graph.ints("shape", level)], level)
    extended = patch.add("Concat", [hidden, whole], (rows, width + 1, *rest), axis=1)
    root = _root(everything) * np.sqrt((width + 2) / everything.shape[0])
    tensors = _tensors(graph, (root[:, :-1].reshape(-1, width + 1, *ones), root[:, -1]))
    parts = patch.add("Conv", [extended, *tensors], (rows, root.shape[0], *rest), kernel_shape=list(ones))
    # Not ReduceSumSquare: ONNX Runtime sums that one after the other, which costs four digits.
    squares = patch.add("Mul", [parts, parts], (rows, root.shape[0], *rest))
    variance = _mean(graph, patch, squares, [1, *time])
    safe = patch.add("Add", [variance, *_tensors(graph, (np.asarray(epsilon),))], (rows, 1, *ones))
    factor = patch.add("Reciprocal", [patch.add("Sqrt", [safe], (rows, 1, *ones))], (rows, 1, *ones))
    scaled = patch.add("Mul", [extended, factor], (rows, width + 1, *rest))
    constant = patch.add("Expand", [factor, graph.ints("shape", level)], level)
    return patch.add("Concat", [scaled, constant], (rows, width + 2, *rest), axis=1)


def _root(matrix: AnyArray) -> AnyArray:
    """Give a square R with R'R = V'V, by eigenvalues: many times faster than QR for tall matrices."""
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)


def _mean(graph: EditableGraph, patch: Patch, name: str, axes: list[int]) -> str:
    """Mean over axes, one after the other from the last: a sum of millions at once costs four digits."""
    shape = list(graph.shape(name) or ())
    for axis in sorted(axes, reverse=True):
        shape[axis] = 1
        if graph.opset >= 18:
            name = patch.add("ReduceMean", [name, graph.ints("axes", [axis])], tuple(shape), keepdims=1)
        else:
            name = patch.add("ReduceMean", [name], tuple(shape), keepdims=1, axes=[axis])
    return name


def _tensors(graph: EditableGraph, values: tuple[AnyArray, ...]) -> list[str]:
    return [graph.add_constant("folded", np.asarray(value, np.float32)) for value in values]


def layer_norms(graph: EditableGraph) -> int:
    """Write norms over all channels as LayerNormalization over the axes from the channels on.

    Without the exporter's Reshape to one long row a runtime may keep its channels-last layout.
    Returns the number of norms changed.
    """
    if graph.opset < _LAYER_NORM_OPSET:
        return 0
    return _replace_norms(graph, _as_layer_norm)


def plain_norms(graph: EditableGraph) -> int:
    """Write norms over all channels as means and products.

    ONNX Runtime's own operators sum a long row one element after the other in float32, which
    costs three digits. Returns the number of norms changed.
    """
    return _replace_norms(graph, _as_means)


def _replace_norms(graph: EditableGraph, write: Callable[[EditableGraph, Patch, GroupNorm], None]) -> int:
    changed = 0
    for node in list(graph.nodes):
        norm = find_group_norm(graph, node)
        if norm is not None:
            patch = Patch(graph, norm.output)
            write(graph, patch, norm)
            graph.replace(norm.nodes, patch.nodes)
            changed += 1
    graph.prune()
    return changed


def _as_layer_norm(graph: EditableGraph, patch: Patch, norm: GroupNorm) -> None:
    shape = graph.shape(norm.source) or ()
    column = (-1, *(1 for _ in shape[2:]))
    affine = _tensors(graph, (norm.weight.reshape(column), norm.bias.reshape(column)))
    patch.add(
        "LayerNormalization",
        [norm.source, *affine],
        shape,
        output=norm.output,
        axis=1,
        epsilon=norm.epsilon,
    )


def _as_means(graph: EditableGraph, patch: Patch, norm: GroupNorm) -> None:
    shape = graph.shape(norm.source) or ()
    one, axes = (shape[0], *(1 for _ in shape[1:])), list(range(1, len(shape)))
    column = (-1, *(1 for _ in shape[2:]))
    weight, bias, epsilon = _tensors(
        graph, (norm.weight.reshape(column), norm.bias.reshape(column), np.asarray(norm.epsilon))
    )
    mean = _mean(graph, patch, norm.source, axes)
    centred = patch.add("Sub", [norm.source, mean], shape)
    squares = patch.add("Mul", [centred, centred], shape)
    variance = patch.add("Add", [_mean(graph, patch, squares, axes), epsilon], one)
    factor = patch.add("Reciprocal", [patch.add("Sqrt", [variance], one)], one)
    gain = patch.add("Mul", [factor, weight], (shape[0], *norm.weight.shape, *one[2:]))
    scaled = patch.add("Mul", [centred, gain], shape)
    patch.add("Add", [scaled, bias], shape, output=norm.output)
