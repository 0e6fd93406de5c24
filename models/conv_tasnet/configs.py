"""Every known variant of Conv-TasNet as data.

References
----------
Luo & Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech
Separation", IEEE/ACM TASLP 27(8), 2019 (arXiv 1809.07454). Symbols of the paper: N `filters`, L
`filter_length`, B `bottleneck`, H `hidden`, Sc `skip`, P `kernel`, X `blocks`, R `repeats`, C
`sources`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

NormKind = Literal["global", "cumulative", "channel"]
"""`global`: statistics over channels and time (gLN); `cumulative`: over channels and all frames so far
(the paper's cLN, asteroid's cgLN); `channel`: over the channels of one frame (asteroid's and
kaituoxu's "cLN")."""
MaskActivation = Literal["sigmoid", "relu", "softmax", "linear"]
Edges = Literal["centred", "inside"]

EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class ConvTasNetConfig:
    """One variant; the defaults are the paper's best configuration for two speakers.

    Parameters
    ----------
    filters, filter_length
        Number N and length L of the encoder's filters; they stand L/2 apart.
    bottleneck, hidden, skip
        Channels of the residual path (B), inside the blocks (H), and of the skip path (Sc); `skip` 0
        means that there is none and that the masks are made of the residual path.
    kernel, blocks, repeats
        Taps P of the depthwise convolutions, blocks X in a repeat (dilations 1, 2, 4 …), repeats R.
    sources, audio_channels, sample_rate
        Outputs C, channels of the mixture and of each output, rate in Hz.
    norm, input_norm
        Kind of the norms in the blocks and of the one in front of the separator.
    mask, mask_prelu
        Activation of the masks (`softmax` over the sources); whether a PReLU stands before the
        convolution that makes them.
    encoder_activation
        What follows the encoder.
    causal
        Depthwise convolutions look at the past only.
    biases
        Whether the separator's convolutions have biases; encoder and decoder never have.
    last_residual
        Whether the last block has a residual convolution, which nothing uses where there are skips.
    edges
        `centred`: the first frame is centred on the first sample, with L/2 zeros on either side of
        the input (the paper's code, torchaudio); `inside`: frames lie in the input (asteroid,
        kaituoxu, demucs), so that the first and last L/2 samples are in one frame only.

    Raises
    ------
    ValueError
        Numbers that make no network.
    """

    filters: int = 512
    filter_length: int = 16
    bottleneck: int = 128
    hidden: int = 512
    skip: int = 128
    kernel: int = 3
    blocks: int = 8
    repeats: int = 3
    sources: int = 2
    audio_channels: int = 1
    sample_rate: int = 8000
    norm: NormKind = "global"
    input_norm: NormKind = "global"
    mask: MaskActivation = "sigmoid"
    mask_prelu: bool = True
    encoder_activation: Literal["linear", "relu"] = "linear"
    causal: bool = False
    biases: bool = True
    last_residual: bool = True
    edges: Edges = "centred"

    def __post_init__(self) -> None:
        sizes = (self.filters, self.bottleneck, self.hidden, self.kernel, self.blocks, self.repeats)
        if min(*sizes, self.sources, self.audio_channels, self.sample_rate) < 1 or self.skip < 0:
            raise ValueError("sizes of the network must be positive")
        if self.filter_length < 2 or self.filter_length % 2:
            raise ValueError(f"the filter length must be even, {self.filter_length} is not")
        if not self.causal and self.kernel % 2 == 0:
            raise ValueError(f"a kernel of {self.kernel} taps has no middle")
        if self.skip == 0 and not self.last_residual:
            raise ValueError("without skips the masks are made of the last residual")

    @property
    def hop(self) -> int:
        """Distance of frames in samples, L/2."""
        return self.filter_length // 2

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of every block; it begins at 1 again in each repeat."""
        return tuple(2**block for block in range(self.blocks)) * self.repeats

    @property
    def receptive_frames(self) -> int:
        """Frames that one frame of the masks depends on, apart from the norms."""
        return 1 + (self.kernel - 1) * sum(self.dilations)

    @property
    def streamable(self) -> bool:
        """Whether no part of the network needs sound that is still to come."""
        return self.causal and "global" not in (self.norm, self.input_norm)


PAPER = ConvTasNetConfig()
PAPER_CAUSAL = ConvTasNetConfig(norm="cumulative", input_norm="cumulative", causal=True)
TORCHAUDIO = ConvTasNetConfig(mask="relu", last_residual=False)
ASTEROID = ConvTasNetConfig(edges="inside")
KAITUOXU = ConvTasNetConfig(
    filters=256,
    filter_length=20,
    bottleneck=256,
    skip=0,
    repeats=4,
    input_norm="channel",
    mask="relu",
    mask_prelu=False,
    encoder_activation="relu",
    biases=False,
    edges="inside",
)
MUSIC = replace(KAITUOXU, blocks=10, sources=4, audio_channels=2, sample_rate=44_100)


def tensor_shapes(config: ConvTasNetConfig) -> Mapping[str, tuple[int, ...]]:
    """Name and shape of every parameter, as in the state dict of `network.ConvTasNet`."""
    return dict(_shapes(config))


def parameter_count(config: ConvTasNetConfig) -> int:
    """Count all parameters."""
    return sum(prod(shape) for shape in tensor_shapes(config).values())


def _shapes(config: ConvTasNetConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    bank = (config.filters, config.audio_channels, config.filter_length)
    last = config.blocks * config.repeats - 1
    yield "encoder.weight", bank
    yield from _norm("input_norm", config.filters)
    yield from _pointwise(config, "bottleneck", config.filters, config.bottleneck)
    for index in range(last + 1):
        block = f"blocks.{index}"
        yield from _pointwise(config, f"{block}.expand", config.bottleneck, config.hidden)
        yield f"{block}.prelu1.weight", (1,)
        yield from _norm(f"{block}.norm1", config.hidden)
        yield f"{block}.depthwise.weight", (config.hidden, 1, config.kernel)
        if config.biases:
            yield f"{block}.depthwise.bias", (config.hidden,)
        yield f"{block}.prelu2.weight", (1,)
        yield from _norm(f"{block}.norm2", config.hidden)
        if index < last or config.last_residual:
            yield from _pointwise(config, f"{block}.residual", config.hidden, config.bottleneck)
        if config.skip:
            yield from _pointwise(config, f"{block}.skip", config.hidden, config.skip)
    if config.mask_prelu:
        yield "mask_prelu.weight", (1,)
    outputs = config.sources * config.filters
    yield from _pointwise(config, "mask", config.skip or config.bottleneck, outputs)
    yield "decoder.weight", bank


def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.gain", (channels,)
    yield f"{name}.bias", (channels,)


def _pointwise(
    config: ConvTasNetConfig, name: str, inputs: int, outputs: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs, 1)
    if config.biases:
        yield f"{name}.bias", (outputs,)
