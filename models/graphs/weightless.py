"""Weightless graphs: the exported graph of an architecture without its weights.

A weightless graph is a valid ONNX file whose weights are inputs of the graph, and whose metadata
holds a recipe for each (models/graphs/recipes.py). It is a few hundred kilobytes, is shipped with the
project, and becomes a model file once it is filled from a checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from pydantic import TypeAdapter, ValidationError

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError, ModelFileError
from stemwright.models.graphs.folding import fold_constants
from stemwright.models.graphs.recipes import Computed, Recipe, State, WeightIndex, find_computed

RECIPES_KEY = "stemwright.recipes"
MAX_STORED_BYTES = 16384  # a constant up to this size stays in the graph; chosen here
MIN_FLOAT16_SIZE = 1024  # below, a Cast node costs more bytes than float16 saves; chosen here

_HalfArray = npt.NDArray[np.float16]
Storage = Literal["float32", "float16"]
Rounding = Literal["lossless", "allowed"]
_RECIPES: TypeAdapter[dict[str, Recipe]] = TypeAdapter(dict[str, Recipe])


@dataclass(frozen=True, kw_only=True)
class WeightlessGraph:
    """A graph without weights and the recipe of each missing constant, by its name in the graph."""

    model: onnx.ModelProto
    recipes: dict[str, Recipe]

    @classmethod
    def read(cls, path: Path) -> "WeightlessGraph":
        """Read a weightless graph.

        Raises
        ------
        ModelFileError
            The file cannot be read or is not a weightless graph.
        """
        try:
            model = onnx.load_model_from_string(path.read_bytes())
            recipes = _RECIPES.validate_json(
                next(entry.value for entry in model.metadata_props if entry.key == RECIPES_KEY)
            )
        except OSError as error:
            raise ModelFileError(
                f"cannot read {path}: {error.strerror}", "install stemwright again"
            ) from error
        except (StopIteration, DecodeError, ValidationError) as error:
            raise ModelFileError(f"{path} is not a weightless graph", "install stemwright again") from error
        return cls(model=model, recipes=recipes)

    def write(self, path: Path) -> None:
        """Write the graph with its recipes; the weights become inputs of the graph."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.metadata_props[:]
        model.metadata_props.add(
            key=RECIPES_KEY, value=_RECIPES.dump_json(self.recipes, exclude_defaults=True).decode()
        )
        path.write_bytes(model.SerializeToString(deterministic=True))

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor that a checkpoint of this architecture must have."""
        parts = (
            part for recipe in self.recipes.values() if recipe.kind == "weights" for part in recipe.parts
        )
        return {part.take: part.shape for part in parts}

    def fill(
        self, state: State, storage: Storage = "float16", *, rounding: Rounding = "lossless"
    ) -> onnx.ModelProto:
        """Put a checkpoint's weights into the graph.

        Parameters
        ----------
        state
            Tensors by name, of any float type; read as float32.
        storage
            `float16` stores large constants as float16 with a Cast node behind each: half the
            size, and the arithmetic stays float32.
        rounding
            `lossless` keeps a constant float32 if float16 would change any of its values;
            `allowed` rounds it.

        Raises
        ------
        ModelFileError
            A tensor is missing, has another shape, or is not known in this architecture; or a
            value is not finite.
        """
        unknown = sorted(set(state) - set(self.tensor_shapes))
        if unknown:
            raise ModelFileError(
                f"tensor {unknown[0]} of the checkpoint is not part of this architecture",
                "the file is not a checkpoint of this architecture",
            )
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.metadata_props[:]
        _drop_inputs(model.graph, set(self.recipes))
        casts: list[onnx.NodeProto] = []
        for name, recipe in self.recipes.items():
            value = recipe.make(state)
            if not np.isfinite(value).all():
                raise ModelFileError(
                    f"{recipe.label} of the checkpoint is not finite", "fetch the file again"
                )
            stored = _halved(value) if storage == "float16" and value.size >= MIN_FLOAT16_SIZE else None
            if stored is None or not _usable(stored, value, rounding):
                model.graph.initializer.append(numpy_helper.from_array(value, name))
                continue
            model.graph.initializer.append(numpy_helper.from_array(stored, f"{name}.float16"))
            casts.append(helper.make_node("Cast", [f"{name}.float16"], [name], to=TensorProto.FLOAT))
        nodes = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend(casts + nodes)
        return model


def make_weightless(
    model: onnx.ModelProto, state: State, computed: Sequence[Computed] = ()
) -> WeightlessGraph:
    """Take the weights out of an exported graph.

    Parameters
    ----------
    model
        The graph as exported; it is folded in place first.
    state
        The weights it was exported with, which must be random: recipes are found by comparing
        numbers.
    computed
        Constants that the graph may hold and that depend on no weight.

    Raises
    ------
    InternalError
        A large constant is neither made of the weights nor computed, or a weight is not used.
    """
    fold_constants(model)
    index = WeightIndex(state)
    recipes: dict[str, Recipe] = {}
    renamed: dict[str, str] = {}
    kept: list[onnx.TensorProto] = []
    for tensor in model.graph.initializer:
        recipe = _recipe(tensor, index, computed)
        if recipe is None:
            kept.append(tensor)
            continue
        name = free_name(recipe.label, recipes)
        recipes[name] = recipe
        renamed[tensor.name] = name
    weightless = WeightlessGraph(model=_stripped(model, kept, renamed, recipes), recipes=recipes)
    unused = sorted(set(state) - set(weightless.tensor_shapes))
    if unused:
        raise InternalError(f"the exported graph does not use {', '.join(unused[:5])}")
    return weightless


def check_recipes(weightless: WeightlessGraph, model: onnx.ModelProto, state: State) -> None:
    """Check the recipes against the same architecture exported with another random state.

    Raises
    ------
    InternalError
        The second export has another structure, or a recipe does not give its constant.
    """
    fold_constants(model)
    second = make_weightless(model, state, [r for r in weightless.recipes.values() if r.kind == "computed"])
    if differences := compare(weightless, second):
        raise InternalError(f"two exports of one architecture differ: {differences[0]}")


def compare(one: WeightlessGraph, other: WeightlessGraph) -> list[str]:
    """Tell how two weightless graphs differ in nodes, stored constants and recipes; empty if not at all.

    Names of intermediate values do not count: values are named by the place where they are made.
    """
    differences = [
        f"recipe of {name}"
        for name in sorted(set(one.recipes) | set(other.recipes))
        if one.recipes.get(name) != other.recipes.get(name)
    ]
    left, right = _canonical_nodes(one.model), _canonical_nodes(other.model)
    if len(left) != len(right):
        differences.append(f"{len(left)} and {len(right)} nodes")
    differences += [
        f"node {index}: {a[0]}" for index, (a, b) in enumerate(zip(left, right, strict=False)) if a != b
    ]
    return differences


def _canonical_nodes(model: onnx.ModelProto) -> list[tuple[str, list[str], bytes]]:
    places = {value.name: value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        places[tensor.name] = f"{array.dtype} {array.tolist()}"
    nodes = []
    for index, node in enumerate(model.graph.node):
        attributes = onnx.NodeProto()
        attributes.attribute.extend(sorted(node.attribute, key=_name))
        inputs = [places.get(name, "") for name in node.input]
        nodes.append((node.op_type, inputs, attributes.SerializeToString(deterministic=True)))
        places |= {name: f"{index}.{place}" for place, name in enumerate(node.output)}
    return nodes


def _name(attribute: onnx.AttributeProto) -> str:
    return str(attribute.name)


def _recipe(tensor: onnx.TensorProto, index: WeightIndex, computed: Sequence[Computed]) -> Recipe | None:
    if tensor.data_type != TensorProto.FLOAT:
        return None
    value: FloatArray = numpy_helper.to_array(tensor)
    # a single number says nothing: it is found in any large random state
    recipe = find_computed(value, computed) or (index.find(value) if value.size > 1 else None)
    if recipe is None and value.nbytes > MAX_STORED_BYTES:
        raise InternalError(f"constant {tensor.name} {list(value.shape)} is not made of the weights")
    return recipe


def _stripped(
    model: onnx.ModelProto, kept: list[onnx.TensorProto], renamed: dict[str, str], recipes: dict[str, Recipe]
) -> onnx.ModelProto:
    graph = onnx.GraphProto(name="core", input=model.graph.input, output=model.graph.output, initializer=kept)
    for node in model.graph.node:
        inputs = [renamed.get(name, name) for name in node.input]
        bare = helper.make_node(node.op_type, inputs, node.output, name=node.name, domain=node.domain)
        bare.attribute.extend(node.attribute)
        graph.node.append(bare)
    for name, recipe in recipes.items():
        shape = recipe.shape if recipe.kind == "computed" else recipe.repeat or recipe.shape
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    stripped: onnx.ModelProto = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name="stemwright"
    )
    return stripped


def _drop_inputs(graph: onnx.GraphProto, names: set[str]) -> None:
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)


def _halved(value: FloatArray) -> _HalfArray:
    with np.errstate(over="ignore"):  # too large a value becomes infinite, and the result is not used
        return value.astype(np.float16)


def _usable(stored: _HalfArray, value: FloatArray, rounding: Rounding) -> bool:
    if rounding == "allowed":
        return bool(np.isfinite(stored).all())
    return bool(np.array_equal(stored.astype(np.float32), value))


def free_name(label: str, taken: dict[str, Recipe]) -> str:
    """Return a name for a constant: its label, with a number where that is taken."""
    name, count = label, 1
    while name in taken:
        count += 1
        name = f"{label}#{count}"
    return name
