"""The graph of MERT v1 95M up to its last layer, written from the tensors of a checkpoint.

It is the network of HuBERT's base size: convolutions on the waveform, a positional convolution, layers of a
transformer that are normalised behind each sum.

References
----------
Y. Li et al., "MERT: Acoustic Music Understanding Model with Large-Scale Self-supervised Training", ICLR 2024;
W.-N. Hsu et al., "HuBERT", 2021; names of tensors are those of the file on the Hugging Face hub
(transformers' HubertModel).
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import FloatArray as AnyFloats
from stemwright.models.embedders.nodes import Layers
from stemwright.models.graphs.tensors import Tensors, numbered
from stemwright.models.graphs.weightless import Storage
from stemwright.models.graphs.writer import GraphWriter

INPUT, OUTPUT = "samples", "embedding"
REMEDY = "give pytorch_model.bin of m-a-p/MERT-v1-95M"
STRIDES = (5, 2, 2, 2, 2, 2, 2)
HEAD = 64
"""Values of a head."""
_POSITIONS = "encoder.pos_conv_embed.conv"


def layers_of(tensors: Mapping[str, AnyFloats]) -> int:
    """Count the transformer's layers."""
    return numbered(tensors, "encoder.layers.{}.attention.q_proj.weight")


def mert_graph(tensors: Mapping[str, AnyFloats], storage: Storage) -> tuple[onnx.ModelProto, int]:
    """Write the graph: samples [B, T] -> last layer [B, N, E]; see `embedders.nodes`."""
    state, writer = Tensors(tensors, REMEDY), GraphWriter(storage)
    layers = Layers(state=state, writer=writer, remedy=REMEDY)
    x = _features(layers, writer.op("Unsqueeze", INPUT, writer.ints(1)))
    x = writer.op("Transpose", x, perm=[0, 2, 1])
    x = layers.linear(layers.layer_norm(x, "feature_projection.layer_norm"), "feature_projection.projection")
    size = state.take("feature_projection.projection.weight", rank=2).shape[0]
    if size % HEAD:
        raise ModelFileError(f"{size} channels are no whole number of heads of {HEAD}", REMEDY)
    x = layers.layer_norm(writer.op("Add", x, _positions(layers, x)), "encoder.layer_norm")
    count = layers_of(tensors)
    for number in range(count):
        last = OUTPUT if number == count - 1 else None
        x = _layer(layers, x, size, f"encoder.layers.{number}", last)
    model = writer.model(
        "mert",
        [(INPUT, TensorProto.FLOAT, ["batch", "samples"])],
        [(OUTPUT, TensorProto.FLOAT, ["batch", "frames", size])],
    )
    return model, size


def _features(layers: Layers, x: str) -> str:
    """Add the convolutions on the waveform: [B, 1, T] -> [B, C, N]."""
    writer = layers.writer
    for number, stride in enumerate(STRIDES):
        name = f"feature_extractor.conv_layers.{number}"
        kernel = layers.state.take(f"{name}.conv.weight", rank=3)
        weight = writer.weight(f"{name}.conv.weight", kernel)
        x = writer.op("Conv", x, weight, kernel_shape=[kernel.shape[2]], strides=[stride])
        if number == 0:
            x = layers.group_norm(x, f"{name}.layer_norm", groups=kernel.shape[0], axes=1)
        x = writer.op("Gelu", x)
    return x


def _positions(layers: Layers, x: str) -> str:
    """Add the positional convolution: [B, N, E] -> the same."""
    writer = layers.writer
    kernel, bias = _position_kernel(layers.state), layers.state.take(f"{_POSITIONS}.bias")
    width = kernel.shape[2]
    moved = writer.op(
        "Conv",
        writer.op("Transpose", x, perm=[0, 2, 1]),
        writer.weight(f"{_POSITIONS}.weight", kernel),
        writer.weight(f"{_POSITIONS}.bias", bias),
        kernel_shape=[width],
        pads=[width // 2, width // 2 - (1 - width % 2)],  # one value less behind for an even width
        group=len(bias) // kernel.shape[1],
    )
    return writer.op("Transpose", writer.op("Gelu", moved), perm=[0, 2, 1])


def _position_kernel(state: Tensors) -> FloatArray:
    """Put the kernel together from its direction and its length at each place of the kernel."""
    for length, direction in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        if f"{_POSITIONS}.{length}" in state:
            g, v = (state.take(f"{_POSITIONS}.{part}", rank=3) for part in (length, direction))
            norm = np.sqrt(np.square(v.astype(np.float64)).sum(axis=(0, 1), keepdims=True))
            return np.asarray(g * v / norm, np.float32)
    return state.take(f"{_POSITIONS}.weight", rank=3)


def _layer(layers: Layers, x: str, size: int, name: str, output: str | None) -> str:
    writer = layers.writer
    state, attention = layers.state, f"{name}.attention"
    scale = np.float32(HEAD**-0.5)
    queries = layers.dense(
        x,
        f"{attention}.q_proj",
        state.take(f"{attention}.q_proj.weight", rank=2) * scale,
        state.take(f"{attention}.q_proj.bias") * scale,
    )
    keys, values = (layers.linear(x, f"{attention}.{part}_proj") for part in ("k", "v"))
    mixed = layers.attention(queries, keys, values, size // HEAD, size)
    x = writer.op("Add", x, layers.linear(mixed, f"{attention}.out_proj"))
    x = layers.layer_norm(x, f"{name}.layer_norm")
    wide = writer.op("Gelu", layers.linear(x, f"{name}.feed_forward.intermediate_dense"))
    x = writer.op("Add", x, layers.linear(wide, f"{name}.feed_forward.output_dense"))
    x = layers.layer_norm(x, f"{name}.final_layer_norm")
    return x if output is None else writer.op("Identity", x, output=output)
