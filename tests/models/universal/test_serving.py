"""ResUNet30 in the engine: queries, hard cuts as in the paper, and the cross-fade."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from stemwright.core.arrays import FloatArray
from stemwright.models.manifest import Licence, Manifest, WeightsOrigin
from stemwright.models.separation.members import Member
from stemwright.models.separation.queries import StemQuery
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.models.universal.architectures import PLAN
from stemwright.models.universal.building import make_manifest
from stemwright.models.universal.configs import SEGMENT_SAMPLES, ResUNetConfig
from stemwright.models.universal.network import MaskNetwork
from tests.models.contract import assert_keeps_contract
from tests.models.universal.test_network import network
from tests.models.universal.transcription import random_state, separate
from tests.support.fake_sessions import noise, separate_array
from tests.support.torch_session import TorchSession

TINY = ResUNetConfig(condition_size=521, channels=(2, 2, 2, 3, 3, 3))
RATE = 32_000


@dataclass(frozen=True)
class Always:
    """A query whose condition is the same everywhere."""

    values: FloatArray

    def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray:
        assert (window.shape, sample_rate) == ((1, SEGMENT_SAMPLES), RATE)
        return self.values


def tiny_manifest() -> Manifest:
    return make_manifest(TINY, name="tiny", licence=Licence(name="x", text=""), origin=WeightsOrigin())


def tiny_session(manifest: Manifest) -> TorchSession:
    return TorchSession(module=MaskNetwork(network(TINY)).eval(), graph=manifest.graph)


def separated(samples: FloatArray, values: FloatArray, *, overlap: float | None) -> FloatArray:
    manifest = tiny_manifest()
    member = Member(name="tiny", manifest=manifest, gains={}, opener=lambda: tiny_session(manifest))
    options = SeparationOptions(queries=(StemQuery(name="dog", source=Always(values)),), overlap=overlap)
    with Separator([member], ()) as separator:
        return separate_array(separator, samples, RATE, options)["dog"]


def test_hard_cuts_are_the_papers_segments_end_to_end() -> None:
    values = np.random.default_rng(0).random(521, np.float32)
    mixture = noise(1, SEGMENT_SAMPLES + 9000)
    padded = np.zeros((2, SEGMENT_SAMPLES), np.float32)
    padded.reshape(-1)[: mixture.shape[1]] = mixture[0]
    condition = torch.from_numpy(values).expand(2, -1)
    state = random_state(521, TINY.channels, 0)
    expected = separate(state, TINY.channels, torch.from_numpy(padded), condition).numpy().reshape(-1)
    found = separated(mixture, values, overlap=0.0)
    assert found.shape == mixture.shape
    assert np.abs(found[0] - expected[: mixture.shape[1]]).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_segments_are_cross_faded_unless_told_otherwise() -> None:
    values = np.random.default_rng(0).random(521, np.float32)
    mixture = noise(1, SEGMENT_SAMPLES + 20_000)
    stride = SEGMENT_SAMPLES - int(PLAN.overlap * SEGMENT_SAMPLES)
    windows = np.zeros((2, SEGMENT_SAMPLES), np.float32)
    windows[0] = mixture[0, :SEGMENT_SAMPLES]
    windows[1, : mixture.shape[1] - stride] = mixture[0, stride:]
    condition = torch.from_numpy(values).expand(2, -1)
    first, second = separate(
        random_state(521, TINY.channels, 0), TINY.channels, torch.from_numpy(windows), condition
    ).numpy()
    weight = np.sin(np.pi * (np.arange(SEGMENT_SAMPLES) + 0.5) / SEGMENT_SAMPLES) ** 2
    shared = SEGMENT_SAMPLES - stride
    fade = weight[:shared] / (weight[:shared] + weight[stride:])
    middle = first[stride:] * (1 - fade) + second[:shared] * fade
    rest = second[shared : mixture.shape[1] - stride]
    expected = np.concatenate([first[:stride], middle, rest])
    found = separated(mixture, values, overlap=None)[0]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_a_tiny_network_keeps_the_contract() -> None:
    manifest = tiny_manifest()
    assert_keeps_contract(manifest, tiny_session(manifest))
