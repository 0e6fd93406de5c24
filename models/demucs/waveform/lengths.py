"""Lengths that the waveform networks take: those that no convolution leaves a rest of."""

from stemwright.models.demucs.configs import PaperDemucsConfig, WaveformConfig

DEPTH = 6
KERNEL = 8
STRIDE = 4
PAPER_CONTEXT = 3  # taps of the decoder's convolutions, which are not padded in v1 and v2


def valid_length(config: WaveformConfig, samples: int) -> int:
    """Return the shortest length from `samples` on that a network takes.

    The output of v1 and v2 is shorter than the input, but has at least `samples` samples.

    References
    ----------
    facebookresearch/demucs, branch v2, and demucs 4.1.0: `Demucs.valid_length`.
    """
    lost = PAPER_CONTEXT - 1 if isinstance(config, PaperDemucsConfig) else 0
    length = samples * 2 if config.resample else samples
    for _ in range(DEPTH):
        length = max(1, -(-(length - KERNEL) // STRIDE) + 1) + lost
    for _ in range(DEPTH):
        length = (length - 1) * STRIDE + KERNEL
    return -(-length // 2) if config.resample else length
