"""An ONNX graph that can be searched and changed in place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemwright.core.errors import ModelFileError

AnyArray = npt.NDArray[Any]
Shape = tuple[int, ...]
MICROSOFT = "com.microsoft"
# Below this a tensor can be a shape or an axis that shape inference has to see the values of.
_SHOWN_TO_INFERENCE = 1024


class EditableGraph:
    """Nodes, constants and known shapes of a model.

    Constant nodes are held as constants from the start, so that no pattern has to care in which
    of the two forms an exporter wrote a constant.

    Parameters
    ----------
    model
        The model; it is not changed, and its weights are not copied.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self.constants: dict[str, AnyArray] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self._input_infos = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in model.graph.input]
        self._output_infos = list(model.graph.output)
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.nodes: list[onnx.NodeProto] = []
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute and node.output[0] not in self.outputs:
                self.constants[node.output[0]] = _constant_value(node)
            else:
                self.nodes.append(node)
        self.shapes: dict[str, Shape] = {}
        self._numbers: dict[str, int] = {}
        self._names = {*self.constants, *self.inputs, *(n for node in self.nodes for n in node.output)}
        self._index()

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return int(self._opsets.get("", 1))

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Node that computes a value, or None for inputs and constants."""
        return self._producers.get(name)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """Nodes that read a value, in the order of the graph."""
        return self._consumers.get(name, [])

    def only_consumer(self, name: str, op_type: str) -> onnx.NodeProto | None:
        """Give the one node that reads a value, if it is of that type and nothing else reads it."""
        readers = self.consumers(name)
        if name in self.outputs or len(readers) != 1 or readers[0].op_type != op_type:
            return None
        return readers[0]

    def constant(self, name: str) -> AnyArray | None:
        """Value of a constant, or None."""
        return self.constants.get(name)

    def scalar(self, name: str) -> float | None:
        """Value of a constant of one element, or None."""
        value = self.constants.get(name)
        return None if value is None or value.size != 1 else float(value.reshape(()))

    def shape(self, name: str) -> Shape | None:
        """Shape of a value if it is fully known."""
        value = self.constants.get(name)
        return tuple(value.shape) if value is not None else self.shapes.get(name)

    def unique(self, hint: str) -> str:
        """Make a name that no value bears yet."""
        while True:
            number = self._numbers.get(hint, 0)
            self._numbers[hint] = number + 1
            name = f"{hint}/rw{number}"
            if name not in self._names:
                return name

    def add_constant(self, hint: str, value: AnyArray) -> str:
        """Add a constant and return its name."""
        name = self.unique(hint)
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def ints(self, hint: str, values: Iterable[int]) -> str:
        """Add an int64 vector and return its name."""
        return self.add_constant(hint, np.asarray(list(values), np.int64))

    def replace(self, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Put `new` where the last of `old` stands; the new nodes compute the values still needed."""
        gone = {id(node) for node in old}
        last = max(index for index, node in enumerate(self.nodes) if id(node) in gone)
        head = [node for node in self.nodes[:last] if id(node) not in gone]
        self.nodes = [*head, *new, *self.nodes[last + 1 :]]
        for node in new:
            self._opsets.setdefault(node.domain, 1)
        self._index()

    def set_batch(self, size: int) -> None:
        """Fix the first, variable, axis of every input."""
        for info in self._input_infos:
            axes = info.type.tensor_type.shape.dim
            if axes and not axes[0].HasField("dim_value"):
                axes[0].dim_value = size

    def infer_shapes(self) -> None:
        """Find the shapes of all values that follow from the inputs' shapes."""
        small = {name: value for name, value in self.constants.items() if value.size <= _SHOWN_TO_INFERENCE}
        shown = [_described(name, value) for name, value in self.constants.items() if name not in small]
        # Declared shapes of outputs are left out: with a fixed batch they could contradict.
        outputs = [
            helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, None)
            for info in self._output_infos
        ]
        graph = helper.make_graph(
            self.nodes,
            "shapes",
            [*self._input_infos, *shown],
            outputs,
            [numpy_helper.from_array(value, name) for name, value in small.items()],
        )
        known = onnx.shape_inference.infer_shapes(self._wrap(graph), data_prop=True).graph
        self.shapes = {}
        for info in [*known.value_info, *known.input, *known.output]:
            axes = info.type.tensor_type.shape.dim
            if info.type.tensor_type.HasField("shape") and all(axis.HasField("dim_value") for axis in axes):
                self.shapes[info.name] = tuple(axis.dim_value for axis in axes)

    def prune(self) -> None:
        """Drop nodes and constants that no output depends on."""
        needed = set(self.outputs)
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(name for name in node.input if name)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in needed}
        self._index()

    def to_model(self) -> onnx.ModelProto:
        """Build the model."""
        self.prune()
        outputs = [
            helper.make_tensor_value_info(
                info.name, info.type.tensor_type.elem_type, self.shapes.get(info.name)
            )
            if info.name in self.shapes
            else info
            for info in self._output_infos
        ]
        graph = helper.make_graph(
            self.nodes,
            self._model.graph.name or "graph",
            self._input_infos,
            outputs,
        )
        model = self._wrap(graph)
        for name, value in self.constants.items():  # one by one into their place: weights are copied once
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        return model

    def evaluate(self, node: onnx.NodeProto, inputs: Mapping[str, AnyArray]) -> list[AnyArray] | None:
        """Compute one node by ONNX's reference implementation; None if it knows no such operator."""
        from onnx.reference import ReferenceEvaluator

        graph = helper.make_graph(
            [node],
            "one",
            [_described(name, value) for name, value in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output],
        )
        try:
            return list(ReferenceEvaluator(self._wrap(graph)).run(None, dict(inputs)))
        except (NotImplementedError, RuntimeError, TypeError, ValueError):
            return None

    def _wrap(self, graph: onnx.GraphProto) -> onnx.ModelProto:
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=self._model.ir_version)

    def _index(self) -> None:
        self._producers = {name: node for node in self.nodes for name in node.output}
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)


class Patch:
    """New nodes on their way into a graph.

    Parameters
    ----------
    graph
        Where the nodes will stand; names of their values and constants are taken from it.
    hint
        Beginning of the names of new values.
    """

    def __init__(self, graph: EditableGraph, hint: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph = graph
        self._hint = hint

    def add(
        self,
        op_type: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        *,
        output: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node with one output and return that output's name.

        Parameters
        ----------
        op_type, inputs, domain, attributes
            As of helper.make_node.
        shape
            Shape of the output.
        output
            Name of the output if it replaces an existing value; else a new name is made.
        """
        name = output or self._graph.unique(self._hint)
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], domain=domain, **attributes))
        self._graph.shapes[name] = tuple(shape)
        return name

    def reshape(self, source: str, shape: Sequence[int], *, output: str = "") -> str:
        """Add a Reshape, or nothing if the shape is that already and no name is asked for."""
        if not output and self._graph.shape(source) == tuple(shape):
            return source
        return self.add("Reshape", [source, self._graph.ints("shape", shape)], shape, output=output)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of a node's attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def _described(name: str, value: AnyArray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _constant_value(node: onnx.NodeProto) -> AnyArray:
    entry = node.attribute[0]
    value = helper.get_attribute_value(entry)
    if entry.name == "value":
        return numpy_helper.to_array(value)
    if entry.name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    if entry.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    raise ModelFileError(f"constant {node.output[0]} is of kind {entry.name}", "export the model again")
