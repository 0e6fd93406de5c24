"""The convolutions against torch's own, values and gradients."""

import pytest
import torch
from torch import nn

from stemwright.models.conv_tasnet.layers import depthwise, pointwise


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (3, 8), (3, 64), (5, 4), (1, 1)])
def test_depthwise_is_torchs(*, biases: bool, causal: bool, kernel: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv1d(5, 5, kernel, dilation=dilation, groups=5, bias=biases).double()
    x = torch.randn(2, 5, 40, dtype=torch.double, requires_grad=True)
    reach = (kernel - 1) * dilation
    before = reach if causal else reach // 2
    made = depthwise(layer, x, before)
    expected = layer(nn.functional.pad(x, (before, reach - before)))
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)
    of = [x, *layer.parameters()]
    weights = torch.randn_like(made)
    found, wanted = (torch.autograd.grad(y, of, weights) for y in (made, expected))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("biases", [True, False])
def test_pointwise_is_torchs(*, biases: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv1d(5, 7, 1, bias=biases).double()
    x = torch.randn(2, 5, 40, dtype=torch.double)
    torch.testing.assert_close(pointwise(layer, x), layer(x), rtol=0, atol=1e-12)
