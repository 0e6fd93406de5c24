"""Our waveform networks against the package demucs (v3) and a transcription of the paper (v1, v2)."""

import math
from typing import Any

import pytest
import torch
from demucs.demucs import Demucs as ReferenceDemucs
from julius.resample import resample_frac

from stemwright.models.demucs.configs import PaperDemucsConfig, TimeDemucsConfig
from stemwright.models.demucs.network import build_network
from stemwright.models.demucs.waveform.layers import Resample
from stemwright.models.demucs.waveform.lengths import valid_length
from tests.models.demucs.waveform.transcription import Transcription
from tests.support.demucs_files import STEMS, randomise

TOLERANCE = 1e-5


@pytest.mark.parametrize("resample", [True, False])
def test_paper(resample: bool) -> None:
    config = PaperDemucsConfig(channels=4, resample=resample)
    network = build_network(config)
    randomise(network, scale=0.1)
    state = dict(network.state_dict())
    samples = valid_length(config, 20_000)
    mixture = torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(1)) * 0.3
    with torch.no_grad():
        expected, found = Transcription(state, resample=resample)(mixture), network(mixture)
    assert expected.shape[-1] >= 20_000
    assert float((found - expected).abs().max() / expected.std()) < TOLERANCE


@pytest.mark.parametrize(
    ("given", "config", "samples"),
    [
        ({}, TimeDemucsConfig(channels=4), 44_101),
        ({"normalize": False}, TimeDemucsConfig(channels=4, normalise=False), 30_000),
        ({"resample": False}, TimeDemucsConfig(channels=4, resample=False), 30_000),
        (
            {"dconv_mode": 3, "dconv_comp": 2},
            TimeDemucsConfig(channels=4, decoder_branch=True, compression=2),
            30_000,
        ),
        # more than one window of the LSTM in layer 4: 200 steps are 102,400 samples
        ({"channels": 4}, TimeDemucsConfig(channels=4), 120_000),
    ],
)
def test_version_3(given: dict[str, Any], config: TimeDemucsConfig, samples: int) -> None:
    reference = randomise(ReferenceDemucs(STEMS, **{"channels": 4, **given}), scale=0.1)
    network = build_network(config).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    mixture = torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.05
    with torch.no_grad():
        expected, found = reference(mixture), network(mixture)
    assert float((found - expected).abs().max() / expected.std()) < TOLERANCE


def test_lengths_of_the_paper() -> None:
    config = PaperDemucsConfig()
    assert [valid_length(config, samples) for samples in (441_000, 44_100, 343_980)] == [
        447_146,
        49_834,
        350_890,
    ]
    sizes = []
    length = 2 * 447_146
    for _ in range(6):
        length = (length - 8) // 4 + 1
        sizes.append(length)
    assert sizes == [223_572, 55_892, 13_972, 3_492, 872, 217]
    for _ in range(6):
        length = (length - 2 - 1) * 4 + 8
    assert math.floor(length / 2) == 441_686


@pytest.mark.parametrize("samples", [1, 999, 100_000])
@pytest.mark.parametrize(
    "config", [PaperDemucsConfig(), PaperDemucsConfig(resample=False), TimeDemucsConfig()]
)
def test_a_valid_length_is_its_own(config: Any, samples: int) -> None:
    valid = valid_length(config, samples)
    assert valid >= samples
    assert valid_length(TimeDemucsConfig(resample=config.resample), valid) >= valid
    if isinstance(config, TimeDemucsConfig):
        assert valid == ReferenceDemucs.valid_length(ReferenceDemucs(STEMS, channels=4), samples)
        assert valid_length(config, valid) == valid


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("samples", [7, 1000, 1001])
def test_resampling_is_that_of_julius(old: int, new: int, samples: int) -> None:
    x = torch.randn(2, 3, samples, generator=torch.Generator().manual_seed(0))
    expected = resample_frac(x, old, new)
    found = Resample(old, new)(x)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 2e-6


def test_initial_weights_are_rescaled() -> None:
    """Deviation of each convolution's weights: the root of a tenth of the default's (not a tenth)."""
    torch.manual_seed(0)
    layer: Any = build_network(PaperDemucsConfig(channels=8)).encoder[5]
    plain = 1 / math.sqrt(3 * 128 * 8)  # uniform within 1 / sqrt(fan in)
    assert float(layer[0].weight.detach().std()) == pytest.approx(math.sqrt(plain * 0.1), rel=0.02)
