"""How the weights of a finished model are stored: float32, float16 or int8; the arithmetic stays float32.

In int8 each weight of a convolution, product or recurrent layer becomes int8 values and a float32 scale for
each of its output channels, with a DequantizeLinear node behind them, which a session folds into float32 when
it loads the model. The smallest weights stay in float16: those of a network's outer layers, whose errors
reach the output undamped and whose bytes do not count. What is no weight is stored as float16 where that
changes nothing, and position codes become the few nodes that compute them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemwright.core.arrays import FloatArray
from stemwright.models.graphs.code_nodes import code_nodes, find_code
from stemwright.models.graphs.weightless import MIN_FLOAT16_SIZE
from stemwright.models.manifest import StorageKind

# A channel's scale is the one of these shares of its largest value that gives the least squared error:
# clipping one outlier can be worth a finer grid for the rest.
_SHARES = tuple(np.linspace(1.0, 0.7, 13))
_LIMIT = 127
# Of all weights' values, the share in the smallest weights that stays in float16. With it the error of
# HTDemucs' outputs falls by 4 to 10 dB, for a hundredth of its size.
_KEPT_SHARE = 0.02

# Output channels' axis of the weight at a place among a node's inputs.
_AXES: Mapping[tuple[str, int], int] = {
    ("Conv", 1): 0,
    ("ConvTranspose", 1): 1,
    ("MatMul", 0): -2,
    ("MatMul", 1): -1,
    ("LSTM", 1): 1,
    ("LSTM", 2): 1,
    ("GRU", 1): 1,
    ("GRU", 2): 1,
}

_Int8Array = npt.NDArray[np.int8]
_AnyArray = npt.NDArray[Any]


def stored_as(model: onnx.ModelProto, storage: StorageKind) -> onnx.ModelProto:
    """Return a model with its weights stored in another way.

    Parameters
    ----------
    model
        A finished model, in any of the three storages.
    storage
        `float16` rounds weights; what it does not change or cannot hold stays as it is.

    Returns
    -------
    onnx.ModelProto
        Another model of the same inputs and outputs.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    constants = _constants(graph)
    del graph.initializer[:]
    nodes: list[onnx.NodeProto] = []
    axes = _weight_axes(graph, constants)
    if storage == "int8":
        kept = _kept_in_float16({name: constants[name].size for name in axes})
    else:
        kept = frozenset()
    for name, value in constants.items():
        stored, behind = _stored(name, value, axes.get(name), "float16" if name in kept else storage)
        graph.initializer.extend(stored)
        nodes += behind
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    return made


