"""The graph of Music2Latent's encoder, written from the tensors of a checkpoint.

References
----------
M. Pasini, S. Lattner, G. Fazekas, "Music2Latent: Consistency Autoencoders for Latent Audio Compression",
ISMIR 2024; sizes and names of tensors as in the package music2latent 0.1.8. Computed in float32: on a GPU the
package computes in float16.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import FloatArray as AnyFloats
from stemwright.models.embedders.nodes import Layers
from stemwright.models.graphs.tensors import Tensors
from stemwright.models.graphs.weightless import Storage
from stemwright.models.graphs.writer import GraphWriter

INPUT, OUTPUT = "spectrum", "embedding"
REMEDY = "give music2latent.pt of SonyCSLParis/music2latent"
PREFIX = "encoder"
_EXPONENT, _FACTOR = 0.65, 0.34  # of the spectrum's magnitudes
_LEAST_MAGNITUDE = 1e-30  # silent bins stay zero whatever they are multiplied with
_LATENT_SCALE = 0.06
_HEADS = 4
_FIRST_STRIDE = 4  # of frequencies; all later layers halve time and frequencies


def music2latent_graph(tensors: Mapping[str, AnyFloats], storage: Storage) -> tuple[onnx.ModelProto, int]:
    """Write the graph: spectrum [B, F, N, 2] -> latents [B, N / 8, E]; see `embedders.nodes`."""
    state, writer = Tensors(tensors, REMEDY), GraphWriter(storage)
    encoder = _Encoder(layers=Layers(state=state, writer=writer, remedy=REMEDY))
    gain = state.take(f"{PREFIX}.gain.scale", rank=4)
    x = encoder.convolution(_compressed(writer), f"{PREFIX}.conv_inp", pads=(1, 1))
    x = writer.op("Mul", x, writer.weight(f"{PREFIX}.gain.scale", gain))
    x, bins = encoder.descend(x, gain.shape[2])
    x = encoder.norm(x, f"{PREFIX}.prenorm_1d_to_2d", axes=2)
    channels = len(state.take(f"{PREFIX}.prenorm_1d_to_2d.weight"))
    x = writer.op("Reshape", x, writer.ints(0, channels * bins, -1))
    x = encoder.convolution(x, f"{PREFIX}.bottleneck_layers.0")
    number = 1
    while f"{PREFIX}.bottleneck_layers.{number}.conv1.weight" in state:
        x = encoder.block(x, f"{PREFIX}.bottleneck_layers.{number}", axes=1, bins=0)
        number += 1
    x = encoder.convolution(encoder.active(x, f"{PREFIX}.norm_out", axes=1), f"{PREFIX}.conv_out")
    x = writer.op("Mul", writer.op("Tanh", x), writer.small(1.0 / _LATENT_SCALE))
    writer.op("Transpose", x, output=OUTPUT, perm=[0, 2, 1])
    size = len(state.take(f"{PREFIX}.conv_out.bias"))
    model = writer.model(
        "music2latent",
        [(INPUT, TensorProto.FLOAT, ["batch", gain.shape[2], "frames", 2])],
        [(OUTPUT, TensorProto.FLOAT, ["batch", "latents", size])],
    )
    return model, size


def _compressed(writer: GraphWriter) -> str:
    """Raise magnitudes to a power, phases kept: [B, F, N, 2] -> [B, 2, F, N]."""
    square = writer.op("Mul", INPUT, INPUT)
    magnitude = writer.op("Sqrt", writer.op("ReduceSum", square, writer.ints(3), keepdims=1))
    magnitude = writer.op("Max", magnitude, writer.small(_LEAST_MAGNITUDE))
    factor = writer.op("Mul", writer.op("Pow", magnitude, writer.small(_EXPONENT - 1)), writer.small(_FACTOR))
    return writer.op("Transpose", writer.op("Mul", INPUT, factor), perm=[0, 3, 1, 2])


@dataclass(frozen=True, kw_only=True)
class _Encoder:
    layers: Layers

    def descend(self, x: str, bins: int) -> tuple[str, int]:
        """Add blocks and the layers between them that halve; return what is left of the frequencies."""
        state, number = self.layers.state, 0
        while f"{PREFIX}.down_layers.{number}.conv1.weight" in state:
            x = self.block(x, f"{PREFIX}.down_layers.{number}", axes=2, bins=bins)
            name = f"{PREFIX}.down_layers.{number + 1}"
            if f"{name}.c.weight" not in state:
                break
            x = self.norm(x, f"{name}.norm", axes=2)
            first = number == 0
            strides = (_FIRST_STRIDE, 1) if first else (2, 2)
            x = self.convolution(x, f"{name}.c", pads=(2, 0) if first else (1, 1), strides=strides)
            bins, number = bins // strides[0], number + 2
        return x, bins

    def block(self, x: str, name: str, *, axes: int, bins: int) -> str:
        """Add a residual block, with attention over frequencies where the checkpoint has it."""
        writer, state = self.layers.writer, self.layers.state
        pads = (1,) * axes
        made = self.convolution(self.active(x, f"{name}.norm1", axes=axes), f"{name}.conv1", pads=pads)
        made = self.convolution(self.active(made, f"{name}.norm2", axes=axes), f"{name}.conv2", pads=pads)
        if f"{name}.res_conv.weight" in state:
            x = self.convolution(x, f"{name}.res_conv")
        x = writer.op("Add", made, x)
        if f"{name}.att.mha.in_proj_weight" in state:
            x = writer.op("Add", self._attention(x, f"{name}.att", bins), x)
        return x

    def active(self, x: str, name: str, *, axes: int) -> str:
        """Add a norm and SiLU."""
        x = self.norm(x, name, axes=axes)
        return self.layers.writer.op("Mul", x, self.layers.writer.op("Sigmoid", x))

    def norm(self, x: str, name: str, *, axes: int) -> str:
        """Add a group norm; the number of groups follows from the channels."""
        channels = len(self.layers.state.take(f"{name}.weight"))
        return self.layers.group_norm(x, name, groups=min(channels // 4, 32), axes=axes)

    def convolution(
        self, x: str, name: str, *, pads: tuple[int, ...] = (), strides: tuple[int, ...] = ()
    ) -> str:
        """Add a convolution along one axis or two, without padding and steps unless told."""
        writer, state = self.layers.writer, self.layers.state
        bias = state.take(f"{name}.bias")
        kernel = self._kernel(name)
        if len(bias) != len(kernel):
            raise ModelFileError(f"weight and bias of {name} do not fit each other", REMEDY)
        axes = kernel.ndim - 2
        around = pads or (0,) * axes
        return writer.op(
            "Conv",
            x,
            writer.weight(f"{name}.weight", kernel),
            writer.weight(f"{name}.bias", bias),
            kernel_shape=list(kernel.shape[2:]),
            pads=[*around, *around],
            strides=list(strides or (1,) * axes),
        )

    def _kernel(self, name: str) -> FloatArray:
        one_axis = any(part in name for part in ("bottleneck_layers", "conv_out"))
        return self.layers.state.take(f"{name}.weight", rank=3 if one_axis else 4)

    def _attention(self, x: str, name: str, bins: int) -> str:
        """Add attention over the frequencies of each frame: [B, C, F, N] -> the same."""
        writer, state = self.layers.writer, self.layers.state
        matrix, bias = (
            state.take(f"{name}.mha.in_proj_weight", rank=2),
            state.take(f"{name}.mha.in_proj_bias"),
        )
        size = matrix.shape[1]
        if matrix.shape[0] != 3 * size or len(bias) != 3 * size or size % _HEADS:
            raise ModelFileError(f"{name} of the checkpoint is no attention of {_HEADS} heads", REMEDY)
        turned = writer.op("Transpose", self.norm(x, f"{name}.norm", axes=2), perm=[0, 3, 2, 1])
        flat = writer.op("Reshape", turned, writer.ints(-1, bins, size))
        scale = (size // _HEADS) ** -0.5
        queries, keys, values = (
            self.layers.dense(
                flat,
                f"{name}.mha.{part}",
                matrix[start : start + size] * factor,
                bias[start : start + size] * factor,
            )
            for part, start, factor in (("q", 0, scale), ("k", size, 1.0), ("v", 2 * size, 1.0))
        )
        mixed = self.layers.attention(queries, keys, values, _HEADS, size)
        mixed = self.layers.linear(mixed, f"{name}.mha.out_proj")
        back = writer.op("Reshape", mixed, writer.op("Shape", turned))
        return writer.op("Transpose", back, perm=[0, 3, 2, 1])
