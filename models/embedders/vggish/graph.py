"""The graph of VGGish, written from the tensors of a checkpoint.

References
----------
S. Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP 2017; names of tensors are
those of torchvggish (harritaylor/torchvggish), without its last ReLU and its whitening, as fadtk uses it.
"""

from collections.abc import Mapping

import onnx
from onnx import TensorProto

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import FloatArray as AnyFloats
from stemwright.models.graphs.tensors import Tensors
from stemwright.models.graphs.weightless import Storage
from stemwright.models.graphs.writer import GraphWriter

INPUT, OUTPUT = "features", "embedding"
PATCH_FRAMES, BANDS = 96, 64
REMEDY = "give vggish-10086976.pth of torchvggish"
# Convolutions by their numbers among the layers; behind a group of them comes a maximum over 2x2.
_GROUPS = ((0,), (3,), (6, 8), (11, 13))
_DENSE = (0, 2, 4)


def vggish_graph(tensors: Mapping[str, AnyFloats], storage: Storage) -> tuple[onnx.ModelProto, int]:
    """Write the graph: features [B, 96, 64] -> embedding [B, 1, E]; see `embedders.nodes`."""
    state, writer = Tensors(tensors, REMEDY), GraphWriter(storage)
    x, channels = writer.op("Unsqueeze", INPUT, writer.ints(1)), 1
    for group in _GROUPS:
        for number in group:
            x, channels = _convolution(state, writer, x, channels, f"features.{number}")
        x = writer.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = writer.op("Transpose", x, perm=[0, 2, 3, 1])
    halvings = 2 ** len(_GROUPS)
    size = channels * (PATCH_FRAMES // halvings) * (BANDS // halvings)
    x = writer.op("Reshape", x, writer.ints(-1, size))
    for number in _DENSE:
        x, size = _dense(state, writer, x, size, f"embeddings.{number}")
        if number != _DENSE[-1]:
            x = writer.op("Relu", x)
    writer.op("Unsqueeze", x, writer.ints(1), output=OUTPUT)
    model = writer.model(
        "vggish",
        [(INPUT, TensorProto.FLOAT, ["batch", PATCH_FRAMES, BANDS])],
        [(OUTPUT, TensorProto.FLOAT, ["batch", 1, size])],
    )
    return model, size


def _convolution(state: Tensors, writer: GraphWriter, x: str, channels: int, name: str) -> tuple[str, int]:
    kernel, bias = state.take(f"{name}.weight", rank=4), state.take(f"{name}.bias")
    if kernel.shape[1] != channels or len(bias) != len(kernel):
        raise ModelFileError(f"{name} of the checkpoint does not fit the layer before", REMEDY)
    weight, shift = writer.weight(f"{name}.weight", kernel), writer.weight(f"{name}.bias", bias)
    x = writer.op("Conv", x, weight, shift, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return writer.op("Relu", x), len(kernel)


def _dense(state: Tensors, writer: GraphWriter, x: str, size: int, name: str) -> tuple[str, int]:
    matrix, bias = state.take(f"{name}.weight", rank=2), state.take(f"{name}.bias")
    if matrix.shape[1] != size or len(bias) != len(matrix):
        raise ModelFileError(f"{name} of the checkpoint does not fit the layer before", REMEDY)
    weight, shift = writer.weight(f"{name}.weight", matrix), writer.weight(f"{name}.bias", bias)
    return writer.op("Gemm", x, weight, shift, transB=1), len(matrix)
