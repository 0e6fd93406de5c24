"""Giving a graph that takes one item at a time a batch of several."""

from collections.abc import Callable, Mapping

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.models.manifest import Graph

Call = Callable[[Mapping[str, FloatArray]], dict[str, FloatArray]]


def run_graph(call: Call, graph: Graph, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Call with each item of the batch in turn, or once with a state, and put the outputs together.

    Parameters
    ----------
    call
        Takes and gives arrays whose first axis is 1, apart from those of a state.
    graph
        Signature of the graph.
    inputs
        Array for each of its inputs; the first axis of those that are no state is the batch.
    """
    arrays = in_own_types(graph, inputs)
    if graph.state:  # allowed with a batch of one only
        return call(arrays)
    size = next(iter(arrays.values())).shape[0]
    parts = [call({name: value[i : i + 1] for name, value in arrays.items()}) for i in range(size)]
    if size == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def in_own_types(graph: Graph, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the array for each input of a graph, and of its state, contiguous and of the type it takes."""
    types: dict[str, str] = {port.name: "float32" for port in graph.inputs}
    types |= {tensor.input: tensor.dtype for tensor in graph.state}
    return {name: np.ascontiguousarray(inputs[name], dtype) for name, dtype in types.items()}
