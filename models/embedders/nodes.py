"""Layers of transformers and of their kin as nodes of a graph that is written from a checkpoint's tensors.

All functions that write an embedder's graph take the tensors by the names of the checkpoint, whose sizes give
the network's, and how large constants are stored. They return the graph, with one output [batch, frames, E],
and E. They raise ModelFileError where a tensor is missing or has an impossible shape.
"""

from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.graphs.tensors import Tensors
from stemwright.models.graphs.writer import GraphWriter

_LEAST_NORM = 1e-12


def of_length_one(writer: GraphWriter, x: str) -> str:
    """Divide vectors [B, E] by their lengths; zeros stay zeros."""
    norm = writer.op("ReduceL2", x, writer.ints(1), keepdims=1)
    return writer.op("Div", x, writer.op("Max", norm, writer.small(_LEAST_NORM)))


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A graph in the making and the tensors that go into it.

    Parameters
    ----------
    state
        Tensors by name.
    writer
        The graph.
    remedy
        What to tell whoever gave tensors that do not fit each other.
    """

    state: Tensors
    writer: GraphWriter
    remedy: str

    def linear(self, x: str, name: str) -> str:
        """Add a dense layer on the last axis; a bias is optional."""
        matrix = self.state.take(f"{name}.weight", rank=2)
        bias = self.state.take(f"{name}.bias") if f"{name}.bias" in self.state else None
        return self.dense(x, name, matrix, bias)

    def dense(self, x: str, name: str, matrix: FloatArray, bias: FloatArray | None) -> str:
        """Add a dense layer of given weights, shape=(out, in)."""
        if bias is not None and len(bias) != len(matrix):
            raise ModelFileError(f"weight and bias of {name} do not fit each other", self.remedy)
        made = self.writer.op(
            "MatMul", x, self.writer.weight(f"{name}.weight", np.ascontiguousarray(matrix.T))
        )
        if bias is None:
            return made
        return self.writer.op("Add", made, self.writer.weight(f"{name}.bias", bias))

    def layer_norm(self, x: str, name: str, epsilon: float = 1e-5) -> str:
        """Add a norm over the last axis."""
        weight, bias = (self._vector(name, part) for part in ("weight", "bias"))
        return self.writer.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)

    def group_norm(self, x: str, name: str, groups: int, axes: int, epsilon: float = 1e-5) -> str:
        """Add a norm over groups of channels of [B, C, ...] with `axes` axes behind the channels."""
        writer = self.writer
        shape = writer.op("Shape", x)
        flat = writer.op("Reshape", x, writer.ints(0, groups, -1))
        ones, zeros = writer.small(np.ones(groups)), writer.small(np.zeros(groups))
        normal = writer.op("InstanceNormalization", flat, ones, zeros, epsilon=epsilon)
        back = writer.op("Reshape", normal, shape)
        weight, bias = (
            writer.weight(f"{name}.{part}", self.state.take(f"{name}.{part}").reshape(-1, *[1] * axes))
            for part in ("weight", "bias")
        )
        return writer.op("Add", writer.op("Mul", back, weight), bias)

    def attention(self, queries: str, keys: str, values: str, heads: int, size: int, bias: str = "") -> str:
        """Add attention of [B, N, C] with C = `size`, whose queries are scaled already.

        `bias` is added to the products of queries and keys.
        """
        writer = self.writer
        split = writer.ints(0, 0, heads, size // heads)
        q, v = (
            writer.op("Transpose", writer.op("Reshape", one, split), perm=[0, 2, 1, 3])
            for one in (queries, values)
        )
        k = writer.op("Transpose", writer.op("Reshape", keys, split), perm=[0, 2, 3, 1])
        scores = writer.op("MatMul", q, k)
        if bias:
            scores = writer.op("Add", scores, bias)
        mixed = writer.op("MatMul", writer.op("Softmax", scores, axis=-1), v)
        back = writer.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return writer.op("Reshape", back, writer.ints(0, 0, size))

    def _vector(self, name: str, part: str) -> str:
        return self.writer.weight(f"{name}.{part}", self.state.take(f"{name}.{part}"))
