"""Conv-TasNets of other implementations: torchaudio's own module, and transcriptions of the others.

The transcriptions follow the description of each implementation (module tree, hence the names in its
state dict; order of layers; normalisations; edges), without its code.
"""

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def torchaudio_module() -> ModuleType:
    """torchaudio's module of Conv-TasNet alone: the package itself does not import beside CPU torch."""
    package = importlib.util.find_spec("torchaudio")
    assert package is not None and package.origin is not None
    path = package.origin.replace("__init__.py", "models/conv_tasnet.py")
    spec = importlib.util.spec_from_file_location("torchaudio_conv_tasnet", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Affine(nn.Module):
    """Norm with `gamma` and `beta`: "gLN", "cLN" over the channels of a frame, "cgLN" over frames so far."""

    def __init__(self, channels: int, kind: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.kind = kind
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "cgLN":
            sums, squares = x.sum(1), x.pow(2).sum(1)
            means, variances = [], []
            for frame in range(1, x.shape[2] + 1):
                count = frame * x.shape[1]
                mean = sums[:, :frame].sum(1) / count
                means.append(mean)
                variances.append(squares[:, :frame].sum(1) / count - mean**2)
            mean, variance = torch.stack(means, 1)[:, None], torch.stack(variances, 1)[:, None]
        else:
            axes = [1, 2] if self.kind == "gLN" else [1]
            mean = x.mean(axes, keepdim=True)
            variance = (x - mean).pow(2).mean(axes, keepdim=True)
        gamma, beta = self.gamma.reshape(1, -1, 1), self.beta.reshape(1, -1, 1)
        return gamma * (x - mean) / (variance + 1e-8).sqrt() + beta


class _CutEnd(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : x.shape[-1] - self.size]


def _activation(name: str | None) -> nn.Module:
    return {
        "relu": nn.ReLU(),
        "sigmoid": nn.Sigmoid(),
        "softmax": nn.Softmax(dim=1),
        "linear": nn.Identity(),
        None: nn.Identity(),
    }[name]


class _AsteroidBlock(nn.Module):
    def __init__(self, args: dict[str, Any], dilation: int) -> None:
        super().__init__()
        hidden, kernel, norm = args["hid_chan"], args["conv_kernel_size"], args["norm_type"]
        reach = (kernel - 1) * dilation
        padding = reach if args["causal"] else reach // 2
        depthwise: nn.Module = nn.Conv1d(
            hidden, hidden, kernel, padding=padding, dilation=dilation, groups=hidden
        )
        if args["causal"]:
            depthwise = nn.Sequential(depthwise, _CutEnd(reach))
        self.shared_block = nn.Sequential(
            nn.Conv1d(args["bn_chan"], hidden, 1),
            nn.PReLU(),
            _Affine(hidden, norm, (hidden,)),
            depthwise,
            nn.PReLU(),
            _Affine(hidden, norm, (hidden,)),
        )
        self.res_conv = nn.Conv1d(hidden, args["bn_chan"], 1)
        if args["skip_chan"]:
            self.skip_conv = nn.Conv1d(hidden, args["skip_chan"], 1)


class _AsteroidMasker(nn.Module):
    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__()
        filters = args["n_filters"]
        self.args = args
        self.bottleneck = nn.Sequential(
            _Affine(filters, args["norm_type"], (filters,)), nn.Conv1d(filters, args["bn_chan"], 1)
        )
        self.TCN = nn.ModuleList(
            _AsteroidBlock(args, 2**block)
            for _ in range(args["n_repeats"])
            for block in range(args["n_blocks"])
        )
        width = args["skip_chan"] or args["bn_chan"]
        self.mask_net = nn.Sequential(nn.PReLU(), nn.Conv1d(width, args["n_src"] * filters, 1))
        self.act = _activation(args["mask_act"])

    def forward(self, coded: Tensor) -> Tensor:
        x: Tensor = self.bottleneck(coded)
        skips: Tensor | float = 0.0
        block: Any
        for block in self.TCN:
            hidden = block.shared_block(x)
            x = x + block.res_conv(hidden)
            if self.args["skip_chan"]:
                skips = skips + block.skip_conv(hidden)
        scores = self.mask_net(skips if self.args["skip_chan"] else x)
        masks: Tensor = self.act(scores.view(len(coded), self.args["n_src"], coded.shape[1], -1))
        return masks


class _Bank(nn.Module):
    def __init__(self, filters: int, length: int) -> None:
        super().__init__()
        self.filterbank = nn.Module()
        self.filterbank._filters = nn.Parameter(torch.randn(filters, 1, length) * 0.2)


class AsteroidConvTasNet(nn.Module):
    """asteroid's ConvTasNet: [B, 1, T] to [B, C, T]."""

    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__()
        self.args = args
        self.encoder = _Bank(args["n_filters"], args["kernel_size"])
        self.masker = _AsteroidMasker(args)
        self.decoder = _Bank(args["n_filters"], args["kernel_size"])
        self.act = _activation(args["encoder_activation"])

    def forward(self, wave: Tensor) -> Tensor:
        step = self.args["stride"]
        filters: Any = (self.encoder.filterbank._filters, self.decoder.filterbank._filters)
        coded = self.act(functional.conv1d(wave, filters[0], stride=step))
        masked = self.masker(coded) * coded[:, None]
        stems = functional.conv_transpose1d(masked.flatten(0, 1), filters[1], stride=step)
        stems = stems.view(len(wave), self.args["n_src"], -1)
        return functional.pad(stems, (0, wave.shape[-1] - stems.shape[-1]))


ASTEROID_ARGS: dict[str, Any] = {
    "fb_name": "FreeFB",
    "n_filters": 16,
    "kernel_size": 8,
    "stride": 4,
    "sample_rate": 8000.0,
    "in_chan": 16,
    "out_chan": 16,
    "bn_chan": 8,
    "hid_chan": 12,
    "skip_chan": 10,
    "conv_kernel_size": 3,
    "n_blocks": 3,
    "n_repeats": 2,
    "n_src": 2,
    "norm_type": "gLN",
    "mask_act": "sigmoid",
    "causal": False,
    "encoder_activation": None,
}
"""`model_args` of a small network, as asteroid's `serialize` writes them."""


class KaituoxuConvTasNet(nn.Module):
    """kaituoxu's ConvTasNet with demucs' channels: [B, A, T] to [B, C, A, T]."""

    def __init__(self, letters: dict[str, Any], audio_channels: int = 1) -> None:
        super().__init__()
        self.letters, self.audio_channels = letters, audio_channels
        filters, length, width = letters["N"], letters["L"], letters["B"]
        self.encoder = nn.Module()
        self.encoder.conv1d_U = nn.Conv1d(audio_channels, filters, length, stride=length // 2, bias=False)
        blocks = [
            nn.Sequential(*[self._block(2**block) for block in range(letters["X"])])
            for _ in range(letters["R"])
        ]
        self.separator = nn.Module()
        self.separator.network = nn.Sequential(
            _Affine(filters, "cLN", (1, filters, 1)),
            nn.Conv1d(filters, width, 1, bias=False),
            nn.Sequential(*blocks),
            nn.Conv1d(width, letters["C"] * filters, 1, bias=False),
        )
        self.decoder = nn.Module()
        self.decoder.basis_signals = nn.Linear(filters, audio_channels * length, bias=False)

    def _block(self, dilation: int) -> nn.Module:
        letters = self.letters
        hidden, width, kind = letters["H"], letters["B"], letters["norm_type"]
        reach = (letters["P"] - 1) * dilation
        causal = bool(letters["causal"])
        inner: list[nn.Module] = [
            nn.Conv1d(
                hidden,
                hidden,
                letters["P"],
                padding=reach if causal else reach // 2,
                dilation=dilation,
                groups=hidden,
                bias=False,
            )
        ]
        inner += [_CutEnd(reach)] if causal else []
        inner += [nn.PReLU(), _Affine(hidden, kind, (1, hidden, 1)), nn.Conv1d(hidden, width, 1, bias=False)]
        return _Residual(
            nn.Sequential(
                nn.Conv1d(width, hidden, 1, bias=False),
                nn.PReLU(),
                _Affine(hidden, kind, (1, hidden, 1)),
                _Chain(nn.Sequential(*inner)),
            )
        )

    def forward(self, wave: Tensor) -> Tensor:
        letters = self.letters
        step, length = letters["L"] // 2, letters["L"]
        encoder: Any = self.encoder.conv1d_U
        network: Any = self.separator.network
        basis: Any = self.decoder.basis_signals
        coded = functional.relu(encoder(wave))
        scores = network(coded).view(len(wave), letters["C"], letters["N"], -1)
        masked = _activation(letters["mask_nonlinear"])(scores) * coded[:, None]
        frames = basis(masked.transpose(2, 3)).unflatten(-1, (self.audio_channels, length))
        stems = torch.zeros(len(wave), letters["C"], self.audio_channels, wave.shape[-1])
        for index in range(frames.shape[2]):
            stems[..., index * step : index * step + length] += frames[:, :, index]
        return stems


class _Chain(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x)
        return result


class _Residual(_Chain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


KAITUOXU_LETTERS: dict[str, Any] = {
    "N": 16,
    "L": 8,
    "B": 8,
    "H": 12,
    "P": 3,
    "X": 3,
    "R": 2,
    "C": 2,
    "norm_type": "gLN",
    "causal": False,
    "mask_nonlinear": "relu",
}
"""What kaituoxu's `serialize` writes of a small network."""


def randomise(net: nn.Module, seed: int = 0) -> None:
    """Give every parameter a random value, also those that start as constants."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            vector = parameter.squeeze().dim() <= 1
            parameter.copy_(parameter + 0.1 * noise if vector else 0.3 * noise)
