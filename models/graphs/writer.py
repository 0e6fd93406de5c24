"""Writing an ONNX graph node by node."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemwright.core.arrays import FloatArray
from stemwright.models.graphs.weightless import MIN_FLOAT16_SIZE, Storage

OPSET = 20
IR_VERSION = 10
TO_THE_END = 2**62
"""End of a slice."""
Port = tuple[str, int, Sequence[str | int]]
"""Name, element type and axes of an input or output."""


class GraphWriter:
    """A graph that grows by one operator at a time.

    Parameters
    ----------
    storage
        `float16` keeps a large weight as float16 with a Cast behind it where that loses nothing.
    """

    def __init__(self, storage: Storage = "float32") -> None:
        self._storage = storage
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []
        self._counts: dict[str, int] = {}
        self._ints: dict[tuple[int, ...], str] = {}

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add an operator with one output and return the output's name."""
        name = output or self._unique(op_type.lower())
        self._nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def split(self, source: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Cut a value into parts along an axis."""
        names = [self._unique("split") for _ in sizes]
        self._nodes.append(helper.make_node("Split", [source, self.ints(*sizes)], names, axis=axis))
        return names

    def slice(self, source: str, start: int, stop: int, axis: int, output: str | None = None) -> str:
        """Cut a part out of a value; negative places count from the end."""
        bounds = (self.ints(start), self.ints(stop), self.ints(axis))
        return self.op("Slice", source, *bounds, output=output)

    def weight(self, name: str, value: FloatArray) -> str:
        """Add a weight under its own name, as float32 to whoever reads it."""
        full = np.ascontiguousarray(value, np.float32)
        with np.errstate(over="ignore"):
            half = full.astype(np.float16)
        exact = self._storage == "float16" and np.array_equal(half.astype(np.float32), full)
        if not exact or full.size < MIN_FLOAT16_SIZE:
            return self._constant(full, name)
        return self.op("Cast", self._constant(half, f"{name}/float16"), output=name, to=TensorProto.FLOAT)

    def small(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Add a small constant."""
        return self._constant(np.asarray(values, dtype))

    def ints(self, *values: int) -> str:
        """Add a vector of integers, or find the one that is there."""
        if values not in self._ints:
            self._ints[values] = self._constant(np.asarray(values, np.int64))
        return self._ints[values]

    def model(self, name: str, inputs: Iterable[Port], outputs: Iterable[Port]) -> onnx.ModelProto:
        """Put everything together as a model of opset 20."""
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(*port) for port in inputs],
            [helper.make_tensor_value_info(*port) for port in outputs],
            self._tensors,
        )
        model: onnx.ModelProto = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        return model

    def _constant(self, value: npt.NDArray[Any], name: str | None = None) -> str:
        name = name or self._unique("constant")
        self._tensors.append(numpy_helper.from_array(value, name))
        return name

    def _unique(self, hint: str) -> str:
        number = self._counts[hint] = self._counts.get(hint, -1) + 1
        return f"{hint}_{number}"
