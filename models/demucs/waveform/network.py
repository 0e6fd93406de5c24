"""Demucs v1 and v2, and v3 in the time domain, in torch: our own code, the reference's parameter names.

    mixture [B, 2, T]  ->  stems [B, S, 2, T']

T is a valid length (`lengths.valid_length`). The output of v1 and v2 is shorter than the input, as their
decoders are not padded, and lies in its centre; that of v3 has the input's length.

References
----------
A. Défossez, N. Usunier, L. Bottou, F. Bach, "Music Source Separation in the Waveform Domain", 2021;
facebookresearch/demucs, branch v2, `demucs/model.py`; demucs 4.1.0, `demucs/demucs.py`.
"""

import math

from torch import Tensor, nn
from torch.nn import functional

from stemwright.models.demucs.configs import PaperDemucsConfig, TimeDemucsConfig, WaveformConfig
from stemwright.models.demucs.layers import NORM_GROUPS, NORM_STARTS, Glu, GroupNorm, ResidualBranch
from stemwright.models.demucs.waveform.layers import Resample, trim_centre
from stemwright.models.demucs.waveform.lengths import DEPTH, KERNEL, PAPER_CONTEXT, STRIDE, valid_length

AUDIO_CHANNELS = 2
LSTM_LAYERS = 2
NORM_EPSILON = 1e-5
BRANCH_INIT = 1e-4
RESCALE = 0.1  # deviation of convolutions' weights that the initialisation is brought nearer to


