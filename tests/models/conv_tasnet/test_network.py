import dataclasses

import numpy as np
import pytest
import torch

from stemwright.models.conv_tasnet.configs import (
    ASTEROID,
    MUSIC,
    PAPER,
    PAPER_CAUSAL,
    TORCHAUDIO,
    ConvTasNetConfig,
    NormKind,
)
from stemwright.models.conv_tasnet.naming import renamed_tensors
from stemwright.models.conv_tasnet.network import ConvTasNet, Norm
from stemwright.models.conv_tasnet.origins import Variant
from tests.support.conv_tasnet import random_tensors, small
from tests.support.conv_tasnet_oracles import randomise, torchaudio_module

NORMS: dict[NormKind, list[list[float]]] = {
    "global": [[-1.1078, -0.7385, -0.3693], [-0.3693, 0.7385, 1.8464]],
    "cumulative": [[-1, -0.5345, -0.3693], [1, 1.6036, 1.8464]],
    "channel": [[-1, -1, -1], [1, 1, 1]],
}
"""From the specification, for [[1, 2, 3], [3, 6, 9]]."""


def network_of(config: ConvTasNetConfig, seed: int = 0) -> ConvTasNet:
    net = ConvTasNet(config).eval()
    net.load_state_dict({name: torch.from_numpy(v) for name, v in random_tensors(config, seed).items()})
    return net


def noise(channels: int, samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, channels, samples), generator=generator) * 0.1


@pytest.mark.parametrize("kind", NORMS)
def test_norms_give_the_stated_values(kind: NormKind) -> None:
    found = Norm(2, kind)(torch.tensor([[[1.0, 2, 3], [3, 6, 9]]]))[0]
    np.testing.assert_allclose(found.detach(), NORMS[kind], atol=1e-4)


def test_global_norm_is_group_norm() -> None:
    x = torch.randn((3, 24, 50), generator=torch.Generator().manual_seed(0))
    expected = torch.nn.GroupNorm(1, 24, eps=1e-8)(x)
    torch.testing.assert_close(Norm(24, "global")(x), expected, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("samples", [400, 403])
@pytest.mark.parametrize("mask", ["relu", "sigmoid"])
def test_gives_what_torchaudio_gives(samples: int, mask: str) -> None:
    theirs = torchaudio_module().ConvTasNet(
        num_sources=3,
        enc_kernel_size=8,
        enc_num_feats=16,
        msk_num_feats=8,
        msk_num_hidden_feats=12,
        msk_num_layers=3,
        msk_num_stacks=2,
        msk_activate=mask,
    )
    randomise(theirs)
    config = small(TORCHAUDIO, filter_length=8, skip=8, sources=3, mask=mask)
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    ours = ConvTasNet(config).eval()
    renamed = renamed_tensors(Variant(naming="torchaudio", config=config), state)
    ours.load_state_dict({name: torch.from_numpy(value) for name, value in renamed.items()})
    x = noise(1, samples)
    expected = theirs.eval()(x)
    found = ours(x)[:, :, 0]
    assert found.shape == expected.shape == (1, 3, samples)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
def test_the_causal_network_looks_one_frame_ahead_at_most() -> None:
    net = network_of(small(PAPER_CAUSAL))
    x = noise(1, 1200)
    changed = x.clone()
    changed[..., 800:] += noise(1, 400, seed=1)
    differs = (net(changed) - net(x)).abs().amax((0, 1, 2)) > 0
    assert int(differs.nonzero()[0]) == 792
    whole = network_of(small(PAPER))
    assert bool(((whole(changed) - whole(x)).abs().amax((0, 1, 2)) > 0)[0])


@torch.no_grad()
@pytest.mark.parametrize("config", [PAPER, PAPER_CAUSAL, ASTEROID])
def test_scales_with_its_input(config: ConvTasNetConfig) -> None:
    net = network_of(small(config))
    x = noise(1, 1200)
    full, half = net(x), net(x * 0.5)
    torch.testing.assert_close(half, full * 0.5, rtol=0, atol=1e-5 * float(full.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("config", [PAPER, PAPER_CAUSAL, ASTEROID, MUSIC])
@pytest.mark.parametrize("samples", [20, 21, 1000, 1003])
def test_stems_are_as_long_as_the_mixture(config: ConvTasNetConfig, samples: int) -> None:
    config = small(config)
    stems = network_of(config)(noise(config.audio_channels, samples))
    assert stems.shape == (1, config.sources, config.audio_channels, samples)
    assert bool(stems.isfinite().all())


@torch.no_grad()
def test_items_of_a_batch_do_not_hear_each_other() -> None:
    net = network_of(small(PAPER))
    one, other = noise(1, 400), noise(1, 400, seed=1) * 9
    torch.testing.assert_close(net(torch.cat([one, other]))[:1], net(one), rtol=0, atol=1e-6)


def test_masks_of_softmax_add_up_over_the_sources() -> None:
    config = dataclasses.replace(small(ASTEROID), mask="softmax", sources=3)
    coded = torch.randn((1, 16, 30), generator=torch.Generator().manual_seed(0))
    masks = network_of(config).masks(coded)
    torch.testing.assert_close(masks.sum(1), torch.ones(1, 16, 30))
