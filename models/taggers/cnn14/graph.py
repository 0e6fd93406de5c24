"""The graph of Cnn14, written from the tensors of a checkpoint with its batch norms folded in."""

from collections.abc import Mapping

import onnx
from onnx import TensorProto

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import FloatArray as AnyFloats
from stemwright.models.graphs.tensors import Tensors
from stemwright.models.graphs.weightless import Storage
from stemwright.models.graphs.writer import GraphWriter

BLOCKS = 6
FEATURES, PROBABILITIES, EMBEDDING = "features", "probabilities", "embedding"
_REMEDY = "the file is not a checkpoint of Cnn14"


def cnn14_graph(tensors: Mapping[str, AnyFloats], storage: Storage) -> onnx.ModelProto:
    """Write the graph: features [B, T, bands] -> probabilities [B, K] and embedding [B, E].

    Parameters
    ----------
    tensors
        By the names of PANNs' checkpoints; their sizes give the network's.
    storage
        How large constants are stored.

    Raises
    ------
    ModelFileError
        A tensor is missing or has an impossible shape.
    """
    state, writer = Tensors(tensors, _REMEDY), GraphWriter(storage)
    scale, shift = state.affine("bn0")
    bands = len(scale)
    x = writer.op("Mul", FEATURES, writer.weight("bn0.scale", scale))
    x = writer.op("Add", x, writer.weight("bn0.shift", shift))
    x = writer.op("Unsqueeze", x, writer.ints(1))
    for number in range(1, BLOCKS + 1):
        x = _block(state, writer, x, f"conv_block{number}")
        if number < BLOCKS:
            x = writer.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = writer.op("ReduceMean", x, writer.ints(3), keepdims=0)
    loudest = writer.op("ReduceMax", x, writer.ints(2), keepdims=0)
    x = writer.op("Add", loudest, writer.op("ReduceMean", x, writer.ints(2), keepdims=0))
    embedding = writer.op("Relu", _dense(state, writer, x, "fc1"), output=EMBEDDING)
    writer.op("Sigmoid", _dense(state, writer, embedding, "fc_audioset"), output=PROBABILITIES)
    size, classes = len(state.take("fc1.bias")), len(state.take("fc_audioset.bias"))
    return writer.model(
        "cnn14",
        [(FEATURES, TensorProto.FLOAT, ["batch", "frames", bands])],
        [
            (PROBABILITIES, TensorProto.FLOAT, ["batch", classes]),
            (EMBEDDING, TensorProto.FLOAT, ["batch", size]),
        ],
    )


def _block(state: Tensors, writer: GraphWriter, x: str, name: str) -> str:
    for number in (1, 2):
        scale, shift = state.affine(f"{name}.bn{number}")
        kernel = state.take(f"{name}.conv{number}.weight", rank=4)
        if kernel.shape[0] != len(scale):
            raise ModelFileError(f"{name}.conv{number} of the checkpoint does not fit its norm", _REMEDY)
        weight = writer.weight(f"{name}.conv{number}.weight", kernel * scale[:, None, None, None])
        bias = writer.weight(f"{name}.conv{number}.bias", shift)
        x = writer.op("Conv", x, weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = writer.op("Relu", x)
    return x


def _dense(state: Tensors, writer: GraphWriter, x: str, name: str) -> str:
    weight = writer.weight(f"{name}.weight", state.take(f"{name}.weight", rank=2))
    bias = writer.weight(f"{name}.bias", state.take(f"{name}.bias"))
    return writer.op("Gemm", x, weight, bias, transB=1)
