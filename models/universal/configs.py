"""Configuration of the universal separator: the paper's ResUNet30 by default."""

from dataclasses import asdict, dataclass
from typing import Any

SAMPLE_RATE = 32_000
N_FFT = 2048
HOP = 320
BINS = N_FFT // 2 + 1
USED_BINS = BINS - 1  # the network does without the highest
SEGMENT_SAMPLES = 2 * SAMPLE_RATE
FRAMES = SEGMENT_SAMPLES // HOP + 1
TIME_RATIO = 32  # the network's innermost frames are this many frames
BN_EPSILON = 1e-5
DOWN = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (1, 2))  # (frames, bins) of the encoder's poolings

KLASS = "stemwright.models.universal.network.ResUNet30"
"""Class that checkpoints of ours name in their metadata."""


@dataclass(frozen=True, kw_only=True)
class ResUNetConfig:
    """A conditional U-Net of the paper's design.

    condition_size
        Length D of the condition.
    channels
        Output channels of the six encoder blocks.
    tagger
        Name of the model that makes the conditions; empty for the one that the size stands for.
    upright
        Whether training begins with masks that turn no phase. The paper's initial masks turn each bin anyhow,
        which takes many steps to unlearn.
    """

    condition_size: int = 527
    channels: tuple[int, int, int, int, int, int] = (32, 64, 128, 256, 384, 384)
    tagger: str = ""
    upright: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return the settings as a checkpoint's metadata carry them."""
        return asdict(self)

    @property
    def offsets(self) -> tuple[tuple[str, int], ...]:
        """Where the condition acts: the batch norms that count, each with its channels, in order.

        Names are paths in `base`; the condition's layer of a norm `.bnK` is `betaK`.
        """
        found: list[tuple[str, int]] = []
        before = self.channels[0]
        for index, after in enumerate(self.channels):
            found += _block(f"encoder_block{index + 1}.conv_block1", before, after)
            before = after
        found += _block("conv_block7a.conv_block1", before, before)
        for index, after in enumerate(reversed(self.channels)):
            name = f"decoder_block{index + 1}"
            found += [(f"{name}.bn1", before), *_block(f"{name}.conv_block2", 2 * after, after)]
            before = after
        return tuple(found)


def _block(name: str, before: int, after: int) -> list[tuple[str, int]]:
    return [(f"{name}.bn1", before), (f"{name}.bn2", after)]


def condition_layer(norm: str) -> str:
    """Name of the condition's layer of a norm: `a.b.bn1` has `a->b->beta1`."""
    return norm.replace(".bn", ".beta").replace(".", "->")
