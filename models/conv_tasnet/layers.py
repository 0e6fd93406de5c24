"""Conv-TasNet's convolutions as a GPU computes them fast; the same values as torch's own.

Training is bound by memory: on an H100 torch's depthwise convolution in bfloat16 took most of a step.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def pointwise(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a convolution of one tap to shape=(B, N, F), as products of matrices."""
    weight = layer.weight.squeeze(2).expand(len(x), -1, -1)
    made = torch.bmm(weight, x)
    return made if layer.bias is None else made + layer.bias.to(made.dtype)[:, None]


def depthwise(layer: nn.Conv1d, x: Tensor, before: int) -> Tensor:
    """Apply a dilated depthwise convolution as a sum of shifted copies.

    Parameters
    ----------
    layer
        Without padding of its own; one filter a channel.
    x
        shape=(B, N, F).
    before
        Zeros before the first frame; as many more follow the last one as keep F.
    """
    bias = torch.zeros_like(layer.weight[:, 0, 0]) if layer.bias is None else layer.bias
    shifts = [tap * layer.dilation[0] - before for tap in range(layer.kernel_size[0])]
    weight = layer.weight.squeeze(1).to(x.dtype)
    made: Tensor = _ShiftedSum.apply(x, weight, bias.to(x.dtype), shifts)  # type: ignore[no-untyped-call]
    return made


class _ShiftedSum(Function):
    """y[n, t] = bias[n] + sum over taps k of weight[n, k] x[n, t + shift[k]], zero outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shifts: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shifts = shifts
        made = bias[:, None].expand_as(x).contiguous()
        for tap, shift in enumerate(shifts):
            _add_shifted(made, x, weight[:, tap], shift)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        of_x = torch.zeros_like(x)
        of_weight = torch.zeros_like(weight)
        for tap, shift in enumerate(ctx.shifts):
            _add_shifted(of_x, gradient, weight[:, tap], -shift)
            there, here = _overlap(gradient, x, shift)
            of_weight[:, tap] = (there * here).sum((0, 2))
        return of_x, of_weight, gradient.sum((0, 2)), None


def _add_shifted(made: Tensor, x: Tensor, factor: Tensor, shift: int) -> None:
    there, here = _overlap(made, x, shift)
    there.addcmul_(here, factor[:, None])


def _overlap(one: Tensor, other: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Frames t of one, and t + shift of the other, where both are."""
    frames = one.shape[2]
    if shift < 0:
        return one[..., min(-shift, frames) :], other[..., : max(0, frames + shift)]
    return one[..., : max(0, frames - shift)], other[..., min(shift, frames) :]
