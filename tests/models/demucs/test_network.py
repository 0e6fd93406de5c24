"""Our networks against the package demucs with the same weights."""

from typing import Any

import pytest
import torch
from demucs.hdemucs import HDemucs as ReferenceHDemucs
from demucs.htdemucs import HTDemucs as ReferenceHTDemucs

from stemwright.models.demucs.architectures import ARCHITECTURES, SIX_STEMS
from stemwright.models.demucs.configs import HDemucsConfig, HTDemucsConfig, NetworkConfig
from stemwright.models.demucs.network import build_network, spectrum_of, waveform_of
from tests.support.demucs_files import RELEASED_HTDEMUCS, STEMS, randomise, small_hdemucs, small_htdemucs

SMALL = HTDemucsConfig(channels=8, bottom_channels=16, heads=2, transformer_layers=3)
TOLERANCE = 1e-5  # of outputs with a standard deviation near 1


def largest_difference(reference: Any, config: NetworkConfig, samples: int, batch: int = 2) -> float:
    """Largest difference on noise, relative to the standard deviation of the reference's output."""
    reference.use_train_segment = False
    network = build_network(config).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    mixture = torch.randn(batch, 2, samples, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.05
    with torch.no_grad():
        expected = reference(mixture)
        found = network(mixture)
    return float((found - expected).abs().max() / expected.std())


@pytest.mark.parametrize("samples", [10_240, 12_345])
def test_htdemucs(samples: int) -> None:
    assert largest_difference(small_htdemucs(), SMALL, samples) < TOLERANCE


@pytest.mark.parametrize(
    ("given", "config"),
    [
        (
            {"bottom_channels": 0},
            HTDemucsConfig(channels=8, bottom_channels=0, heads=2, transformer_layers=3),
        ),
        (
            {"dconv_mode": 1},
            HTDemucsConfig(
                channels=8, bottom_channels=16, heads=2, transformer_layers=3, decoder_branch=False
            ),
        ),
        (
            {"t_heads": 4, "t_layers": 5, "t_hidden_scale": 2.0, "dconv_comp": 4},
            HTDemucsConfig(
                channels=8, bottom_channels=16, heads=4, transformer_layers=5, hidden_scale=2, compression=4
            ),
        ),
    ],
)
def test_htdemucs_variants(given: dict[str, Any], config: HTDemucsConfig) -> None:
    assert largest_difference(small_htdemucs(**given), config, 10_000) < TOLERANCE


# 204,800 samples are 200 steps in layer 4, which are one window of the LSTM; 205,000 are 201.
@pytest.mark.parametrize("samples", [10_001, 204_800, 205_000])
def test_hdemucs(samples: int) -> None:
    assert largest_difference(small_hdemucs(), HDemucsConfig(channels=4), samples) < TOLERANCE


def test_hdemucs_with_decoder_branch() -> None:
    config = HDemucsConfig(channels=8, decoder_branch=True, compression=2)
    assert (
        largest_difference(small_hdemucs(channels=8, dconv_mode=3, dconv_comp=2), config, 10_000) < TOLERANCE
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda architecture: architecture.name)
def test_parameter_counts(architecture: Any) -> None:
    with torch.device("meta"):
        network = build_network(architecture.config)
    assert sum(parameter.numel() for parameter in network.parameters()) == architecture.parameters


def test_state_dict_of_the_released_networks_is_the_reference_one() -> None:
    with torch.device("meta"):
        pairs = [
            (build_network(HTDemucsConfig()), ReferenceHTDemucs(STEMS, **RELEASED_HTDEMUCS)),
            (
                build_network(HTDemucsConfig(sources=SIX_STEMS, bottom_channels=0)),
                ReferenceHTDemucs(list(SIX_STEMS), dconv_mode=3),
            ),
            (build_network(HDemucsConfig()), ReferenceHDemucs(STEMS)),
        ]
    for ours, reference in pairs:
        shapes = {name: value.shape for name, value in ours.state_dict().items()}
        assert shapes == {name: value.shape for name, value in reference.state_dict().items()}


@pytest.mark.parametrize("samples", [20_000, 20_480, 30_001])
def test_transforms_are_the_reference_ones(samples: int) -> None:
    reference: Any = small_htdemucs()
    mixture = torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(0))
    spectrum = reference._magnitude(reference._spec(mixture))
    assert torch.equal(spectrum_of(mixture), spectrum)
    stacked = torch.stack([spectrum, 2 * spectrum], dim=1)
    expected = reference._ispec(reference._mask(None, stacked), samples)
    assert torch.equal(waveform_of(stacked, samples), expected)


def test_batch_items_do_not_touch_each_other() -> None:
    network = randomise(build_network(SMALL))
    mixture = (
        torch.randn(3, 2, 8_000, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 0.1, 4.0])[:, None, None]
    )
    with torch.no_grad():
        together = network(mixture)
        alone = torch.cat([network(mixture[index : index + 1]) for index in range(3)])
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    for network in (build_network(SMALL), build_network(HDemucsConfig(channels=4))):
        network(torch.randn(1, 2, 6_000)).square().mean().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.slow
def test_released_htdemucs_at_its_segment_length() -> None:
    reference = randomise(ReferenceHTDemucs(STEMS, **RELEASED_HTDEMUCS), scale=0.03)
    assert largest_difference(reference, HTDemucsConfig(), 343_980, batch=1) < 1e-4


@pytest.mark.slow
def test_released_htdemucs_6s() -> None:
    reference = randomise(ReferenceHTDemucs(list(SIX_STEMS), dconv_mode=3), scale=0.03)
    config = HTDemucsConfig(sources=SIX_STEMS, bottom_channels=0)
    assert largest_difference(reference, config, 60_000, batch=1) < 1e-4


@pytest.mark.slow
def test_released_hdemucs() -> None:
    reference = randomise(ReferenceHDemucs(STEMS), scale=0.03)
    assert largest_difference(reference, HDemucsConfig(), 230_000, batch=1) < 1e-4
