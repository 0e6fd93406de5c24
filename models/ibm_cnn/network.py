"""The IBM-CNN in torch: as it is trained, on patches, and as it serves, on spectrograms.

References
----------
K. W. E. Lin, Balamurali B. T., E. Koh, S. Lui, D. Herremans, "Singing Voice Separation Using a Deep
Convolutional Neural Network Trained by Ideal Binary Mask and Cross Entropy", Neural Computing and
Applications 2018 (arXiv 1812.01278).
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from stemwright.models.ibm_cnn.configs import BINS, CENTRE, FRAMES, KERNEL, POOL, IBMCNNConfig

_BEFORE, _AFTER = (KERNEL[1] - 1) // 2, KERNEL[1] // 2  # SAME padding of TensorFlow: 5 and 6 bins
_DROPOUT = 0.5
_INITIAL_BIAS = 0.1
_LOG_FACTOR, _LOG_DIVISOR = 10_000.0, 4.0  # chosen here: a bin 80 dB below full scale is seen as 0.1

Sharing = Literal["none", "frames"]


class IBMCNN(nn.Module):
    """Classifies all bins of nine frames at once.

    Parameters
    ----------
    config
        Sizes; the default is the paper's network of 19,489,049 parameters.
    """

    def __init__(self, config: IBMCNNConfig | None = None) -> None:
        super().__init__()
        self.config = config = IBMCNNConfig() if config is None else config
        first, second, third, fourth = config.channels
        self.conv1 = nn.Conv2d(1, first, KERNEL)
        self.conv2 = nn.Conv2d(first, second, KERNEL)
        self.conv3 = nn.Conv2d(second, third, KERNEL)
        self.conv4 = nn.Conv2d(third, fourth, KERNEL)
        self.dense1 = nn.Linear(config.features, config.hidden[0])
        self.dense2 = nn.Linear(config.hidden[0], config.hidden[1])
        self.output = nn.Linear(config.hidden[1], FRAMES * BINS)
        self.dropout = nn.Dropout(_DROPOUT)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(parameter, _INITIAL_BIAS)
            else:
                nn.init.xavier_uniform_(parameter)

    @property
    def convolutions(self) -> tuple[nn.Conv2d, ...]:
        """The four convolutions in order."""
        return self.conv1, self.conv2, self.conv3, self.conv4

    def forward(self, patches: Tensor) -> Tensor:
        """Classify.

        Parameters
        ----------
        patches
            Linear magnitudes, shape=(B, 1, 9, 2049): time, then frequency.

        Returns
        -------
        Tensor
            Logits of "voice", shape=(B, 18441), index = frame * 2049 + bin.
        """
        logits: Tensor = self.output(self.hidden(self.convolved(patches)))
        return logits

    def convolved(self, patches: Tensor) -> Tensor:
        """Features of patches, shape=(B, channels, 9, 15)."""
        features = self.seen(patches)
        for index, layer in enumerate(self.convolutions):
            padded = F.pad(features, (_BEFORE, _AFTER, 1, 1))
            features = F.relu(layer(padded))
            if index % 2:
                features = pooled(features)
        return features

    def seen(self, magnitude: Tensor) -> Tensor:
        """Return what the first convolution gets of magnitudes; zeros stay zeros."""
        if self.config.compression == "none":
            return magnitude
        return torch.log(1 + _LOG_FACTOR * magnitude) / _LOG_DIVISOR

    def hidden(self, features: Tensor) -> Tensor:
        """Dense layers on such features, shape=(B, units); flattened in TensorFlow's order."""
        flat = features.permute(0, 2, 3, 1).flatten(1)
        flat = F.relu(self.dense1(self.dropout(flat)))
        return F.relu(self.dense2(self.dropout(flat)))


