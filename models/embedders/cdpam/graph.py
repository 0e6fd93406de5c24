"""The graph of CDPAM's encoder, written from the tensors of a checkpoint with its batch norms folded in.

References
----------
P. Manocha, Z. Jin, R. Zhang, A. Finkelstein, "CDPAM: Contrastive Learning for Perceptual Audio Similarity",
ICASSP 2021; the encoder as in the package cdpam 0.0.6.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import FloatArray as AnyFloats
from stemwright.models.embedders.nodes import of_length_one
from stemwright.models.graphs.tensors import Tensors, numbered
from stemwright.models.graphs.weightless import Storage
from stemwright.models.graphs.writer import GraphWriter

Half = Literal["acoustic", "content"]
INPUT, OUTPUT = "samples", "embedding"
REMEDY = "take scratchJNDdefault_best_model.pth out of the wheel cdpam 0.0.6"
_SLOPE = 0.1  # of the leaky ReLU
_GROUP = 4  # after so many layers, every second sample is dropped


def layers_of(tensors: Mapping[str, AnyFloats]) -> int:
    """Count the encoder's layers."""
    return numbered(tensors, "base_encoder.encoder.{}.weight")


def cdpam_graph(
    tensors: Mapping[str, AnyFloats], half: Half, storage: Storage
) -> tuple[onnx.ModelProto, int]:
    """Write the graph: samples [B, T] within +-32768 -> embedding [B, 1, E] of length 1.

    See `embedders.nodes`; `half` tells which half of the encoder's output: that of acoustics, on which
    CDPAM's distance is taken, or that of content.
    """
    state, writer = Tensors(tensors, REMEDY), GraphWriter(storage)
    layers = layers_of(tensors)
    if layers == 0:
        raise ModelFileError("the checkpoint has no encoder of CDPAM", REMEDY)
    x, channels = writer.op("Unsqueeze", INPUT, writer.ints(1)), 1
    for layer in range(layers):
        kept = _half_of(state, layer, half) if layer == layers - 1 else slice(None)
        x, channels = _layer(state, writer, x, channels, layer, kept)
    x = writer.op("ReduceMean", x, writer.ints(2), keepdims=0)
    writer.op("Unsqueeze", of_length_one(writer, x), writer.ints(1), output=OUTPUT)
    model = writer.model(
        f"cdpam-{half}",
        [(INPUT, TensorProto.FLOAT, ["batch", "samples"])],
        [(OUTPUT, TensorProto.FLOAT, ["batch", 1, channels])],
    )
    return model, channels


def _half_of(state: Tensors, layer: int, half: Half) -> slice:
    """Return the channels of the last layer that are wanted: the others need not be computed."""
    middle = state.take(f"base_encoder.encoder.{layer}.weight", rank=3).shape[0] // 2
    return slice(0, middle) if half == "acoustic" else slice(middle, None)


def _layer(
    state: Tensors, writer: GraphWriter, x: str, channels: int, layer: int, kept: slice
) -> tuple[str, int]:
    """Add convolution, norm and leaky ReLU; of the dropped samples none is computed."""
    kernel = state.take(f"base_encoder.encoder.{layer}.weight", rank=3)
    bias = state.take(f"base_encoder.encoder.{layer}.bias")
    scale, shift = state.affine(f"base_encoder.ebatch.{layer}")
    if kernel.shape[1] != channels or not kernel.shape[0] == len(bias) == len(scale):
        raise ModelFileError(f"layer {layer} of the checkpoint does not fit the one before", REMEDY)
    folded = np.asarray(kernel * scale[:, None, None], np.float32)[kept]
    shifted = np.asarray(bias * scale + shift, np.float32)[kept]
    reach = kernel.shape[2] // 2
    x = writer.op(
        "Conv",
        x,
        writer.weight(f"encoder.{layer}.weight", folded),
        writer.weight(f"encoder.{layer}.bias", shifted),
        kernel_shape=[kernel.shape[2]],
        pads=[reach, reach],
        strides=[2 if (layer + 1) % _GROUP == 0 else 1],
    )
    return writer.op("LeakyRelu", x, alpha=_SLOPE), len(folded)
