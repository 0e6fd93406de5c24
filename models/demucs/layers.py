"""Convolutional layers of the hybrid Demucs networks (v3 and v4), in torch.

Parameter names are those of the reference implementation, so that its checkpoints load as they
are. Every shape but the batch is a number when the graph is traced: the graph that is exported
holds no shape arithmetic.

References
----------
A. Défossez, "Hybrid Spectrogram and Waveform Source Separation", MDX workshop 2021.
S. Rouard, F. Massa, A. Défossez, "Hybrid Transformers for Music Source Separation", ICASSP 2023.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_GROUPS = 4  # groups of the normalisation of the layers from NORM_STARTS on
NORM_STARTS = 4
LSTM_WINDOW = 200  # steps that the recurrent part of a residual branch sees at once
SELF_PENALTY = -100.0  # score of a step's attention to itself: switches it off


def glu(x: Tensor) -> Tensor:
    """Gated linear unit over axis 1: the first half times the sigmoid of the second."""
    value, gate = x.chunk(2, dim=1)
    return value * torch.sigmoid(gate)


def normalise_groups(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Group normalisation, written as what every runtime has a kernel for.

    Same arithmetic as `norm(x)`; shape [B, C, ...] in and out.
    """
    shape = [-1, *(int(size) for size in x.shape[1:])]
    grouped = functional.instance_norm(
        x.reshape(-1, norm.num_groups, _size(x) // norm.num_groups), eps=norm.eps
    )
    column = [norm.num_channels] + [1] * (len(shape) - 2)
    return grouped.reshape(shape) * norm.weight.reshape(column) + norm.bias.reshape(column)


def _size(x: Tensor) -> int:
    size = 1
    for length in x.shape[1:]:
        size *= int(length)
    return size


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm through `normalise_groups`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; shape [B, C, ...] in and out."""
        return normalise_groups(x, self)


class Glu(nn.Module):
    """`glu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, 2C, ...] in, [B, C, ...] out."""
        return glu(x)


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch; `trailing` says where the channels are."""

    def __init__(self, channels: int, init: float, *, trailing: bool = False) -> None:
        super().__init__()
        self.trailing = trailing
        self.scale = nn.Parameter(torch.full((channels,), init))

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, C, T], or [B, T, C] if `trailing`, in and out."""
        return self.scale * x if self.trailing else self.scale[:, None] * x


class WindowedLstm(nn.Module):
    """Two bidirectional LSTM layers over windows of 200 steps, overlapping by half, with a skip.

    Of each window the middle half is kept (at the ends, the outer quarter too).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers=2, bidirectional=True)
        self.linear = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, C, T] in and out."""
        if int(x.shape[-1]) <= LSTM_WINDOW:
            return x + self._recur(x)
        return x + self._join(self._recur(self._windows(x)), x)

    def _recur(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.lstm(x.permute(2, 0, 1))[0]
        projected: Tensor = self.linear(hidden)
        return projected.permute(1, 2, 0)

    @staticmethod
    def _windows(x: Tensor) -> Tensor:
        """[B, C, T] -> [B * windows, C, 200]."""
        channels, steps = int(x.shape[1]), int(x.shape[2])
        stride = LSTM_WINDOW // 2
        halves = -(-steps // stride) + 1
        padded = functional.pad(x, (0, halves * stride - steps)).reshape(-1, channels, halves, stride)
        windows = torch.cat([padded[:, :, :-1], padded[:, :, 1:]], dim=-1)
        return windows.permute(0, 2, 1, 3).reshape(-1, channels, LSTM_WINDOW)

    @staticmethod
    def _join(windows: Tensor, like: Tensor) -> Tensor:
        """[B * windows, C, 200] -> [B, C, T]."""
        channels, steps = int(like.shape[1]), int(like.shape[2])
        stride, quarter = LSTM_WINDOW // 2, LSTM_WINDOW // 4
        count = -(-steps // stride)
        split = windows.reshape(-1, count, channels, LSTM_WINDOW)
        middle = split[:, 1:-1, :, quarter:-quarter].permute(0, 2, 1, 3)
        parts = [
            split[:, 0, :, :-quarter],
            middle.reshape(-1, channels, (count - 2) * stride),
            split[:, -1, :, quarter:],
        ]
        return torch.cat(parts, dim=-1)[..., :steps]


class LocalAttention(nn.Module):
    """Attention whose scores fall linearly with distance, by a slope that each query chooses.

    The reference sums over the four decays f the products f |t - s| q_f(s); the distance does not
    depend on f, so that one slope per query and head carries them all.
    """

    heads = 4
    decays = 4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.content = nn.Conv1d(channels, channels, 1)
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.query_decay = nn.Conv1d(channels, self.heads * self.decays, 1)
        self.proj = nn.Conv1d(channels, channels, 1)
        nn.init.constant_(self.query_decay.bias, -2.0)  # type: ignore[arg-type]  # a wide window to begin with

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, C, T] in and out."""
        channels, steps = int(x.shape[1]), int(x.shape[2])
        split = [-1, self.heads, channels // self.heads, steps]
        query, key, content = (part(x).reshape(split) for part in (self.query, self.key, self.content))
        slope = torch.sigmoid(self.query_decay(x)).reshape(-1, self.heads, self.decays, steps)
        factors = torch.arange(1, self.decays + 1, dtype=x.dtype, device=x.device)
        factors = factors * (0.5 / self.decays**0.5)
        slope = (slope * factors[:, None]).sum(dim=2)
        place = torch.arange(steps, dtype=x.dtype, device=x.device)
        distance = (place[:, None] - place[None, :]).abs()
        # rows are queries, columns are keys: the softmax runs along the last axis
        scores = query.transpose(2, 3) @ (key * (channels // self.heads) ** -0.5)
        scores = scores - distance * slope[..., None]
        scores = torch.where(distance == 0, SELF_PENALTY, scores)
        mixed = content @ torch.softmax(scores, dim=-1).transpose(2, 3)
        projected: Tensor = self.proj(mixed.reshape(-1, channels, steps))
        return x + projected


class ResidualBranch(nn.Module):
    """Two residual blocks of dilated convolutions in a narrower space ("DConv").

    Parameters
    ----------
    channels
        Channels in and out.
    compression
        The blocks work on `channels / compression` channels.
    recurrent
        Put an LSTM and local attention between the two convolutions of a block.
    """

    def __init__(
        self, channels: int, *, compression: int, recurrent: bool = False, init: float = 1e-3
    ) -> None:
        super().__init__()
        hidden = channels // compression
        self.layers = nn.ModuleList()
        for dilation in (1, 2):
            middle = [WindowedLstm(hidden), LocalAttention(hidden)] if recurrent else []
            self.layers.append(
                nn.Sequential(
                    nn.Conv1d(channels, hidden, 3, dilation=dilation, padding=dilation),
                    GroupNorm(1, hidden),
                    nn.GELU(),
                    *middle,
                    nn.Conv1d(hidden, 2 * channels, 1),
                    GroupNorm(1, 2 * channels),
                    Glu(),
                    LayerScale(channels, init),
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, C, T], or [B, C, F, T] (each frequency on its own), in and out."""
        if x.dim() == 3:
            return self._run(x)
        channels, bins, frames = (int(size) for size in x.shape[1:])
        rows = x.permute(0, 2, 1, 3).reshape(-1, channels, frames)
        return self._run(rows).reshape(-1, bins, channels, frames).permute(0, 2, 1, 3)

    def _run(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


class LayerShape(NamedTuple):
    """What tells one layer of a branch from another.

    `axis`: along which axis the layer strides, frequency (2-D tensors) or time. `padded`: whether
    the output is a `stride`-th of the input's length (the innermost frequency layer is not padded:
    it takes all remaining bins at once). `normed`: group normalisation. `branch`: compression of
    the residual branch, 0 for none. `merge`: only the strided convolution, to join the branches.
    """

    axis: Literal["frequency", "time"]
    kernel: int = 8
    stride: int = 4
    padded: bool = True
    normed: bool = False
    branch: int = 8
    recurrent: bool = False
    merge: bool = False

    @property
    def pad(self) -> int:
        """Padding of the strided convolution on each side."""
        return self.kernel // 4 if self.padded else 0

    def norm(self, channels: int) -> nn.Module:
        """Return the layer's normalisation, which does nothing where it has none."""
        return GroupNorm(NORM_GROUPS, channels) if self.normed else nn.Identity()

    def residual(self, channels: int) -> nn.Module:
        """Return the layer's residual branch, which does nothing where it has none."""
        if not self.branch:
            return nn.Identity()
        return ResidualBranch(channels, compression=self.branch, recurrent=self.recurrent)


def _conv(shape: LayerShape, inputs: int, outputs: int) -> nn.Module:
    if shape.axis == "frequency":
        return nn.Conv2d(inputs, outputs, (shape.kernel, 1), (shape.stride, 1), (shape.pad, 0))
    return nn.Conv1d(inputs, outputs, shape.kernel, shape.stride, shape.pad)


def _transposed_conv(shape: LayerShape, inputs: int, outputs: int) -> nn.Module:
    if shape.axis == "frequency":
        return nn.ConvTranspose2d(inputs, outputs, (shape.kernel, 1), (shape.stride, 1))
    return nn.ConvTranspose1d(inputs, outputs, shape.kernel, shape.stride)


class EncoderLayer(nn.Module):
    """Strided convolution, GELU, residual branch, 1x1 convolution, GLU."""

    def __init__(self, shape: LayerShape, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shape = shape
        self.conv = _conv(shape, inputs, outputs)
        if shape.merge:
            return
        pointwise = nn.Conv2d if shape.axis == "frequency" else nn.Conv1d
        self.norm1 = shape.norm(outputs)
        self.rewrite = pointwise(outputs, 2 * outputs, 1)
        self.norm2 = shape.norm(2 * outputs)
        self.dconv = shape.residual(outputs)

    def forward(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        """Encode; `inject` is the other branch's signal, added behind the strided convolution."""
        if self.shape.axis == "time":
            if x.dim() == 4:
                x = x.reshape(-1, int(x.shape[1]) * int(x.shape[2]), int(x.shape[3]))
            x = functional.pad(x, (0, -int(x.shape[-1]) % self.shape.stride))
        y: Tensor = self.conv(x)
        if self.shape.merge:
            return y
        if inject is not None:
            y = y + (inject[:, :, None] if y.dim() == 4 else inject)
        y = self.dconv(functional.gelu(self.norm1(y)))
        return glu(self.norm2(self.rewrite(y)))


class DecoderLayer(nn.Module):
    """Skip sum, 3 (x3) convolution, GLU, residual branch, transposed convolution, GELU."""

    def __init__(self, shape: LayerShape, inputs: int, outputs: int, *, last: bool) -> None:
        super().__init__()
        self.shape = shape
        self.last = last
        self.inputs = inputs
        self.conv_tr = _transposed_conv(shape, inputs, outputs)
        self.norm2 = shape.norm(outputs)
        if shape.merge:
            return
        wide = nn.Conv2d if shape.axis == "frequency" else nn.Conv1d
        self.rewrite = wide(inputs, 2 * inputs, 3, 1, 1)
        self.norm1 = shape.norm(2 * inputs)
        self.dconv = shape.residual(inputs)

    def forward(self, x: Tensor | None, skip: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
        """Decode.

        Parameters
        ----------
        x
            Signal from the layer inside, None for the innermost layer of a network without a core.
        skip
            Output of the encoder layer of the same depth; None only where branches part.
        length
            Steps that a layer along time has to give back.

        Returns
        -------
        tuple
            The layer's output, and its signal before the transposed convolution.
        """
        y = self._before(x, skip)
        z: Tensor = self.norm2(self.conv_tr(y))
        pad = self.shape.pad
        if self.shape.axis == "time":
            z = z[..., pad : pad + length]
        elif pad:
            z = z[..., pad:-pad, :]
        return (z if self.last else functional.gelu(z)), y

    def _before(self, x: Tensor | None, skip: Tensor | None) -> Tensor:
        summed = skip if x is None else x
        if summed is None:
            raise ValueError("a decoder layer needs a signal or a skip")
        if self.shape.axis == "frequency" and summed.dim() == 3:
            summed = summed.reshape(
                -1, self.inputs, int(summed.shape[1]) // self.inputs, int(summed.shape[2])
            )
        if self.shape.merge:
            return summed
        if x is not None and skip is not None:
            summed = summed + skip
        branched: Tensor = self.dconv(glu(self.norm1(self.rewrite(summed))))
        return branched
