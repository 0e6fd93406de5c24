"""Cnn14 of PANNs, for comparing and training; serving uses the graph of graph.py.

References
----------
Q. Kong, Y. Cao, T. Iqbal, Y. Wang, W. Wang, M. D. Plumbley, "PANNs: Large-Scale Pretrained Audio Neural
Networks for Audio Pattern Recognition", 2020. Written from its description; names of parameters are those
of its checkpoints.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (64, 128, 256, 512, 1024, 2048)
BANDS = 64
CLASSES = 527


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, then an average over 2x2."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor, *, pool: bool) -> Tensor:
        """Compute [B, in, T, F] -> [B, out, T/2, F/2], or [B, out, T, F] without the average."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.avg_pool2d(x, 2) if pool else x


class Cnn14(nn.Module):
    """The network behind the front end; dropout and masking of training are left to the trainer.

    Parameters
    ----------
    channels
        Of the six blocks.
    classes
        Number of classes.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS, classes: int = CLASSES) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(BANDS)
        self.blocks = len(channels)
        for index, (before, after) in enumerate(zip((1, *channels[:-1]), channels, strict=True)):
            setattr(self, f"conv_block{index + 1}", ConvBlock(before, after))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute [B, T, 64] in dB -> class probabilities [B, K] and embedding [B, E]."""
        x = self.bn0(features.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)[:, None]
        for index in range(self.blocks):
            block: ConvBlock = getattr(self, f"conv_block{index + 1}")
            x = block(x, pool=index + 1 < self.blocks)
        x = x.mean(dim=3)
        x = x.amax(dim=2) + x.mean(dim=2)
        embedding = functional.relu(self.fc1(x))
        return torch.sigmoid(self.fc_audioset(embedding)), embedding
