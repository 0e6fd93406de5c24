"""ResUNet30 as the specification has it, on a plain state dict, in float64.

Written apart from the network: the mask in its form with cosine and sine, norms by their formula, the
transforms in numpy.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from numpy.typing import NDArray
from torch import Tensor

State = Mapping[str, Tensor]
Array = NDArray[Any]
_DOWN = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (1, 2))


def random_state(condition_size: int, channels: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """A state dict by the specification's names and shapes; running variances are positive."""
    source = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, count: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"base.{name}.{part}"] = (count,)

    def offset(name: str, count: int) -> None:
        shapes[f"film.{name}.weight"] = (count, condition_size)
        shapes[f"film.{name}.bias"] = (count,)

    def block(name: str, before: int, after: int) -> None:
        norm(f"{name}.bn1", before)
        norm(f"{name}.bn2", after)
        shapes[f"base.{name}.conv1.weight"] = (after, before, 3, 3)
        shapes[f"base.{name}.conv2.weight"] = (after, after, 3, 3)
        if before != after:
            shapes[f"base.{name}.shortcut.weight"] = (after, before, 1, 1)
            shapes[f"base.{name}.shortcut.bias"] = (after,)
        offset(f"{name.replace('.', '->')}->beta1", before)
        offset(f"{name.replace('.', '->')}->beta2", after)

    norm("bn0", 1025)
    shapes["base.pre_conv.weight"], shapes["base.pre_conv.bias"] = (channels[0], 1, 1, 1), (channels[0],)
    before = channels[0]
    for index, after in enumerate(channels):
        block(f"encoder_block{index + 1}.conv_block1", before, after)
        before = after
    block("conv_block7a.conv_block1", before, before)
    for index, after in enumerate(reversed(channels)):
        name = f"decoder_block{index + 1}"
        norm(f"{name}.bn1", before)
        norm(f"{name}.bn2", before)
        offset(f"{name}->beta1", before)
        offset(f"{name}->beta2", before)
        shapes[f"base.{name}.conv1.weight"] = (before, after, *_DOWN[-1 - index])
        block(f"{name}.conv_block2", 2 * after, after)
        before = after
    shapes["base.after_conv.weight"], shapes["base.after_conv.bias"] = (3, before, 1, 1), (3,)
    return {name: torch.from_numpy(_values(source, name, shape)) for name, shape in shapes.items()}


def _values(source: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        values = source.uniform(0.5, 1.5, shape)
    else:
        values = source.standard_normal(shape) / math.sqrt(max(1, math.prod(shape[1:])))
        values *= 0.1 if len(shape) == 1 else 1.0
    return values.astype(np.float32)


def separate(state: State, channels: tuple[int, ...], mixture: Tensor, condition: Tensor) -> Tensor:
    """Separate mixtures [B, samples] by conditions [B, D]."""
    wide = {name: value.double() for name, value in state.items()}
    spectrum = np.stack([_spectrum(row) for row in mixture.double().numpy()])  # [B, T, F]
    power = np.maximum(spectrum.real**2 + spectrum.imag**2, 1e-10)
    magnitude = np.sqrt(power)
    scale, real, imag = _unet(wide, channels, torch.from_numpy(magnitude), condition.double())
    size = 1 / (1 + np.exp(-scale))
    turn_real, turn_imag = np.tanh(real), np.tanh(imag)
    length = np.maximum(np.hypot(turn_real, turn_imag), 1e-10)
    cos, sin = turn_real / length, turn_imag / length
    cos_in, sin_in = spectrum.real / magnitude, spectrum.imag / magnitude
    out = size * magnitude * ((cos_in * cos - sin_in * sin) + 1j * (sin_in * cos + cos_in * sin))
    return torch.from_numpy(np.stack([_waveform(row, mixture.shape[1]) for row in out]))


def _unet(
    state: State, channels: tuple[int, ...], magnitude: Tensor, condition: Tensor
) -> tuple[Array, Array, Array]:
    frames = magnitude.shape[1]

    def norm(name: str, values: Tensor, axis: int) -> Tensor:
        shape = [1] * values.ndim
        shape[axis] = -1
        mean, variance, weight, bias = (
            state[f"base.{name}.{part}"].reshape(shape)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (values - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def active(name: str, which: int, values: Tensor) -> Tensor:
        layer = f"film.{name.replace('.', '->')}->beta{which}"
        offset = condition @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
        raised = norm(f"{name}.bn{which}", values, 1) + offset[:, :, None, None]
        return torch.where(raised > 0, raised, 0.01 * raised)

    def block(name: str, values: Tensor) -> Tensor:
        inner = F.conv2d(active(name, 1, values), state[f"base.{name}.conv1.weight"], padding=1)
        inner = F.conv2d(active(name, 2, inner), state[f"base.{name}.conv2.weight"], padding=1)
        if f"base.{name}.shortcut.weight" in state:
            weight, bias = state[f"base.{name}.shortcut.weight"], state[f"base.{name}.shortcut.bias"]
            values = F.conv2d(values, weight, bias)
        return values + inner

    values = norm("bn0", magnitude, 2)[:, None]
    padded = torch.zeros(len(values), 1, -(-frames // 32) * 32, 1024, dtype=torch.float64)
    padded[:, :, :frames] = values[..., :1024]
    values = F.conv2d(padded, state["base.pre_conv.weight"], state["base.pre_conv.bias"])
    skips = []
    for index in range(len(channels)):
        skips.append(block(f"encoder_block{index + 1}.conv_block1", values))
        values = F.avg_pool2d(skips[-1], _DOWN[index])
    values = block("conv_block7a.conv_block1", values)
    for index in range(len(channels)):
        name = f"decoder_block{index + 1}"
        raised = F.conv_transpose2d(
            active(name, 1, values), state[f"base.{name}.conv1.weight"], stride=_DOWN[-1 - index]
        )
        values = block(f"{name}.conv_block2", torch.cat([raised, skips.pop()], dim=1))
    values = F.conv2d(values, state["base.after_conv.weight"], state["base.after_conv.bias"])
    whole = np.zeros((len(values), 3, frames, 1025))
    whole[..., :1024] = values[:, :, :frames].numpy()
    return whole[:, 0], whole[:, 1], whole[:, 2]


def _window() -> Array:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)


def _spectrum(row: Array) -> Array:
    padded = np.pad(row, 1024, mode="reflect")
    starts = range(0, len(padded) - 2047, 320)
    return np.stack([np.fft.rfft(padded[start : start + 2048] * _window()) for start in starts])


def _waveform(frames: Array, samples: int) -> Array:
    total = np.zeros(320 * (len(frames) - 1) + 2048)
    weight = np.zeros_like(total)
    for index, frame in enumerate(frames):
        span = slice(320 * index, 320 * index + 2048)
        total[span] += np.fft.irfft(frame) * _window()
        weight[span] += _window() ** 2
    made = np.zeros(samples)
    inside = (total / np.where(weight > 1e-11, weight, 1))[1024 : 1024 + samples]
    made[: len(inside)] = inside
    return made
