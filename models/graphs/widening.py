"""The weightless graph of a wide network out of those of narrow ones.

Networks of one architecture that differ in their number of channels have the same nodes; every size in their
graphs is a whole-numbered linear function of that number. Three narrow versions give the functions and
check them, so that a network need not be built at a width whose weights do not fit into memory.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from stemwright.core.errors import InternalError
from stemwright.models.graphs.recipes import FromWeights, Part, Recipe
from stemwright.models.graphs.weightless import WeightlessGraph, free_name


def widened(narrow: Mapping[int, WeightlessGraph], width: int) -> WeightlessGraph:
    """Return the weightless graph of a width.

    Parameters
    ----------
    narrow
        Weightless graphs of at least three widths.
    width
        The width wanted.

    Raises
    ------
    InternalError
        The graphs differ in more than sizes, or a size is no linear function of the width.
    """
    line = _Line(tuple(narrow), width)
    graphs = list(narrow.values())
    recipes, renamed = _recipes(line, [list(graph.recipes.values()) for graph in graphs])
    models = [graph.model for graph in graphs]
    model = onnx.ModelProto()
    model.CopyFrom(models[0])
    names = dict(zip(graphs[0].recipes, renamed, strict=True))
    for index, node in enumerate(model.graph.node):
        _widen_node(line, node, [other.graph.node[index] for other in models])
        node.input[:] = [names.get(name, name) for name in node.input]
    for index, tensor in enumerate(model.graph.initializer):
        tensor.CopyFrom(_tensor(line, [other.graph.initializer[index] for other in models]))
    for index, value in enumerate(model.graph.input):
        _widen_value(line, value, [other.graph.input[index] for other in models])
        value.name = names.get(value.name, value.name)
    del model.graph.value_info[:]
    return WeightlessGraph(model=model, recipes=recipes)


class _Line:
    """Whole numbers as linear functions of the width."""

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        if len(widths) < 3:
            raise InternalError("a graph is widened from at least three others")
        self.widths, self.width = widths, width

    def number(self, values: Sequence[int]) -> int:
        (x0, x1), (y0, y1) = self.widths[:2], values[:2]
        for x, y in zip(self.widths, values, strict=True):
            if (y - y0) * (x1 - x0) != (y1 - y0) * (x - x0):
                raise InternalError(f"sizes {list(values)} do not follow the widths {list(self.widths)}")
        rise, rest = divmod((y1 - y0) * (self.width - x0), x1 - x0)
        if rest:
            raise InternalError(f"sizes {list(values)} give none at width {self.width}")
        return y0 + rise

    def numbers(self, values: Sequence[Sequence[int]]) -> tuple[int, ...]:
        return tuple(self.number(column) for column in zip(*values, strict=True))


def _recipes(line: _Line, recipes: list[list[Recipe]]) -> tuple[dict[str, Recipe], list[str]]:
    made: dict[str, Recipe] = {}
    names = []
    for column in zip(*recipes, strict=True):
        weights = [recipe for recipe in column if isinstance(recipe, FromWeights)]
        if len(weights) != len(column):
            raise InternalError("only constants that are made of weights can be widened")
        recipe = _recipe(line, weights)
        name = free_name(recipe.label, made)
        made[name] = recipe
        names.append(name)
    return made, names


def _recipe(line: _Line, recipes: list[FromWeights]) -> FromWeights:
    repeats = [recipe.repeat for recipe in recipes if recipe.repeat is not None]
    return FromWeights(
        parts=tuple(_part(line, parts) for parts in zip(*(r.parts for r in recipes), strict=True)),
        shape=line.numbers([recipe.shape for recipe in recipes]),
        repeat=line.numbers(repeats) if repeats else None,
    )


def _part(line: _Line, parts: Sequence[Part]) -> Part:
    first = parts[0]
    rows = [part.rows for part in parts if part.rows is not None]
    start, end = line.numbers(rows) if rows else (0, 0)
    made = first.model_copy(
        update={
            "shape": line.numbers([part.shape for part in parts]),
            "rows": (start, end) if rows else None,
        }
    )
    for part in parts:
        if (part.take, part.axes, part.flip, part.scale) != (made.take, made.axes, made.flip, made.scale):
            raise InternalError(f"recipes of {part.take} and {made.take} differ in more than sizes")
    return made


def _widen_node(line: _Line, node: onnx.NodeProto, others: list[onnx.NodeProto]) -> None:
    if any(other.op_type != node.op_type for other in others):
        raise InternalError(f"node {node.name} is another one in another width")
    for attribute in node.attribute:
        same = [next(a for a in other.attribute if a.name == attribute.name) for other in others]
        if attribute.type == onnx.AttributeProto.INT:
            attribute.i = line.number([a.i for a in same])
        elif attribute.type == onnx.AttributeProto.INTS:
            attribute.ints[:] = line.numbers([list(a.ints) for a in same])
        elif any(a.SerializeToString() != attribute.SerializeToString() for a in same):
            raise InternalError(
                f"attribute {attribute.name} of {node.name} differs in another way than sizes"
            )


def _tensor(line: _Line, tensors: list[onnx.TensorProto]) -> onnx.TensorProto:
    arrays = [numpy_helper.to_array(tensor) for tensor in tensors]
    first = arrays[0]
    if all(array.shape == first.shape and np.array_equal(array, first) for array in arrays):
        return tensors[0]
    if first.dtype != np.int64:
        raise InternalError(f"constant {tensors[0].name} differs in another way than sizes")
    values = line.numbers([array.reshape(-1).tolist() for array in arrays])
    return numpy_helper.from_array(np.array(values, np.int64).reshape(first.shape), tensors[0].name)


def _widen_value(line: _Line, value: onnx.ValueInfoProto, others: list[onnx.ValueInfoProto]) -> None:
    for index, axis in enumerate(value.type.tensor_type.shape.dim):
        if axis.HasField("dim_value"):
            axis.dim_value = line.number([o.type.tensor_type.shape.dim[index].dim_value for o in others])
