"""HTDemucs (v4) and HDemucs (v3 hybrid) in torch: our own code, the reference's parameter names.

Both are two U-Nets, one over the spectrum and one over the waveform, whose outputs are added. The
part between the transforms is `core`, which is what is exported:

    mixture [B, 2, T], spectrum [B, 4, 2048, N]  ->  spectra [B, S, 4, 2048, N], waveforms [B, S, 2, T]

`spectrum` holds left re, left im, right re, right im ("complex as channels"); `forward` puts the
transforms around it. Sizes were checked against the released checkpoints; numbers against the
package demucs 4.1.0 (tests/models/demucs/test_network.py).

References
----------
A. Défossez, "Hybrid Spectrogram and Waveform Source Separation", MDX workshop 2021.
S. Rouard, F. Massa, A. Défossez, "Hybrid Transformers for Music Source Separation", ICASSP 2023.
"""

import math
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemwright.models.demucs.configs import (
    HDemucsConfig,
    HTDemucsConfig,
    HybridConfig,
    NetworkConfig,
    PaperDemucsConfig,
    TimeDemucsConfig,
    WaveformConfig,
)
from stemwright.models.demucs.layers import NORM_STARTS, DecoderLayer, EncoderLayer, LayerShape
from stemwright.models.demucs.transformer import CrossTransformer
from stemwright.models.demucs.waveform.network import PaperDemucs, TimeDemucs, build_waveform_network

N_FFT = 4096
HOP = N_FFT // 4
BINS = N_FFT // 2  # the Nyquist bin is dropped
EDGE = 2  # frames dropped at each end
PAD = HOP // 2 * 3
EMBEDDING_SCALE = 10.0  # the frequency embedding is stored as a tenth of its value ...
EMBEDDING_WEIGHT = 0.2  # ... and added with this weight
NORM_EPSILON = 1e-5