class _UNet(nn.Module):
    """Encoder, what is in the middle, decoder with summed skips, at the network's own rate."""

    sources: tuple[str, ...]
    encoder: nn.ModuleList
    decoder: nn.ModuleList

    def _start(self, config: WaveformConfig) -> list[tuple[int, int]]:
        """Set up what both generations have; returns channels in and out of each encoder layer."""
        self.sources = config.sources
        self.upsample = Resample(1, 2) if config.resample else nn.Identity()
        self.downsample = Resample(2, 1) if config.resample else nn.Identity()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        widths = [config.channels * 2**index for index in range(DEPTH)]
        return list(zip([AUDIO_CHANNELS, *widths], widths, strict=False))

    def _finish(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                scale = (module.weight.detach().std() / RESCALE).sqrt()
                module.weight.data /= scale
                if module.bias is not None:
                    module.bias.data /= scale

    def _outputs(self, index: int, inputs: int) -> int:
        return inputs if index else len(self.sources) * AUDIO_CHANNELS

    def _middle(self, x: Tensor) -> Tensor:
        return x

    def _separate(self, x: Tensor) -> Tensor:
        """[B, 2, T] -> [B, S * 2, T']."""
        x = self.upsample(x)
        skips: list[Tensor] = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        x = self._middle(x)
        for layer in self.decoder:
            x = layer(x + trim_centre(skips.pop(), int(x.shape[-1])))
        separated: Tensor = self.downsample(x)
        return separated

    def _stems(self, x: Tensor) -> Tensor:
        return x.reshape(-1, len(self.sources), AUDIO_CHANNELS, int(x.shape[-1]))


class Recurrent(nn.Module):
    """Two bidirectional LSTM layers over all steps, and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers=LSTM_LAYERS, bidirectional=True)
        self.linear = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, C, T] in and out."""
        hidden: Tensor = self.lstm(x.permute(2, 0, 1))[0]
        projected: Tensor = self.linear(hidden)
        return projected.permute(1, 2, 0)


class PaperDemucs(_UNet):
    """Demucs v1 (no resampling) and v2."""

    def __init__(self, config: PaperDemucsConfig) -> None:
        super().__init__()
        pairs = self._start(config)
        for index, (inputs, outputs) in enumerate(pairs):
            self.encoder.append(
                nn.Sequential(
                    nn.Conv1d(inputs, outputs, KERNEL, STRIDE),
                    nn.ReLU(),
                    nn.Conv1d(outputs, 2 * outputs, 1),
                    Glu(),
                )
            )
            self.decoder.insert(
                0,
                nn.Sequential(
                    nn.Conv1d(outputs, 2 * outputs, PAPER_CONTEXT),
                    Glu(),
                    nn.ConvTranspose1d(outputs, self._outputs(index, inputs), KERNEL, STRIDE),
                    *([nn.ReLU()] if index else []),
                ),
            )
        self.lstm = Recurrent(pairs[-1][1])
        self._finish()

    def _middle(self, x: Tensor) -> Tensor:
        middle: Tensor = self.lstm(x)
        return middle

    def forward(self, mixture: Tensor) -> Tensor:
        """Shape [B, 2, T] in, T a valid length; [B, S, 2, T'] out."""
        return self._stems(self._separate(mixture))


class TimeDemucs(_UNet):
    """Demucs v3 in the time domain: residual branches, in the inner layers with an LSTM and attention."""

    def __init__(self, config: TimeDemucsConfig) -> None:
        super().__init__()
        self.config = config
        for index, (inputs, outputs) in enumerate(self._start(config)):
            inner = index >= NORM_STARTS
            branch = ResidualBranch(
                outputs, compression=config.compression, recurrent=inner, init=BRANCH_INIT
            )
            self.encoder.append(
                nn.Sequential(
                    nn.Conv1d(inputs, outputs, KERNEL, STRIDE),
                    _norm(outputs, inner),
                    nn.GELU(),
                    branch,
                    nn.Conv1d(outputs, 2 * outputs, 1),
                    _norm(2 * outputs, inner),
                    Glu(),
                )
            )
            target = self._outputs(index, inputs)
            self.decoder.insert(
                0,
                nn.Sequential(
                    nn.Conv1d(outputs, 2 * outputs, 3, padding=1),
                    _norm(2 * outputs, inner),
                    Glu(),
                    *self._decoder_branch(outputs, inner),
                    nn.ConvTranspose1d(outputs, target, KERNEL, STRIDE),
                    *([_norm(target, inner), nn.GELU()] if index else []),
                ),
            )
        self._finish()

    def _decoder_branch(self, channels: int, inner: bool) -> list[nn.Module]:
        if not self.config.decoder_branch:
            return []
        compression = self.config.compression
        return [ResidualBranch(channels, compression=compression, recurrent=inner, init=BRANCH_INIT)]

    def forward(self, mixture: Tensor) -> Tensor:
        """Shape [B, 2, T] in, [B, S, 2, T] out; another T than a valid one is padded on both sides."""
        length = int(mixture.shape[-1])
        x = mixture
        if self.config.normalise:
            mono = mixture.mean(dim=1, keepdim=True)
            mean = _mean(mono)
            std = (_mean((mono - mean).square()) * (length / (length - 1))).sqrt()
            x = (x - mean) / (NORM_EPSILON + std)
        lack = valid_length(self.config, length) - length
        if lack:
            x = functional.pad(x, (lack // 2, lack - lack // 2))
        x = self._separate(x)
        if self.config.normalise:
            x = x * std + mean
        return self._stems(trim_centre(x, length))


def build_waveform_network(config: WaveformConfig) -> PaperDemucs | TimeDemucs:
    """Return the network of a configuration, with random weights."""
    return PaperDemucs(config) if isinstance(config, PaperDemucsConfig) else TimeDemucs(config)


def _norm(channels: int, normed: bool) -> nn.Module:
    return GroupNorm(NORM_GROUPS, channels) if normed else nn.Identity()


def _mean(x: Tensor) -> Tensor:
    """Mean over the last axis, in two steps: runtimes that add millions of values in a row lose digits."""
    length = int(x.shape[-1])
    part = next(size for size in range(math.isqrt(length), 0, -1) if length % size == 0)
    return x.reshape(-1, int(x.shape[1]), length // part, part).mean(dim=-1).mean(dim=-1, keepdim=True)