def pooled(features: Tensor) -> Tensor:
    """Maximum over each 12 bins with TensorFlow's SAME padding; zeros will do for what is never negative."""
    spare = -features.shape[-1] % POOL
    return F.max_pool2d(F.pad(features, (spare // 2, spare - spare // 2)), (1, POOL))


def centred(net: IBMCNN) -> IBMCNN:
    """Drop, in place, what only the frames beside a patch's centre need: half of the small networks."""
    rows = slice(CENTRE * BINS, (CENTRE + 1) * BINS)
    output = nn.Linear(net.output.in_features, BINS)
    output.weight = nn.Parameter(net.output.weight[rows].detach().clone())
    output.bias = nn.Parameter(net.output.bias[rows].detach().clone())
    net.output = output
    return net


class MaskNetwork(nn.Module):
    """A trained IBM-CNN as it serves: one mask value a bin of a spectrogram, from the centre of its patch.

    Parameters
    ----------
    net
        The network; only the last layer's rows of the centre frame are used.
    sharing
        `frames`: what neighbouring patches compute alike is computed once; `none`: every patch by itself.
        The results are the same but for rounding.
    """

    def __init__(self, net: IBMCNN, sharing: Sharing = "frames") -> None:
        super().__init__()
        self.net = net
        self.sharing = sharing

    def forward(self, magnitude: Tensor) -> Tensor:
        """Compute the masks.

        Parameters
        ----------
        magnitude
            Linear magnitudes, shape=(B, 1, 2049, N).

        Returns
        -------
        Tensor
            Voice and accompaniment, shape=(B, 2, 1, 2049, N), adding up to 1. Frames before the first and
            after the last count as zero.
        """
        frames = magnitude.shape[-1]
        padded = F.pad(magnitude.transpose(2, 3), (0, 0, CENTRE, CENTRE))
        features = self._patchwise(padded, frames) if self.sharing == "none" else self._shared(padded, frames)
        hidden, output = self.net.hidden(features), self.net.output
        if output.out_features == BINS:
            logits = output(hidden)
        else:
            rows = slice(CENTRE * BINS, (CENTRE + 1) * BINS)
            logits = F.linear(hidden, output.weight[rows], output.bias[rows])
        voice = torch.sigmoid(logits).reshape(-1, frames, BINS).transpose(1, 2).unsqueeze(1).unsqueeze(1)
        return torch.cat([voice, 1 - voice], dim=1)

    def _patchwise(self, padded: Tensor, frames: int) -> Tensor:
        """Features of the patch around each frame, shape=(B * N, channels, 9, 15)."""
        shifted = [padded[:, :, place : place + frames] for place in range(FRAMES)]
        patches = torch.stack(shifted, dim=3).transpose(1, 2)  # [B, N, 1, 9, F]
        return self.net.convolved(patches.flatten(0, 1))

    def _shared(self, padded: Tensor, frames: int) -> Tensor:
        """Compute the same, each distinct column once.

        A layer's column at place p of a patch depends on p only near the patch's ends, which see zeros
        beyond: layer l has l kinds of columns at either end and one in between. The kinds lie one behind
        the other on the time axis, each with one row a frame, in the order of their places. With the kind
        in between three times, the two neighbours in time that a column's convolution sees are exactly one
        block and one row away: a dilation. (Rows near the ends of blocks become columns that no patch has,
        and none of them is used.)
        """
        length = padded.shape[2]
        # One channel is nothing: with five blocks the first layer gives its middle kind three times.
        seen = self.net.seen(padded)
        kinds = _convolved(torch.cat([seen] * 5, dim=2), self.net.conv1, length)
        kinds = pooled(_convolved(kinds, self.net.conv2, length))
        kinds = _convolved(_middle_thrice(kinds, 2 * length, length), self.net.conv3, length)
        kinds = pooled(_convolved(_middle_thrice(kinds, 3 * length, length), self.net.conv4, length))
        columns = [kinds[:, :, place * (length + 1) :][:, :, :frames] for place in range(FRAMES)]
        return torch.stack(columns, dim=3).transpose(1, 2).flatten(0, 1)


def _middle_thrice(kinds: Tensor, start: int, length: int) -> Tensor:
    """Put the block of rows that begins at `start` three times into its place."""
    middle = kinds[:, :, start : start + length]
    return torch.cat([kinds[:, :, : start + length], middle, kinds[:, :, start:]], dim=2)


def _convolved(blocks: Tensor, layer: nn.Conv2d, length: int) -> Tensor:
    """Convolve columns with their neighbours in time, which are one block and one row away."""
    padded = F.pad(blocks, (_BEFORE, _AFTER, length + 1, length + 1))
    return F.relu(F.conv2d(padded, layer.weight, layer.bias, dilation=(length + 1, 1)))
