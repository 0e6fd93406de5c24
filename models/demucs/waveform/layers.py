"""Resampling inside the waveform networks, in torch.

A windowed sinc with 24 zero crossings on each side and its band limit at 0.945 of the lower Nyquist
frequency, as in the package julius 0.2 (`resample_frac` with its defaults), which the reference uses.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

ZERO_CROSSINGS = 24
ROLLOFF = 0.945


def sinc_kernels(old: int, new: int) -> tuple[Tensor, int]:
    """Return the filters that change a rate by new / old.

    Parameters
    ----------
    old, new
        Rates without a common divisor.

    Returns
    -------
    tuple
        Filters [new, 1, K], one for each phase of the output, and their reach to the left in samples.
    """
    cutoff = min(old, new) * ROLLOFF
    width = math.ceil(ZERO_CROSSINGS * old / cutoff)
    place = torch.arange(-width, width + old, dtype=torch.float32) / old
    phase = torch.arange(new, dtype=torch.float32) / new
    t = ((place - phase[:, None]) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    kernels = torch.sinc(t) * torch.cos(t * (math.pi / 2 / ZERO_CROSSINGS)).square()
    return (kernels / kernels.sum(dim=1, keepdim=True))[:, None], width


class Resample(nn.Module):
    """Changes the rate of a signal by new / old, one of which is 1."""

    kernels: Tensor

    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        kernels, self.width = sinc_kernels(old, new)
        self.old, self.new = old, new
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, C, T] in, [B, C, T new / old] out; the signal's ends are held."""
        channels, length = int(x.shape[1]), int(x.shape[2])
        rows = x.reshape(-1, 1, length)
        padded = functional.pad(rows, (self.width, self.width + self.old), mode="replicate")
        phases = functional.conv1d(padded, self.kernels, stride=self.old)
        joined = phases.transpose(1, 2).reshape(-1, channels, self.new * int(phases.shape[2]))
        return joined[..., : length * self.new // self.old]


def trim_centre(x: Tensor, length: int) -> Tensor:
    """Cut the last axis to `length`, as much from the left as from the right, or one more from the right."""
    left = (int(x.shape[-1]) - length) // 2
    return x[..., left : left + length]
