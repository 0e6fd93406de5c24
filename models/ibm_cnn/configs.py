"""Configuration of the IBM-CNN: the paper's by default."""

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

SAMPLE_RATE = 22_050
N_FFT = 4096
WINDOW = 1024
HOP = 256
BINS = N_FFT // 2 + 1
FRAMES = 9  # of a patch: 104.5 ms
CENTRE = FRAMES // 2
KERNEL = (3, 12)  # time, frequency
POOL = 12  # bins
STEMS = ("vocals", "accompaniment")
THETA = 0.35  # the authors' setting for iKala; theirs for DSD100 is 0.15

Compression = Literal["none", "log"]

KLASS = "stemwright.models.ibm_cnn.network.IBMCNN"
"""Class that checkpoints of ours name in their metadata."""


@dataclass(frozen=True, kw_only=True)
class IBMCNNConfig:
    """An IBM-CNN of the paper's design.

    channels
        Output channels of the four convolutions.
    hidden
        Units of the two hidden dense layers.
    theta
        Values of a mask below this are set to zero; chosen on a development set.
    mirror
        Inverse transform: exact, or with the authors' slip (core.transforms.Transform).
    compression
        What the network sees of a magnitude: itself, as in the paper, or `log`, log(1 + 10,000 x) / 4, in
        which a change of level is a shift; such a network learns in a fraction of the steps.
    """

    channels: tuple[int, int, int, int] = (32, 16, 64, 32)
    hidden: tuple[int, int] = (2048, 512)
    theta: float = THETA
    mirror: Literal["exact", "off_by_one"] = "exact"
    compression: Compression = "none"

    @property
    def features(self) -> int:
        """Inputs of the first dense layer: frames, bins left after two poolings, channels."""
        return FRAMES * ceil(ceil(BINS / POOL) / POOL) * self.channels[3]

    @property
    def same_network(self) -> dict[str, Any]:
        """The settings that tell one network from another."""
        return {"channels": self.channels, "hidden": self.hidden, "compression": self.compression}

    def arguments(self) -> dict[str, Any]:
        """Return the settings as a checkpoint's metadata carry them."""
        return asdict(self)