def same_weights(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    """Tell whether two storages of a model give the same float32 weights."""
    left, right = (_constants_of(model) for model in (one, other))
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def _constants_of(model: onnx.ModelProto) -> dict[str, _AnyArray]:
    copy = onnx.GraphProto()
    copy.CopyFrom(model.graph)
    return _constants(copy)


def quantised(weight: FloatArray, axis: int) -> tuple[_Int8Array, FloatArray]:
    """Quantise a weight symmetrically, with the scale of each channel that gives the least squared error.

    Parameters
    ----------
    weight
        Any shape.
    axis
        The channels' axis.

    Returns
    -------
    tuple
        int8 values in the weight's shape, and float32 scales, shape=(channels,).
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float32)
    largest = np.abs(rows).max(axis=1)
    best = np.full(len(rows), np.inf, np.float64)
    scales = np.ones(len(rows), np.float32)
    for share in _SHARES:
        tried = (largest * np.float32(share / _LIMIT)).astype(np.float32)
        tried[tried == 0] = 1.0
        restored = np.clip(np.rint(rows / tried[:, None]), -_LIMIT, _LIMIT) * tried[:, None]
        error = np.square(restored - rows).sum(axis=1, dtype=np.float64)
        better = error < best
        best[better], scales[better] = error[better], tried[better]
    shape = [1] * weight.ndim
    shape[axis] = -1
    values = np.clip(np.rint(weight / scales.reshape(shape)), -_LIMIT, _LIMIT)
    return values.astype(np.int8), scales


def _constants(graph: onnx.GraphProto) -> dict[str, _AnyArray]:
    """Take constants out of a graph; those stored in fewer bits under the name that their float32 has."""
    constants: dict[str, _AnyArray] = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
    }
    kept, restored = [], dict[str, _AnyArray]()
    for node in graph.node:
        value = _restored(node, constants)
        if value is None:
            kept.append(node)
        else:
            restored[node.output[0]] = value
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    return {name: value for name, value in (constants | restored).items() if name in used}


def _restored(node: onnx.NodeProto, constants: Mapping[str, _AnyArray]) -> _AnyArray | None:
    """Return what a node makes of a constant that is stored in float16 or int8, None for other nodes."""
    stored = constants.get(node.input[0]) if node.input else None
    if stored is None:
        return None
    if node.op_type == "Cast" and stored.dtype == np.float16:
        return stored.astype(np.float32)
    if node.op_type != "DequantizeLinear" or stored.dtype != np.int8 or len(node.input) != 2:
        return None
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
    shape = [1] * stored.ndim
    shape[axis] = -1
    return stored.astype(np.float32) * constants[node.input[1]].reshape(shape)


def _weight_axes(graph: onnx.GraphProto, constants: Mapping[str, _AnyArray]) -> dict[str, int]:
    """Channels' axis of every constant that is a weight, and a weight only."""
    axes: dict[str, int] = {}
    others: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            value = constants.get(name)
            if value is None or value.dtype != np.float32 or value.size < MIN_FLOAT16_SIZE:
                continue
            axis = _axis(node, place)
            if (
                axis is None
                or value.ndim < 2
                or axes.setdefault(name, axis % value.ndim) != axis % value.ndim
            ):
                others.add(name)
    return {name: axis for name, axis in axes.items() if name not in others}


def _axis(node: onnx.NodeProto, place: int) -> int | None:
    """Output channels' axis of what stands at a place among a node's inputs, None for what is no weight."""
    if node.op_type == "Gemm" and place == 1:
        turned = any(entry.name == "transB" and entry.i for entry in node.attribute)
        return 0 if turned else 1
    return _AXES.get((node.op_type, place))


def _kept_in_float16(sizes: Mapping[str, int]) -> frozenset[str]:
    """Return the smallest weights, as many as are together no more than their share of all."""
    left = _KEPT_SHARE * sum(sizes.values())
    kept = set()
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        left -= sizes[name]
        if left < 0:
            break
        kept.add(name)
    return frozenset(kept)


def _stored(
    name: str, value: _AnyArray, axis: int | None, storage: StorageKind
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Return what is stored for a constant, and the nodes that give it back its name and type."""
    whole = [numpy_helper.from_array(value, name)]
    if storage == "float32" or value.dtype != np.float32 or value.size < MIN_FLOAT16_SIZE:
        return whole, []
    values: FloatArray = value.astype(np.float32, copy=False)
    if storage == "int8" and axis is not None:
        return _in_int8(name, values, axis)
    code = find_code(values) if storage == "int8" else None
    if code is not None:
        return code_nodes(code, name)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    rounded = storage == "float16" and axis is not None and bool(np.isfinite(half).all())
    if not rounded and not np.array_equal(half.astype(np.float32), values):
        return whole, []
    cast = helper.make_node("Cast", [f"{name}.float16"], [name], to=TensorProto.FLOAT)
    return [numpy_helper.from_array(half, f"{name}.float16")], [cast]


def _in_int8(name: str, weight: FloatArray, axis: int) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    values, scales = quantised(weight, axis)
    tensors = [
        numpy_helper.from_array(values, f"{name}.int8"),
        numpy_helper.from_array(scales, f"{name}.scales"),
    ]
    inputs = [tensor.name for tensor in tensors]
    return tensors, [helper.make_node("DequantizeLinear", inputs, [name], axis=axis)]
