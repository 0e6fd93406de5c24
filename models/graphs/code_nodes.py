"""Position codes as nodes of a graph, for models that are to be small on disk."""

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemwright.core.arrays import FloatArray
from stemwright.models.graphs.position_codes import MAX_PERIOD, sinusoid_1d, sinusoid_2d
from stemwright.models.graphs.recipes import Computed

_MIN_SIZE = 4096  # smaller codes are stored; chosen here


def find_code(value: FloatArray) -> Computed | None:
    """Tell which position code a constant is, None for none.

    Parameters
    ----------
    value
        Any shape; axes of size 1 do not count.
    """
    sizes = [size for size in value.shape if size != 1]
    if value.size < _MIN_SIZE or len(sizes) != 2 or sizes[1] % 4:
        return None
    matrix, (length, dim) = value.reshape(sizes), sizes
    if np.array_equal(matrix, sinusoid_1d(length=length, dim=dim)):
        arguments = {"length": length, "dim": dim}
        return Computed(generator="sinusoid_1d", arguments=arguments, shape=value.shape)
    for half in (0, 1):
        if np.array_equal(matrix, sinusoid_2d(count=length, dim=dim, half=half)):
            arguments = {"count": length, "dim": dim, "half": half}
            return Computed(generator="sinusoid_2d", arguments=arguments, shape=value.shape)
    return None


def code_nodes(code: Computed, name: str) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Return constants and nodes that compute a position code under a name.

    Phases are rounded to float32 as in `position_codes`; sines are taken in float64, and cosines as sines
    of a quarter turn more, since ONNX Runtime has no cosine in float64.
    """
    made = _Made(name)
    if code.generator == "sinusoid_1d":
        dim = code.arguments["dim"]
        exponent = np.arange(dim // 2, dtype=np.float32) / np.float32(dim // 2 - 1)
        period = (MAX_PERIOD ** exponent.astype(np.float64)).astype(np.float32)
        phase = made.node("Div", [made.places(code.arguments["length"]), made.constant("period", period)])
        wide = made.node("Cast", [phase], to=TensorProto.DOUBLE)
        turned = made.node("Add", [wide, made.constant("quarter", np.float64(math.pi / 2))])
        sines = made.node("Sin", [made.node("Concat", [turned, wide], axis=1)])
        laid = sines
    else:
        width = code.arguments["dim"] // 2
        exponent = np.arange(0, width, 2, dtype=np.float32) * np.float32(-(math.log(MAX_PERIOD) / width))
        rates = np.exp(exponent.astype(np.float64)).astype(np.float32)
        phase = made.node("Mul", [made.places(code.arguments["count"]), made.constant("rates", rates)])
        wide = made.node("Cast", [phase], to=TensorProto.DOUBLE)
        turns = made.constant("turns", np.array([0, math.pi / 2]))
        column = made.node("Unsqueeze", [wide, made.constant("last", np.array([2]))])
        sines = made.node("Sin", [made.node("Add", [column, turns])])
        rows = made.node("Reshape", [sines, made.constant("rows", np.array([-1, width]))])
        before = width * code.arguments["half"]
        pads = made.constant("pads", np.array([0, before, 0, width - before]))
        laid = made.node("Pad", [rows, pads])
    narrow = made.node("Cast", [laid], to=TensorProto.FLOAT)
    made.node("Reshape", [narrow, made.constant("shape", np.array(code.shape))], output=name)
    return made.tensors, made.nodes


class _Made:
    """Constants and nodes whose names begin alike."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, what: str, value: object) -> str:
        label = f"{self.name}.{what}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), label))
        return label

    def places(self, count: int) -> str:
        return self.constant("places", np.arange(count, dtype=np.float32)[:, None])

    def node(self, kind: str, inputs: list[str], *, output: str = "", **attributes: Any) -> str:
        output = output or f"{self.name}.{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output
