import dataclasses
from typing import Any

import pytest

from stemwright.models.conv_tasnet.configs import (
    ASTEROID,
    KAITUOXU,
    MUSIC,
    PAPER,
    PAPER_CAUSAL,
    TORCHAUDIO,
    ConvTasNetConfig,
    parameter_count,
    tensor_shapes,
)
from stemwright.models.conv_tasnet.network import ConvTasNet

COUNTS = {
    "paper": (PAPER, 5_050_545),
    "causal": (PAPER_CAUSAL, 5_050_545),
    "torchaudio": (TORCHAUDIO, 4_984_881),
    "torchaudio, 3 speakers": (dataclasses.replace(TORCHAUDIO, sources=3), 5_050_929),
    "asteroid": (ASTEROID, 5_050_545),
    "asteroid, 3 speakers": (dataclasses.replace(ASTEROID, sources=3), 5_116_593),
    "asteroid, L=32": (dataclasses.replace(ASTEROID, filter_length=32, sample_rate=16_000), 5_066_929),
    "asteroid, no skips": (dataclasses.replace(ASTEROID, skip=0), 3_474_609),
    "kaituoxu": (KAITUOXU, 8_710_720),
    "kaituoxu, sizes of the paper": (
        dataclasses.replace(KAITUOXU, filters=512, filter_length=16, bottleneck=128, repeats=3),
        3_445_808,
    ),
    "music": (MUSIC, 10_977_872),
    "music, X=8": (dataclasses.replace(MUSIC, blocks=8), 8_852_032),
}
"""From the specification, where they were measured on the implementations."""


@pytest.mark.parametrize(("config", "count"), COUNTS.values(), ids=COUNTS)
def test_parameters_are_those_of_the_implementations(config: ConvTasNetConfig, count: int) -> None:
    assert parameter_count(config) == count


@pytest.mark.parametrize("config", [PAPER, TORCHAUDIO, MUSIC])
def test_shapes_are_those_of_the_network(config: ConvTasNetConfig) -> None:
    state = ConvTasNet(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == tensor_shapes(config)


def test_receptive_field_is_the_papers() -> None:
    assert PAPER.receptive_frames == 1531
    assert (PAPER.receptive_frames - 1) * PAPER.hop + PAPER.filter_length == 12_256
    assert MUSIC.receptive_frames == 8185


def test_only_causal_networks_without_global_norms_can_be_streamed() -> None:
    assert PAPER_CAUSAL.streamable
    assert not PAPER.streamable
    assert not dataclasses.replace(PAPER_CAUSAL, input_norm="global").streamable
    assert not dataclasses.replace(PAPER_CAUSAL, causal=False).streamable


@pytest.mark.parametrize(
    "changes",
    [{"filter_length": 15}, {"kernel": 2}, {"hidden": 0}, {"skip": 0, "last_residual": False}, {"skip": -1}],
)
def test_numbers_that_make_no_network_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|middle|residual"):
        dataclasses.replace(PAPER, **changes)
