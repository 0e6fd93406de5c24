"""ResUNet30 in torch: a U-Net on magnitudes, told by a condition which sound to take out.

Names of tensors are those of the authors' state dict (bytedance/uss), also of those that are never used:
the decoders' second norm and its layer of the condition.

References
----------
Q. Kong, K. Chen, H. Liu, X. Du, T. Berg-Kirkpatrick, S. Dubnov, M. D. Plumbley, "Universal Source
Separation with Weakly Labelled Data", arXiv 2305.07447.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from stemwright.models.universal.configs import (
    BINS,
    BN_EPSILON,
    DOWN,
    HOP,
    N_FFT,
    TIME_RATIO,
    USED_BINS,
    ResUNetConfig,
    condition_layer,
)

_SLOPE = 0.01
_MOMENTUM = 0.01
_SMALLEST_POWER = 1e-10
_SMALLEST_LENGTH = 1e-10
_UPRIGHT = (0.0, 1.0, 0.0)  # scale, real and imaginary part of the first masks, before their activations

Offsets = Mapping[str, Tensor]
"""What the condition adds behind each norm, by the norm's path: shape=(B, channels, 1, 1)."""


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=BN_EPSILON, momentum=_MOMENTUM)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each behind norm, offset and activation, around which the input passes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.bn1 = _norm(before)
        self.bn2 = _norm(after)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut: nn.Module = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, features: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Compute [B, C, T, F] of [B, C', T, F]; `first` and `second` are the norms' offsets."""
        inner = self.conv1(F.leaky_relu(self.bn1(features) + first, _SLOPE))
        inner = self.conv2(F.leaky_relu(self.bn2(inner) + second, _SLOPE))
        result: Tensor = self.shortcut(features) + inner
        return result


class EncoderBlock(nn.Module):
    """A block whose output goes to the decoder as it is, and on, averaged."""

    def __init__(self, before: int, after: int, down: tuple[int, int]) -> None:
        super().__init__()
        self.conv_block1 = ConvBlock(before, after)
        self.down = down

    def forward(self, features: Tensor, offsets: Offsets, name: str) -> tuple[Tensor, Tensor]:
        """Return the output for the next block, and the one for the decoder."""
        inner = f"{name}.conv_block1"
        skip = self.conv_block1(features, offsets[f"{inner}.bn1"], offsets[f"{inner}.bn2"])
        return (skip if self.down == (1, 1) else F.avg_pool2d(skip, self.down)), skip


class DecoderBlock(nn.Module):
    """Upsampling, then a block on that and the encoder's output."""

    def __init__(self, before: int, after: int, up: tuple[int, int]) -> None:
        super().__init__()
        self.bn1 = _norm(before)
        self.bn2 = _norm(before)  # never used, like its layer of the condition
        self.conv1 = nn.ConvTranspose2d(before, after, up, stride=up, bias=False)
        self.conv_block2 = ConvBlock(2 * after, after)

    def forward(self, features: Tensor, skip: Tensor, offsets: Offsets, name: str) -> Tensor:
        """Compute the output at the encoder's size."""
        inner = f"{name}.conv_block2"
        raised = self.conv1(F.leaky_relu(self.bn1(features) + offsets[f"{name}.bn1"], _SLOPE))
        joined = torch.cat([raised, skip], dim=1)
        result: Tensor = self.conv_block2(joined, offsets[f"{inner}.bn1"], offsets[f"{inner}.bn2"])
        return result


class Base(nn.Module):
    """The U-Net from magnitudes to the three values that make a mask."""

    def __init__(self, config: ResUNetConfig) -> None:
        super().__init__()
        channels = config.channels
        self.bn0 = _norm(BINS)
        self.pre_conv = nn.Conv2d(1, channels[0], 1)
        before = channels[0]
        self._encoders: list[str] = []
        for index, after in enumerate(channels):
            self._encoders.append(f"encoder_block{index + 1}")
            self.add_module(self._encoders[-1], EncoderBlock(before, after, DOWN[index]))
            before = after
        self.conv_block7a = EncoderBlock(before, before, (1, 1))
        self._decoders: list[str] = []
        for index, after in enumerate(reversed(channels)):
            self._decoders.append(f"decoder_block{index + 1}")
            self.add_module(self._decoders[-1], DecoderBlock(before, after, DOWN[-1 - index]))
            before = after
        self.after_conv = nn.Conv2d(before, 3, 1)

    def forward(self, magnitude: Tensor, offsets: Offsets) -> Tensor:
        """Compute [B, 3, T, 1024] of magnitudes [B, 1, T, 1025]."""
        frames = magnitude.shape[2]
        features = self.bn0(magnitude.transpose(1, 3)).transpose(1, 3)[..., :USED_BINS]
        features = self.pre_conv(F.pad(features, (0, 0, 0, -frames % TIME_RATIO)))
        skips: list[Tensor] = []
        for name in self._encoders:
            features, skip = self.get_submodule(name)(features, offsets, name)
            skips.append(skip)
        features, _ = self.conv_block7a(features, offsets, "conv_block7a")
        for name in self._decoders:
            features = self.get_submodule(name)(features, skips.pop(), offsets, name)
        result: Tensor = self.after_conv(features)
        return result[:, :, :frames]


class Condition(nn.Module):
    """One linear layer of the condition for each norm; it only adds."""

    def __init__(self, config: ResUNetConfig) -> None:
        super().__init__()
        self._norms = [norm for norm, _ in config.offsets]
        channels = dict(config.offsets)
        for norm, count in config.offsets:
            self.add_module(condition_layer(norm), nn.Linear(config.condition_size, count))
            if norm.startswith("decoder") and norm.count(".") == 1:
                unused = norm.replace(".bn1", ".bn2")
                self.add_module(condition_layer(unused), nn.Linear(config.condition_size, channels[norm]))

    def forward(self, condition: Tensor) -> Offsets:
        """Compute the offsets of conditions [B, D]."""
        return {
            norm: self.get_submodule(condition_layer(norm))(condition)[:, :, None, None]
            for norm in self._norms
        }


class ResUNet30(nn.Module):
    """The separator.

    Parameters
    ----------
    config
        Sizes; the default is the paper's network for 527 classes, of 26,595,781 parameters.
    """

    def __init__(self, config: ResUNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = ResUNetConfig() if config is None else config
        self.base = Base(config)
        self.film: nn.Module = Condition(config)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if config.upright:
            nn.init.zeros_(self.base.after_conv.weight[1:])
            self.base.after_conv.bias = nn.Parameter(torch.tensor(_UPRIGHT))

    def forward(self, mixture: Tensor, condition: Tensor) -> Tensor:
        """Separate.

        Parameters
        ----------
        mixture
            At 32 kHz, shape=(B, 1, samples), at least 1,025 samples.
        condition
            What to take out, shape=(B, D).

        Returns
        -------
        Tensor
            shape=(B, 1, samples).
        """
        window = torch.hann_window(N_FFT, device=mixture.device, dtype=mixture.dtype)
        spectrum = torch.stft(mixture.squeeze(1), N_FFT, HOP, window=window, return_complex=True)
        magnitude = (spectrum.real.square() + spectrum.imag.square()).clamp(min=_SMALLEST_POWER).sqrt()
        parts = self.mask(magnitude.transpose(1, 2).unsqueeze(1), condition)
        mask = torch.view_as_complex(parts.to(mixture.dtype))  # autocast makes bfloat16, which has no complex
        result = spectrum * mask.squeeze(1).transpose(1, 2)
        return torch.istft(result, N_FFT, HOP, window=window, length=mixture.shape[-1]).unsqueeze(1)

    def mask(self, magnitude: Tensor, condition: Tensor) -> Tensor:
        """Compute the complex mask.

        It scales by a sigmoid, so that nothing is amplified, and turns the phase by the direction of two
        further values.

        Parameters
        ----------
        magnitude
            shape=(B, 1, T, 1025), at least 1e-5.
        condition
            shape=(B, D).

        Returns
        -------
        Tensor
            Real and imaginary part, shape=(B, 1, T, 1025, 2); zero in the highest bin.
        """
        scale, real, imag = self.base(magnitude, self.film(condition)).unbind(dim=1)
        direction = torch.stack([torch.tanh(real), torch.tanh(imag)], dim=-1)
        length = direction.square().sum(dim=-1).clamp(min=_SMALLEST_LENGTH**2).sqrt()
        turned = direction * (torch.sigmoid(scale) / length).unsqueeze(-1)
        return F.pad(turned, (0, 0, 0, 1)).unsqueeze(1)


class Affine(nn.Module):
    """A norm at rest over axis 1 of four; without its shift where something else adds that."""

    def __init__(self, channels: int, *, shifted: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels)) if shifted else None

    def forward(self, features: Tensor) -> Tensor:
        """Scale and shift."""
        scaled = features * self.scale[:, None, None]
        return scaled if self.shift is None else scaled + self.shift[:, None, None]


class JointCondition(nn.Module):
    """All layers of the condition as one, the norms' shifts in its bias."""

    def __init__(self, config: ResUNetConfig) -> None:
        super().__init__()
        self._norms = [norm for norm, _ in config.offsets]
        self._sizes = [channels for _, channels in config.offsets]
        self.joint = nn.Linear(config.condition_size, sum(self._sizes))

    def forward(self, condition: Tensor) -> Offsets:
        """Compute the offsets of conditions [B, D]."""
        parts = self.joint(condition)[:, :, None, None].split(self._sizes, dim=1)
        return dict(zip(self._norms, parts, strict=True))


def serving_form(config: ResUNetConfig) -> ResUNet30:
    """Make the network that `folding.serving_tensors` gives the tensors of."""
    net = ResUNet30(config)
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent, _, place = name.rpartition(".")
            kept = place != "bn2"
            net.get_submodule(parent).register_module(
                place, Affine(module.num_features, shifted=place == "bn0") if kept else nn.Identity()
            )
    net.film = JointCondition(config)
    return net.eval()


class MaskNetwork(nn.Module):
    """A network as it serves, with the engine's axes.

    Parameters
    ----------
    net
        Of `serving_form`, or a trained one at rest.
    """

    def __init__(self, net: ResUNet30) -> None:
        super().__init__()
        self.net = net

    def forward(self, magnitude: Tensor, condition: Tensor) -> Tensor:
        """Compute [B, 1, 1, F, N, 2] of magnitudes [B, 1, F, N] and conditions [B, D]."""
        heard = magnitude.transpose(2, 3).clamp(min=_SMALLEST_POWER**0.5)
        return self.net.mask(heard, condition).transpose(2, 3).unsqueeze(1)
