"""Following elements through nodes that only move data, and dropping moves that cancel."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from stemwright.models.sessions.rewrites.graph import EditableGraph, attribute

IndexArray = npt.NDArray[np.int32]
_VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
_MOVES = (*_VIEWS, "Transpose", "Gather", "Split")
# Following needs an index per element; larger tensors than this are left alone.
_LARGEST = 1 << 24


@dataclass(frozen=True)
class Trace:
    """A value as a selection of an earlier value's elements.

    Parameters
    ----------
    source
        Name of the earlier value.
    index
        For each element of the later value, the flat position of that element in the source.
    scale
        Factor by which the elements were multiplied on the way.
    length
        Number of nodes on the way.
    """

    source: str
    index: IndexArray
    scale: float
    length: int


def trace(graph: EditableGraph, name: str, *, through_scaling: bool) -> Trace | None:
    """Follow a value back to where its elements were computed.

    Parameters
    ----------
    graph
        A graph whose shapes are known.
    name
        The value.
    through_scaling
        Go through products with, and quotients by, a constant number too.

    Returns
    -------
    Trace or None
        None where a shape on the way is not known, or the tensor is too large to follow.
    """
    path: list[tuple[onnx.NodeProto, str]] = []
    scale = 1.0
    source = name
    while (node := graph.producer(source)) is not None:
        factor = scaling(graph, node) if through_scaling else None
        if factor is None and not _is_move(graph, node, source):
            break
        if factor is not None:
            scale *= factor
        else:
            path.append((node, source))
        source = _carried_input(graph, node)
    shape = graph.shape(source)
    if shape is None or math.prod(shape) > _LARGEST:
        return None
    index = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    for node, output in reversed(path):
        index = _move(graph, node, output, index)
    return Trace(source=source, index=index, scale=scale, length=len(path))


def cancel_moves(graph: EditableGraph) -> int:
    """Replace chains of moves that leave all elements in their order by one Reshape.

    Returns the number of chains replaced.
    """
    changed = 0
    for name in list(_ends_of_chains(graph)):
        last = graph.producer(name)
        found = trace(graph, name, through_scaling=False)
        if last is None or found is None or len(last.output) != 1:
            continue
        if found.length < 2 and last.op_type != "Transpose":
            continue
        size = math.prod(graph.shape(found.source) or ())
        if found.index.size != size or not np.array_equal(found.index.ravel(), np.arange(size)):
            continue
        shape = graph.ints("shape", found.index.shape)
        graph.replace([last], [helper.make_node("Reshape", [found.source, shape], [name])])
        changed += 1
    graph.prune()
    return changed


def scaling(graph: EditableGraph, node: onnx.NodeProto) -> float | None:
    """Give the number by which a node multiplies its other input; None if it does something else."""
    if node.op_type == "Mul":
        return next((value for name in node.input if (value := graph.scalar(name)) is not None), None)
    if node.op_type == "Div":
        divisor = graph.scalar(node.input[1])
        return None if divisor is None else 1.0 / divisor
    return None


def _ends_of_chains(graph: EditableGraph) -> Iterator[str]:
    """Find the outputs of moves that something else than a move reads."""
    for node in graph.nodes:
        for name in node.output if node.op_type in _MOVES else ():
            readers = graph.consumers(name)
            if name in graph.outputs or any(reader.op_type not in _MOVES for reader in readers):
                yield name


def _is_move(graph: EditableGraph, node: onnx.NodeProto, output: str) -> bool:
    if node.op_type not in _MOVES or graph.shape(output) is None:
        return False
    return node.op_type != "Gather" or node.input[1] in graph.constants


def _carried_input(graph: EditableGraph, node: onnx.NodeProto) -> str:
    if node.op_type == "Mul" and graph.scalar(node.input[0]) is not None:
        return str(node.input[1])
    return str(node.input[0])


def _move(graph: EditableGraph, node: onnx.NodeProto, output: str, index: IndexArray) -> IndexArray:
    shape = graph.shape(output) or ()
    moved: IndexArray = index
    if node.op_type == "Transpose":
        order: tuple[int, ...] = tuple(attribute(node, "perm", range(index.ndim)[::-1]))
        moved = index.transpose(order)
    elif node.op_type == "Gather":
        moved = np.take(index, graph.constants[node.input[1]], axis=attribute(node, "axis", 0))
    elif node.op_type == "Split":
        axis = attribute(node, "axis", 0) % index.ndim
        before = list(node.output)[: list(node.output).index(output)]
        start = sum((graph.shape(name) or ())[axis] for name in before)
        moved = index[(slice(None),) * axis + (slice(start, start + shape[axis]),)]
    return moved.reshape(shape)