def spectrum_of(mixture: Tensor) -> Tensor:
    """Spectrum that the networks take.

    Parameters
    ----------
    mixture
        Shape [B, C, T].

    Returns
    -------
    Tensor
        Shape [B, 2C, 2048, ceil(T / 1024)].
    """
    batch, channels, length = mixture.shape
    frames = -(-length // HOP)
    padded = functional.pad(mixture, (PAD, PAD + frames * HOP - length), mode="reflect")
    window = torch.hann_window(N_FFT, dtype=mixture.dtype, device=mixture.device)
    spectrum = torch.stft(
        padded.reshape(batch * channels, -1), N_FFT, HOP, window=window, normalized=True, return_complex=True
    )[:, :BINS, EDGE : EDGE + frames]
    parts = torch.view_as_real(spectrum).permute(0, 3, 1, 2)
    return parts.reshape(batch, 2 * channels, BINS, frames)


def waveform_of(spectra: Tensor, length: int) -> Tensor:
    """Inverse of `spectrum_of`, apart from the first and last 1,536 samples (frames were dropped).

    Shape [..., 2C, 2048, N] in, [..., C, length] out.
    """
    *outer, channels, bins, frames = spectra.shape
    parts = spectra.reshape(-1, 2, bins, frames).permute(0, 2, 3, 1)
    spectrum = functional.pad(torch.view_as_complex(parts.contiguous()), (EDGE, EDGE, 0, 1))
    window = torch.hann_window(N_FFT, dtype=spectra.dtype, device=spectra.device)
    padded = torch.istft(spectrum, N_FFT, HOP, window=window, normalized=True, length=frames * HOP + 2 * PAD)
    return padded[:, PAD : PAD + length].reshape(*outer, channels // 2, length)


class FrequencyEmbedding(nn.Module):
    """A learned vector per bin of the first frequency layer's output."""

    def __init__(self, bins: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(bins, channels)
        with torch.no_grad():
            smooth = self.embedding.weight.cumsum(0)
            smooth /= torch.arange(1, bins + 1).sqrt()[:, None] * EMBEDDING_SCALE
            self.embedding.weight.copy_(smooth)

    def forward(self, x: Tensor) -> Tensor:
        """Add the embedding to x, shape [B, C, F, N]."""
        weight: Tensor = self.embedding.weight.t()
        return x + (weight * (EMBEDDING_SCALE * EMBEDDING_WEIGHT))[None, :, :, None]


class _Hybrid(nn.Module):
    """The two U-Nets that both versions are built on; a version adds what is in the middle."""

    sources: tuple[str, ...]
    encoder: nn.ModuleList
    decoder: nn.ModuleList
    tencoder: nn.ModuleList
    tdecoder: nn.ModuleList
    freq_emb: FrequencyEmbedding

    def _build(
        self, spectral: list[LayerShape], temporal: list[LayerShape], channels: int, decoder_branch: int
    ) -> None:
        stems = len(self.sources)
        widths = [channels * 2**index for index in range(len(spectral))]
        pairs = list(zip([0, *widths], widths, strict=False))
        self.encoder = nn.ModuleList(
            EncoderLayer(shape, inputs or 4, outputs)
            for shape, (inputs, outputs) in zip(spectral, pairs, strict=True)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(shape._replace(branch=decoder_branch), outputs, inputs or 4 * stems, last=not inputs)
            for shape, (inputs, outputs) in reversed(list(zip(spectral, pairs, strict=True)))
        )
        pairs = pairs[: len(temporal)]
        self.tencoder = nn.ModuleList(
            EncoderLayer(shape, inputs or 2, outputs)
            for shape, (inputs, outputs) in zip(temporal, pairs, strict=True)
        )
        self.tdecoder = nn.ModuleList(
            DecoderLayer(shape._replace(branch=decoder_branch), outputs, inputs or 2 * stems, last=not inputs)
            for shape, (inputs, outputs) in reversed(list(zip(temporal, pairs, strict=True)))
        )
        self.freq_emb = FrequencyEmbedding(BINS // spectral[0].stride, channels)

    def forward(self, mixture: Tensor) -> Tensor:
        """Stems [B, S, 2, T] of a mixture [B, 2, T]."""
        spectra, waveforms = self.core(mixture, spectrum_of(mixture))
        return waveforms + waveform_of(spectra, mixture.shape[-1])

    def core(self, mixture: Tensor, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """Run the part between the transforms (shapes: see the module)."""
        x, mean, std = _standardise(spectrum)
        xt, mean_t, std_t = _standardise(mixture)
        x, xt = self._network(x, xt)
        stems = len(self.sources)
        x = x.reshape(-1, stems, *(int(size) for size in spectrum.shape[1:]))
        xt = xt.reshape(-1, stems, *(int(size) for size in mixture.shape[1:]))
        return x * std[:, None] + mean[:, None], xt * std_t[:, None] + mean_t[:, None]

    def _network(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        skips: list[Tensor] = []
        skips_t: list[Tensor] = []
        lengths: list[int] = []
        lengths_t: list[int] = []
        for index, layer in enumerate(self.encoder):
            lengths.append(int(x.shape[-1]))
            merged = None
            if index < len(self.tencoder):
                lengths_t.append(int(xt.shape[-1]))
                xt = self.tencoder[index](xt)
                if _shape(self.tencoder[index]).merge:
                    merged = xt
                else:
                    skips_t.append(xt)
            x = layer(x, merged)
            if index == 0:
                x = self.freq_emb(x)
            skips.append(x)
        inner, inner_t = self._middle(x, xt)
        first = len(self.decoder) - len(self.tdecoder)
        for index, layer in enumerate(self.decoder):
            inner, before = layer(inner, skips.pop(), lengths.pop())
            if index < first:
                continue
            layer_t = self.tdecoder[index - first]
            if _shape(layer_t).merge:
                inner_t, _ = layer_t(before[:, :, 0], None, lengths_t.pop())
            else:
                inner_t, _ = layer_t(inner_t, skips_t.pop(), lengths_t.pop())
        if inner is None or inner_t is None:
            raise ValueError("a hybrid network has a decoder in each branch")
        return inner, inner_t

    def _middle(self, x: Tensor, xt: Tensor) -> tuple[Tensor | None, Tensor | None]:
        raise NotImplementedError


class HTDemucs(_Hybrid):
    """Hybrid Transformer Demucs: depth 4, the branches meet in a cross-domain transformer."""

    def __init__(self, config: HTDemucsConfig) -> None:
        super().__init__()
        self.sources = config.sources
        branch = config.compression
        depth = config.depth
        self._build(
            [LayerShape("frequency", branch=branch)] * depth,
            [LayerShape("time", branch=branch)] * depth,
            config.channels,
            branch if config.decoder_branch else 0,
        )
        width = config.channels * 2 ** (depth - 1)
        inner = config.bottom_channels or width
        self.adapted = bool(config.bottom_channels)
        if self.adapted:
            self.channel_upsampler = nn.Conv1d(width, inner, 1)
            self.channel_downsampler = nn.Conv1d(inner, width, 1)
            self.channel_upsampler_t = nn.Conv1d(width, inner, 1)
            self.channel_downsampler_t = nn.Conv1d(inner, width, 1)
        self.crosstransformer = CrossTransformer(
            inner, config.heads, config.transformer_layers, inner * config.hidden_scale
        )

    def _middle(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        width, bins, frames = (int(size) for size in x.shape[1:])
        if not self.adapted:
            x, xt = self.crosstransformer(x, xt)
            return x, xt
        x = self.channel_upsampler(x.reshape(-1, width, bins * frames))
        x, xt = self.crosstransformer(
            x.reshape(-1, int(x.shape[1]), bins, frames), self.channel_upsampler_t(xt)
        )
        x = self.channel_downsampler(x.reshape(-1, int(x.shape[1]), bins * frames))
        return x.reshape(-1, width, bins, frames), self.channel_downsampler_t(xt)


class HDemucs(_Hybrid):
    """Hybrid Demucs: depth 6; the branches meet in layer 4, which takes all remaining bins at once.

    The innermost layer is shared. Layers from 4 on have normalisation, an LSTM and local attention.
    """

    def __init__(self, config: HDemucsConfig) -> None:
        super().__init__()
        self.sources = config.sources
        branch = config.compression
        plain = [LayerShape("frequency", branch=branch)] * NORM_STARTS
        merge = LayerShape("frequency", padded=False, normed=True, recurrent=True, branch=branch)
        shared = LayerShape("time", kernel=4, stride=2, normed=True, recurrent=True, branch=branch)
        temporal = [LayerShape("time", branch=branch)] * NORM_STARTS
        self._build(
            [*plain, merge, shared],
            [*temporal, LayerShape("time", normed=True, merge=True)],
            config.channels,
            branch if config.decoder_branch else 0,
        )

    def _middle(self, x: Tensor, xt: Tensor) -> tuple[None, None]:
        return None, None


Network = HTDemucs | HDemucs | PaperDemucs | TimeDemucs


@overload
def build_network(config: HybridConfig) -> HTDemucs | HDemucs: ...


@overload
def build_network(config: WaveformConfig) -> PaperDemucs | TimeDemucs: ...


def build_network(config: NetworkConfig) -> Network:
    """Return the network of a configuration, with random weights."""
    if isinstance(config, PaperDemucsConfig | TimeDemucsConfig):
        return build_waveform_network(config)
    return HTDemucs(config) if isinstance(config, HTDemucsConfig) else HDemucs(config)


def _shape(layer: nn.Module) -> LayerShape:
    shape = layer.shape
    if not isinstance(shape, LayerShape):
        raise ValueError("not a layer of a branch")
    return shape


def _standardise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standardise each item over all axes but the first, with the unbiased standard deviation."""
    count = 1
    for size in x.shape[1:]:
        count *= int(size)
    mean = _mean(x)
    centred = x - mean
    std = (_mean(centred.square()) * (count / (count - 1))).sqrt()
    return centred / (NORM_EPSILON + std), mean, std


def _mean(x: Tensor) -> Tensor:
    """Mean over all axes but the first, kept as axes of size 1, in two steps.

    Runtimes that add up millions of float32 values one after the other lose four digits.
    """
    length = int(x.shape[-1])
    part = next(size for size in range(math.isqrt(length), 0, -1) if length % size == 0)
    shape = [-1, *(int(size) for size in x.shape[1:-1]), length // part, part]
    means = x.reshape(shape).mean(dim=-1).mean(dim=tuple(range(1, x.dim())))
    return means.reshape([-1] + [1] * (x.dim() - 1))
