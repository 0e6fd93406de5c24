"""ResUNet30 against a transcription of its specification."""

import re

import numpy as np
import pytest
import torch

from stemwright.core.transforms import Transform
from stemwright.models.universal.architectures import PARAMETERS
from stemwright.models.universal.configs import FRAMES, SEGMENT_SAMPLES, ResUNetConfig
from stemwright.models.universal.folding import serving_tensors
from stemwright.models.universal.network import MaskNetwork, ResUNet30, serving_form
from tests.models.universal.transcription import random_state, separate

SMALL = ResUNetConfig(condition_size=7, channels=(3, 4, 4, 5, 6, 6))


def network(config: ResUNetConfig = SMALL, seed: int = 0) -> ResUNet30:
    net = ResUNet30(config).eval()
    found = net.load_state_dict(random_state(config.condition_size, config.channels, seed), strict=False)
    assert not found.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in found.missing_keys)
    return net


def signal(batch: int, samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def conditions(batch: int, size: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", PARAMETERS)
def test_parameters_are_the_papers(size: int) -> None:
    with torch.device("meta"):
        net = ResUNet30(ResUNetConfig(condition_size=size))
        served = serving_form(ResUNetConfig(condition_size=size))
    counts = {name: parameter.numel() for name, parameter in net.named_parameters()}
    assert sum(counts.values()) == PARAMETERS[size]
    # the decoders' own second norms, and their layers of the condition
    unused = [
        name for name in counts if re.match(r"base\.decoder_block.\.bn2|film\.decoder_block.->beta2", name)
    ]
    assert len(unused) == 24
    used = sum(counts.values()) - sum(counts[name] for name in unused)
    assert used == {527: 25_747_781, 521: 25_698_245, 1024: 29_851_013}.get(size, used)
    # Each norm that is used has two trainable numbers a channel. The first ones of blocks keep one, the
    # second ones, whose scale joins a convolution, none, and that of the input both.
    firsts = sum(count for norm, count in served.config.offsets if norm.endswith("bn1"))
    seconds = sum(count for norm, count in served.config.offsets if norm.endswith("bn2"))
    assert sum(parameter.numel() for parameter in served.parameters()) == used - firsts - 2 * seconds


def test_parameters_by_block() -> None:
    with torch.device("meta"):
        net = ResUNet30()
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in net.base.named_children()}
    assert counts == {
        "bn0": 2_050,
        "pre_conv": 64,
        "encoder_block1": 18_560,
        "encoder_block2": 57_600,
        "encoder_block3": 229_888,
        "encoder_block4": 918_528,
        "encoder_block5": 2_311_808,
        "encoder_block6": 2_655_744,
        "conv_block7a": 2_655_744,
        "decoder_block1": 4_575_360,
        "decoder_block2": 4_870_272,
        "decoder_block3": 2_297_088,
        "decoder_block4": 608_128,
        "decoder_block5": 152_512,
        "decoder_block6": 38_368,
        "after_conv": 99,
    }


def test_initial_values() -> None:
    net = ResUNet30(SMALL)
    state = net.state_dict()
    assert not state["film.decoder_block1->beta1.bias"].any()
    assert not state["base.after_conv.bias"].any()
    assert (state["base.bn0.weight"] == 1).all() and not state["base.bn0.bias"].any()
    weight = state["film.encoder_block6->conv_block1->beta2.weight"]
    bound = np.sqrt(6 / sum(weight.shape))
    assert 0.8 * bound < float(weight.abs().max()) <= bound


@pytest.mark.parametrize("samples", [1025, 10_000, 12_345])
def test_as_the_transcription_has_it(samples: int) -> None:
    net, mixture, condition = network(), signal(2, samples), conditions(2)
    expected = separate(random_state(7, SMALL.channels, 0), SMALL.channels, mixture[:, 0], condition)
    with torch.no_grad():
        found = net(mixture, condition)[:, 0]
    assert found.shape == (2, samples)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.slow
def test_the_papers_network_as_the_transcription_has_it() -> None:
    config = ResUNetConfig()
    net, mixture, condition = network(config), signal(1, 10_000), conditions(1, 527)
    expected = separate(random_state(527, config.channels, 0), config.channels, mixture[:, 0], condition)
    with torch.no_grad():
        found = net(mixture, condition)[:, 0]
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_silence_gives_exact_silence() -> None:
    with torch.no_grad():
        assert not network()(torch.zeros(1, 1, 8000), conditions(1)).any()


def test_the_condition_matters() -> None:
    net, mixture = network(), signal(1, 8000)
    with torch.no_grad():
        none, some = net(mixture, torch.zeros(1, 7)), net(mixture, conditions(1))
    assert float((none - some).abs().max()) > 0.01 * float(some.abs().max())


def test_nothing_is_amplified() -> None:
    with torch.no_grad():
        mask = network().mask(torch.rand(1, 1, 40, 1025) + 1e-5, conditions(1))
    assert float(mask.square().sum(dim=-1).max()) <= 1 + 1e-6
    assert not mask[..., -1, :].any()


def test_gradients_reach_what_is_used() -> None:
    net = ResUNet30(SMALL)
    net(signal(2, 8000), conditions(2)).square().mean().backward()
    without = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    assert len(without) == 24
    assert all(
        parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None
    )


def test_the_serving_form_is_the_network_at_rest() -> None:
    net, condition = network(), conditions(2)
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    served = serving_form(SMALL)
    folded = serving_tensors(state, SMALL)
    served.load_state_dict({name: torch.from_numpy(value) for name, value in folded.items()}, strict=True)
    mixture = signal(2, SEGMENT_SAMPLES)
    transform = Transform(n_fft=2048, hop=320)
    spectrum = transform.forward(mixture.numpy())
    assert spectrum.shape[-1] == FRAMES
    with torch.no_grad():
        mask = MaskNetwork(served)(torch.from_numpy(np.abs(spectrum)), condition).numpy()
        expected = net(mixture, condition).numpy()
    assert mask.shape == (2, 1, 1, 1025, FRAMES, 2)
    product = spectrum * (mask[:, 0, ..., 0] + 1j * mask[:, 0, ..., 1])
    found = transform.inverse(product.astype(np.complex64), SEGMENT_SAMPLES)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_training_can_begin_with_the_phase_of_the_mixture() -> None:
    torch.manual_seed(0)
    net = ResUNet30(ResUNetConfig(condition_size=5, channels=(4, 4, 8, 8, 8, 8), upright=True))
    with torch.no_grad():
        mask = net.mask(torch.rand(1, 1, 33, 1025), torch.rand(1, 5))[..., :-1, :]
    angles = torch.atan2(mask[..., 1], mask[..., 0])
    assert float(angles.abs().max()) < 1e-6
    net.mask(torch.rand(1, 1, 33, 1025), torch.rand(1, 5))[..., 1].sum().backward()  # type: ignore[no-untyped-call]
    gradient = net.base.after_conv.weight.grad
    assert gradient is not None and float(gradient[2].abs().max()) > 0
