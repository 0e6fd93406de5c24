"""Attention written out as products and a softmax, as one fused operator.

The fused operator of ONNX Runtime works through the keys in blocks and never holds the scores
(heads x queries x keys), which for HTDemucs are 231 MB a copy.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from stemwright.models.sessions.rewrites.graph import MICROSOFT, AnyArray, EditableGraph, Patch, attribute
from stemwright.models.sessions.rewrites.moves import scaling, trace


@dataclass(frozen=True, kw_only=True)
class Attention:
    """An attention: softmax(scale query key) value, all per head.

    Parameters
    ----------
    nodes
        The nodes between the three inputs and the output.
    query, key, value, output
        Names of values of shape [1, heads, queries, width], [1, heads, width, keys],
        [1, heads, keys, value_width] and [1, heads, queries, value_width].
    scale
        Factor of the scores that is applied by `nodes`.
    """

    nodes: tuple[onnx.NodeProto, ...]
    query: str
    key: str
    value: str
    output: str
    scale: float
    heads: int
    queries: int
    keys: int
    width: int
    value_width: int


def fuse_attention(graph: EditableGraph) -> int:
    """Turn each softmax(scale q k^T) v into com.microsoft.MultiHeadAttention.

    However an exporter split and transposed the projections into heads: each element is followed
    back to the linear layer it comes from, and where they lie as expected, that layer is cut into
    one for each of q, k and v, so that nothing has to be moved. Returns the number fused.
    """
    fused = 0
    for softmax in [node for node in graph.nodes if node.op_type == "Softmax"]:
        found = find_attention(graph, softmax)
        if found is not None:
            _replace(graph, found)
            fused += 1
    graph.prune()
    return fused


def find_attention(graph: EditableGraph, softmax: onnx.NodeProto) -> Attention | None:
    """Recognise the attention around a softmax, if it is one with a batch of one."""
    scores, scale, scalings = _scores_of(graph, softmax.input[0])
    product = graph.only_consumer(softmax.output[0], "MatMul")
    if scores is None or product is None or product.input[0] != softmax.output[0]:
        return None
    nodes = (softmax, *scalings, scores, product)
    if any(len(graph.consumers(node.output[0])) != 1 for node in nodes[:-1]):
        return None
    query, key, value = (graph.shape(name) for name in (*scores.input, product.input[1]))
    if query is None or key is None or value is None or not len(query) == len(key) == len(value) == 4:
        return None
    if attribute(softmax, "axis", -1) not in (-1, 3) or query[0] != 1 or key[:2] != query[:2]:
        return None
    return Attention(
        nodes=nodes,
        query=scores.input[0],
        key=scores.input[1],
        value=product.input[1],
        output=product.output[0],
        scale=scale,
        heads=query[1],
        queries=query[2],
        keys=key[3],
        width=query[3],
        value_width=value[3],
    )


def _scores_of(graph: EditableGraph, name: str) -> tuple[onnx.NodeProto | None, float, list[onnx.NodeProto]]:
    """Find the product behind a softmax, the factor between the two and the nodes that apply it."""
    scale, passed = 1.0, []
    node = graph.producer(name)
    while node is not None and (factor := scaling(graph, node)) is not None:
        scale *= factor
        passed.append(node)
        name = node.input[1] if graph.scalar(node.input[0]) is not None else node.input[0]
        node = graph.producer(name)
    return (node if node is not None and node.op_type == "MatMul" else None), scale, passed


def _replace(graph: EditableGraph, found: Attention) -> None:
    patch = Patch(graph, found.output)
    h, n = found.heads, found.keys
    query, scale_q = rows_of(graph, patch, found.query, (h, found.queries, found.width), (0, 2, 1, 3))
    key, scale_k = rows_of(graph, patch, found.key, (h, n, found.width), (0, 3, 1, 2))
    value, scale_v = rows_of(graph, patch, found.value, (h, n, found.value_width), (0, 2, 1, 3))
    mixed = patch.add(
        "MultiHeadAttention",
        [query, key, value],
        (1, found.queries, h * found.value_width),
        domain=MICROSOFT,
        num_heads=h,
        scale=found.scale * scale_q * scale_k,
    )
    if scale_v != 1.0:
        factor = graph.add_constant("scale", np.asarray(scale_v, np.float32))
        mixed = patch.add("Mul", [mixed, factor], (1, found.queries, h * found.value_width))
    split = patch.reshape(mixed, (1, found.queries, h, found.value_width))
    shape = (1, h, found.queries, found.value_width)
    patch.add("Transpose", [split], shape, output=found.output, perm=[0, 2, 1, 3])
    graph.replace(found.nodes, patch.nodes)


def rows_of(
    graph: EditableGraph,
    patch: Patch,
    name: str,
    sizes: tuple[int, int, int],
    to_rows: tuple[int, int, int, int],
) -> tuple[str, float]:
    """Give heads back as rows [1, length, heads * width].

    Parameters
    ----------
    graph, patch
        Where the value is, and where new nodes go.
    name
        The value, of four axes.
    sizes
        Heads, length, width.
    to_rows
        Order of the value's axes that gives [1, length, heads, width].

    Returns
    -------
    tuple
        Name of the rows, and the factor by which the value is larger than these.
    """
    heads, length, width = sizes
    found = trace(graph, name, through_scaling=True)
    if found is not None:
        # Row t of the layer's output holds, from column `first` on, the heads side by side.
        columns = (graph.shape(found.source) or (0,))[-1]
        first = int(found.index.ravel()[0])
        rows = np.arange(length)[:, None] * columns + first + np.arange(heads * width)
        fits = first + heads * width <= columns and found.index.size == rows.size
        if fits and np.array_equal(found.index.transpose(to_rows).reshape(rows.shape), rows):
            layer = _cut_layer(graph, patch, found.source, slice(first, first + heads * width))
            if layer is not None:
                return patch.reshape(layer, (1, length, heads * width)), found.scale
    moved = patch.add("Transpose", [name], (1, length, heads, width), perm=list(to_rows))
    return patch.reshape(moved, (1, length, heads * width)), 1.0


def _cut_layer(graph: EditableGraph, patch: Patch, name: str, columns: slice) -> str | None:
    """Compute only some columns of a linear layer's output."""
    shape = graph.shape(name)
    node = graph.producer(name)
    if shape is None or node is None:
        return None
    if columns.start == 0 and columns.stop == shape[-1]:
        return name
    bias: AnyArray | None = None
    if node.op_type == "Add":
        bias = next((graph.constants[n] for n in node.input if n in graph.constants), None)
        other = next((n for n in node.input if n not in graph.constants), "")
        node = graph.producer(other)
        if bias is None or bias.shape != (shape[-1],) or node is None:
            return None
    if node.op_type != "MatMul" or node.input[1] not in graph.constants:
        return None
    weight = graph.constants[node.input[1]]
    if weight.ndim != 2:
        return None
    cut = (*shape[:-1], columns.stop - columns.start)
    part = patch.add("MatMul", [node.input[0], graph.add_constant("weight", weight[:, columns])], cut)
    if bias is None:
        return part
    return patch.add("Add", [part, graph.add_constant("bias", bias[columns])], cut)
