"""Conv-TasNet in torch: for training, and what the serving graph is held to."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemwright.models.conv_tasnet.configs import EPSILON, ConvTasNetConfig, NormKind
from stemwright.models.conv_tasnet.layers import depthwise, pointwise


class Norm(nn.Module):
    """Normalisation of [B, N, F] with a gain and a bias per channel.

    Parameters
    ----------
    channels
        N.
    kind
        What the mean and the biased variance are taken over; see configs.NormKind.
    """

    def __init__(self, channels: int, kind: NormKind) -> None:
        super().__init__()
        self.kind = kind
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, shape=(B, N, F)."""
        if self.kind == "global":
            return self._over_all(x)
        if x.dtype is torch.bfloat16:  # of autocast: its three digits are too few for moments
            x = x.float()
        if self.kind == "cumulative":
            mean, variance = cumulative_moments(x)
        else:
            variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        scaled = (x - mean) * torch.rsqrt(variance + EPSILON)
        return scaled * self.gain[:, None] + self.bias[:, None]

    def _over_all(self, x: Tensor) -> Tensor:
        """Normalise over channels and frames; torch's kernel keeps the moments of bfloat16 in float32."""
        with torch.autocast(x.device.type, enabled=False):
            gain, bias = self.gain.to(x.dtype), self.bias.to(x.dtype)
            return functional.group_norm(x, 1, gain, bias, EPSILON)


def cumulative_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over all channels of frames 1..k, each shape=(B, 1, F).

    The sums run in float64: in float32 those of a long recording drift.
    """
    count = torch.arange(1, x.shape[2] + 1, device=x.device, dtype=torch.float64) * x.shape[1]
    wide = x.double()
    mean = wide.sum(1, keepdim=True).cumsum(2) / count
    square = wide.square().sum(1, keepdim=True).cumsum(2) / count
    variance = (square - mean.square()).clamp_min(0)
    return mean.to(x.dtype), variance.to(x.dtype)


class Block(nn.Module):
    """One dilated block: what it adds to the residual path, and to the skip path.

    Parameters
    ----------
    config
        The network's.
    dilation
        Of its depthwise convolution.
    with_residual
        False for a last block whose residual is dropped.
    """

    def __init__(self, config: ConvTasNetConfig, dilation: int, *, with_residual: bool) -> None:
        super().__init__()
        reach = (config.kernel - 1) * dilation
        self.before = reach if config.causal else reach // 2
        self.expand = nn.Conv1d(config.bottleneck, config.hidden, 1, bias=config.biases)
        self.prelu1 = nn.PReLU()
        self.norm1 = Norm(config.hidden, config.norm)
        self.depthwise = nn.Conv1d(
            config.hidden,
            config.hidden,
            config.kernel,
            dilation=dilation,
            groups=config.hidden,
            bias=config.biases,
        )
        self.prelu2 = nn.PReLU()
        self.norm2 = Norm(config.hidden, config.norm)
        self.residual = _outlet(config, config.bottleneck) if with_residual else None
        self.skip = _outlet(config, config.skip) if config.skip else None

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Residual and skip output for x, shape=(B, bottleneck, F); None where there is none."""
        hidden = self.norm1(self.prelu1(pointwise(self.expand, x)))
        hidden = depthwise(self.depthwise, hidden, self.before)
        hidden = self.norm2(self.prelu2(hidden))
        residual = None if self.residual is None else pointwise(self.residual, hidden)
        return residual, None if self.skip is None else pointwise(self.skip, hidden)


def _outlet(config: ConvTasNetConfig, channels: int) -> nn.Conv1d:
    return nn.Conv1d(config.hidden, channels, 1, bias=config.biases)


class ConvTasNet(nn.Module):
    """The whole network: mixture, shape=(B, A, T), to stems, shape=(B, C, A, T), T >= L.

    T is filled up with zeros to a whole number of hops, and what is beyond T is cut again.
    """

    def __init__(self, config: ConvTasNetConfig) -> None:
        super().__init__()
        self.config = config
        bank = (config.audio_channels, config.filters, config.filter_length)
        self.encoder = nn.Conv1d(*bank, stride=config.hop, bias=False)
        self.input_norm = Norm(config.filters, config.input_norm)
        self.bottleneck = nn.Conv1d(config.filters, config.bottleneck, 1, bias=config.biases)
        last = len(config.dilations) - 1
        self.blocks = nn.ModuleList(
            Block(config, dilation, with_residual=index < last or config.last_residual)
            for index, dilation in enumerate(config.dilations)
        )
        self.mask_prelu = nn.PReLU() if config.mask_prelu else nn.Identity()
        width = config.skip or config.bottleneck
        self.mask = nn.Conv1d(width, config.sources * config.filters, 1, bias=config.biases)
        self.decoder = nn.ConvTranspose1d(
            config.filters, config.audio_channels, config.filter_length, stride=config.hop, bias=False
        )

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate."""
        batch, channels, samples = mixture.shape
        config, hop = self.config, self.config.hop
        edge = hop if config.edges == "centred" else 0
        padded = functional.pad(mixture, (edge, edge + -samples % hop))
        with _full_precision(padded):
            coded = self.encoder(padded)
        if config.encoder_activation == "relu":
            coded = functional.relu(coded)
        # The masks are made of normalised features but multiply those as they are.
        masked = self.masks(coded) * coded[:, None]
        with _full_precision(masked):
            stems = self.decoder(masked.flatten(0, 1))[..., edge : edge + samples]
        return torch.reshape(stems, (batch, config.sources, channels, samples))

    def masks(self, coded: Tensor) -> Tensor:
        """Masks, shape=(B, C, N, F), of the encoder's output, shape=(B, N, F)."""
        x = pointwise(self.bottleneck, self.input_norm(coded))
        skips: Tensor | None = None
        for block in self.blocks:
            residual, skip = block(x)
            if residual is not None:
                x = x + residual
            if skip is not None:
                skips = skip if skips is None else skips + skip
        scores = pointwise(self.mask, self.mask_prelu(x if skips is None else skips))
        scores = torch.unflatten(scores, 1, (self.config.sources, self.config.filters))
        match self.config.mask:
            case "sigmoid":
                return torch.sigmoid(scores)
            case "relu":
                return functional.relu(scores)
            case "softmax":
                return torch.softmax(scores, dim=1)
            case "linear":
                return scores


def _full_precision(x: Tensor) -> torch.autocast:
    """Keep a waveform's own coding out of autocast: bfloat16 alone would put noise at -50 dB into it."""
    return torch.autocast(x.device.type, enabled=False)
