"""The graph of LAION-CLAP's audio branch (HTSAT) and projection, written from the tensors of a checkpoint.

References
----------
Y. Wu et al., "Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
Augmentation", ICASSP 2023; K. Chen et al., "HTS-AT", ICASSP 2022; Z. Liu et al., "Swin Transformer", ICCV
2021. Names of tensors are those of laion_clap 1.1.7, the form without feature fusion.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import FloatArray as AnyFloats
from stemwright.models.embedders.nodes import Layers, of_length_one
from stemwright.models.graphs.tensors import Tensors
from stemwright.models.graphs.weightless import Storage
from stemwright.models.graphs.writer import GraphWriter

INPUT, OUTPUT = "features", "embedding"
FRAMES, BANDS = 1001, 64
"""Frames of 10 s, and bands."""
REMEDY = "give 630k-audioset-best.pt or music_audioset_epoch_15_esc_90.14.pt of lukewys/laion_clap"
BRANCH, PROJECTION = "audio_branch", "audio_projection"
_SIDE, _PATCH, _WINDOW = 256, 4, 8
_CUBIC = -0.75  # torch's coefficient of bicubic interpolation
_FORBIDDEN = -100.0  # added to products of places that are no neighbours


def clap_graph(tensors: Mapping[str, AnyFloats], storage: Storage) -> tuple[onnx.ModelProto, int]:
    """Write the graph: features in dB [B, 1001, 64] -> embedding [B, 1, E] of length 1.

    See `embedders.nodes`; the names have no leading `module.`.
    """
    state, writer = Tensors(tensors, REMEDY), GraphWriter(storage)
    layers = Layers(state=state, writer=writer, remedy=REMEDY)
    branch = _Branch(layers=layers, masks={})
    x, channels = branch.patches(branch.picture())
    side, stage = _SIDE // _PATCH, 0
    while f"{BRANCH}.layers.{stage}.blocks.0.norm1.weight" in state:
        x, side, channels = branch.stage(x, side, channels, stage)
        stage += 1
    x = layers.layer_norm(x, f"{BRANCH}.norm")
    x = writer.op("ReduceMean", x, writer.ints(1, 2), keepdims=0)
    x = layers.linear(writer.op("Relu", layers.linear(x, f"{PROJECTION}.0")), f"{PROJECTION}.2")
    writer.op("Unsqueeze", of_length_one(writer, x), writer.ints(1), output=OUTPUT)
    size = len(state.take(f"{PROJECTION}.2.bias"))
    model = writer.model(
        "clap",
        [(INPUT, TensorProto.FLOAT, ["batch", FRAMES, BANDS])],
        [(OUTPUT, TensorProto.FLOAT, ["batch", 1, size])],
    )
    return model, size


def cubic_taps(size: int, wanted: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the rows that bicubic interpolation with aligned corners takes, and their weights.

    Returns
    -------
    tuple
        Rows, shape=(4, wanted), those beyond an edge being the edge's; weights, float32, the same shape.
    """
    places = np.arange(wanted) * ((size - 1) / (wanted - 1))
    first = np.floor(places).astype(np.int64)
    t = places - first
    near, far = np.stack([t, 1 - t]), np.stack([t + 1, 2 - t])
    inner = ((_CUBIC + 2) * near - (_CUBIC + 3)) * near**2 + 1
    outer = ((_CUBIC * far - 5 * _CUBIC) * far + 8 * _CUBIC) * far - 4 * _CUBIC
    rows = np.clip(first + np.arange(-1, 3)[:, None], 0, size - 1)
    return rows, np.stack([outer[0], inner[0], inner[1], outer[1]]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class _Branch:
    layers: Layers
    masks: dict[int, str]

    def picture(self) -> str:
        """Norm the bands, stretch time to 1024 frames and fold it four times: [B, 1, 256, 256]."""
        writer = self.layers.writer
        scale, shift = self.layers.state.affine(f"{BRANCH}.bn0")
        x = writer.op("Mul", INPUT, writer.weight(f"{BRANCH}.bn0.scale", scale))
        x = writer.op("Add", x, writer.weight(f"{BRANCH}.bn0.shift", shift))
        folds = _SIDE // BANDS
        rows, weights = cubic_taps(FRAMES, _SIDE * folds)
        parts = [
            writer.op(
                "Mul",
                writer.op("Gather", x, writer.small(row, np.int64), axis=1),
                writer.weight(f"stretch.{tap}", weight[:, None]),
            )
            for tap, (row, weight) in enumerate(zip(rows, weights, strict=True))
        ]
        x = writer.op("Sum", *parts)
        x = writer.op("Reshape", x, writer.ints(-1, folds, _SIDE, BANDS))
        x = writer.op("Transpose", x, perm=[0, 1, 3, 2])
        return writer.op("Reshape", x, writer.ints(-1, 1, _SIDE, _SIDE))

    def patches(self, x: str) -> tuple[str, int]:
        """Embed patches of 4 x 4: [B, 64, 64, C]; return C besides."""
        writer, name = self.layers.writer, f"{BRANCH}.patch_embed"
        kernel = self.layers.state.take(f"{name}.proj.weight", rank=4)
        bias = self.layers.state.take(f"{name}.proj.bias")
        weight, shift = writer.weight(f"{name}.weight", kernel), writer.weight(f"{name}.bias", bias)
        sides = [_PATCH, _PATCH]
        x = writer.op("Conv", x, weight, shift, kernel_shape=sides, strides=sides)
        x = writer.op("Transpose", x, perm=[0, 2, 3, 1])
        return self.layers.layer_norm(x, f"{name}.norm"), len(bias)

    def stage(self, x: str, side: int, channels: int, stage: int) -> tuple[str, int, int]:
        """Add the blocks of a stage, and the merging of 2 x 2 places where the checkpoint has it."""
        name, state, writer = f"{BRANCH}.layers.{stage}", self.layers.state, self.layers.writer
        number = 0
        while f"{name}.blocks.{number}.norm1.weight" in state:
            shifted = number % 2 == 1 and side > _WINDOW
            x = self._block(x, side, channels, f"{name}.blocks.{number}", shifted)
            number += 1
        if f"{name}.downsample.reduction.weight" not in state:
            return x, side, channels
        half = side // 2
        x = writer.op("Reshape", x, writer.ints(-1, half, 2, half, 2, channels))
        x = writer.op("Transpose", x, perm=[0, 1, 3, 4, 2, 5])  # columns before rows, as trained
        x = writer.op("Reshape", x, writer.ints(-1, half, half, 4 * channels))
        x = self.layers.layer_norm(x, f"{name}.downsample.norm")
        return self.layers.linear(x, f"{name}.downsample.reduction"), half, 2 * channels

    def _block(self, x: str, side: int, channels: int, name: str, shifted: bool) -> str:
        writer, layers = self.layers.writer, self.layers
        moved = layers.layer_norm(x, f"{name}.norm1")
        if shifted:
            moved = self._rolled(moved, _WINDOW // 2)
        count = side // _WINDOW
        cut = writer.op("Reshape", moved, writer.ints(-1, count, _WINDOW, count, _WINDOW, channels))
        cut = writer.op("Transpose", cut, perm=[0, 1, 3, 2, 4, 5])
        cut = writer.op("Reshape", cut, writer.ints(-1, count * count, _WINDOW * _WINDOW, channels))
        mixed = self._attention(cut, side, channels, f"{name}.attn", shifted)
        mixed = writer.op("Reshape", mixed, writer.ints(-1, count, count, _WINDOW, _WINDOW, channels))
        mixed = writer.op("Transpose", mixed, perm=[0, 1, 3, 2, 4, 5])
        mixed = writer.op("Reshape", mixed, writer.ints(-1, side, side, channels))
        if shifted:
            mixed = self._rolled(mixed, -(_WINDOW // 2))
        x = writer.op("Add", x, mixed)
        wide = writer.op("Gelu", layers.linear(layers.layer_norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        return writer.op("Add", x, layers.linear(wide, f"{name}.mlp.fc2"))

    def _rolled(self, x: str, places: int) -> str:
        """Move rows and columns up by so many places, those that fall off to the other end."""
        writer = self.layers.writer
        for axis in (1, 2):
            head = writer.slice(x, 0, places, axis)
            tail = writer.slice(x, places, 2**62, axis)
            x = writer.op("Concat", tail, head, axis=axis)
        return x

    def _attention(self, x: str, side: int, channels: int, name: str, shifted: bool) -> str:
        """Add attention inside of windows, [B, windows, 64, C], with a bias for relative places."""
        writer, state = self.layers.writer, self.layers.state
        table = state.take(f"{name}.relative_position_bias_table", rank=2)
        matrix, bias = state.take(f"{name}.qkv.weight", rank=2), state.take(f"{name}.qkv.bias")
        heads = table.shape[1]
        fits = matrix.shape == (3 * channels, channels) and channels % heads == 0
        if not fits or len(table) != (2 * _WINDOW - 1) ** 2:
            raise ModelFileError(f"{name} of the checkpoint does not fit the layers around it", REMEDY)
        size = channels // heads
        places = writer.ints(0, 0, 0, heads, size)
        parts = []
        for part, start, factor in (("q", 0, size**-0.5), ("k", channels, 1.0), ("v", 2 * channels, 1.0)):
            rows = slice(start, start + channels)
            made = self.layers.dense(x, f"{name}.{part}", matrix[rows] * factor, bias[rows] * factor)
            turned = [0, 1, 3, 4, 2] if part == "k" else [0, 1, 3, 2, 4]
            parts.append(writer.op("Transpose", writer.op("Reshape", made, places), perm=turned))
        scores = writer.op("MatMul", parts[0], parts[1])
        scores = writer.op("Add", scores, writer.weight(f"{name}.bias", relative_bias(table)))
        if shifted:
            scores = writer.op("Add", scores, self._mask(side))
        mixed = writer.op("MatMul", writer.op("Softmax", scores, axis=-1), parts[2])
        mixed = writer.op("Transpose", mixed, perm=[0, 1, 3, 2, 4])
        mixed = writer.op("Reshape", mixed, writer.ints(0, 0, 0, channels))
        return self.layers.linear(mixed, f"{name}.proj")

    def _mask(self, side: int) -> str:
        if side not in self.masks:
            self.masks[side] = self.layers.writer.weight(f"mask.{side}", shifted_mask(side))
        return self.masks[side]


def relative_bias(table: FloatArray) -> FloatArray:
    """Spread the bias of relative places over pairs of places of a window: shape=(heads, 64, 64)."""
    rows, columns = np.divmod(np.arange(_WINDOW * _WINDOW), _WINDOW)
    down = rows[:, None] - rows + _WINDOW - 1
    across = columns[:, None] - columns + _WINDOW - 1
    return np.ascontiguousarray(table[down * (2 * _WINDOW - 1) + across].transpose(2, 0, 1))


def shifted_mask(side: int) -> FloatArray:
    """Forbid attention between places that the shift brought together: shape=(windows, 1, 64, 64)."""
    regions = np.zeros(side, np.int64)
    regions[-_WINDOW:], regions[-(_WINDOW // 2) :] = 1, 2
    picture = 3 * regions[:, None] + regions
    count = side // _WINDOW
    cut = picture.reshape(count, _WINDOW, count, _WINDOW).transpose(0, 2, 1, 3).reshape(count * count, -1)
    apart = cut[:, :, None] != cut[:, None, :]
    return np.where(apart, np.float32(_FORBIDDEN), np.float32(0))[:, None]
