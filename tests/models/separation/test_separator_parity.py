"""The separator against demucs 4.1.0's own inference code around the same network."""

import random
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.models.manifest import ChunkPlan
from stemwright.models.separation.plan import draw_origins
from stemwright.models.separation.separator import SeparationOptions, Separator
from tests.support.fake_sessions import (
    STEMS,
    FakeSession,
    Network,
    context_kernels,
    context_network,
    fake_manifest,
    fake_member,
    noise,
    separate_array,
)

torch = pytest.importorskip("torch")
demucs_apply = pytest.importorskip("demucs.apply")

pytestmark = pytest.mark.slow
RATE = 1000


class TorchNetwork(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A numpy network as a model that demucs' inference takes."""

    sources: ClassVar = list(STEMS)
    samplerate = RATE
    audio_channels = 2

    def __init__(self, network: Network, plan: ChunkPlan) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.segment = Fraction(plan.output_samples, RATE)
        self._network = network
        self._input_samples = plan.input_samples

    def valid_length(self, _length: int) -> int:
        return self._input_samples

    def forward(self, mix: Any) -> Any:
        return torch.from_numpy(self._network(mix.numpy()))


def demucs_separates(model: Any, samples: FloatArray, **options: Any) -> FloatArray:
    """`demucs.api.Separator.separate_tensor`, whole-track normalisation included."""
    api = pytest.importorskip("demucs.api")
    separator = SimpleNamespace(
        _model=model,
        _samplerate=RATE,
        samplerate=RATE,
        _segment=None,
        _shifts=0,
        _split=True,
        _overlap=0.25,
        _device="cpu",
        _jobs=0,
        _callback=None,
        _callback_arg=None,
        _progress=False,
    )
    vars(separator).update({f"_{name}": value for name, value in options.items()})
    _, stems = api.Separator.separate_tensor(separator, torch.from_numpy(samples))
    return np.stack([stems[name].numpy() for name in STEMS])


def demucs_applies(model: Any, samples: FloatArray, **options: Any) -> FloatArray:
    with torch.no_grad():
        out = demucs_apply.apply_model(model, torch.from_numpy(samples)[None], **{"shifts": 0, **options})
    return np.asarray(out[0].numpy())


def ours(
    network: Network,
    plan: ChunkPlan,
    samples: FloatArray,
    *,
    normalise: bool = False,
    options: SeparationOptions | None = None,
) -> FloatArray:
    session = FakeSession(network=network)
    manifest = fake_manifest(plan=plan, normalise=normalise)
    with Separator([fake_member(session, manifest)], STEMS) as separator:
        stems = separate_array(separator, samples, options=options)
    return np.stack([stems[name] for name in STEMS])


@st.composite
def plans(draw: st.DrawFn) -> ChunkPlan:
    output = draw(st.sampled_from([64, 101, 256]))
    margin = draw(st.sampled_from([0, 0, 7, 32]))
    return ChunkPlan(input_samples=output + 2 * margin, output_samples=output, output_offset=margin)


def network_for(plan: ChunkPlan) -> Network:
    return context_network(context_kernels(taps=33), trim=plan.output_offset)


LENGTHS = st.one_of(st.sampled_from([2, 3, 255, 256, 257, 384, 448]), st.integers(2, 2500))


@settings(max_examples=60, deadline=None)
@given(plans(), LENGTHS, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75]), st.integers(1, 5), st.integers(1, 999))
def test_chunks_context_and_cross_fade(
    plan: ChunkPlan, frames: int, overlap: float, batch_size: int, block_frames: int
) -> None:
    network, samples = network_for(plan), noise(2, frames, seed=frames)
    expected = demucs_applies(TorchNetwork(network, plan), samples, overlap=overlap)
    options = SeparationOptions(overlap=overlap, batch_size=batch_size, block_frames=block_frames)
    np.testing.assert_allclose(ours(network, plan, samples, options=options), expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(plans(), LENGTHS, st.floats(1e-4, 1.0))
def test_whole_track_normalisation(plan: ChunkPlan, frames: int, level: float) -> None:
    network, samples = network_for(plan), noise(2, frames, seed=frames, level=level)
    expected = demucs_separates(TorchNetwork(network, plan), samples)
    np.testing.assert_allclose(
        ours(network, plan, samples, normalise=True), expected, atol=1e-5 * max(1.0, np.abs(expected).max())
    )


@settings(max_examples=30, deadline=None)
@given(plans(), LENGTHS, st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_shifts_of_the_same_offsets(plan: ChunkPlan, frames: int, shifts: int, seed: int) -> None:
    network, samples = network_for(plan), noise(2, frames, seed=frames)
    origins = draw_origins(np.random.default_rng(seed), shifts, RATE)
    with pytest.MonkeyPatch.context() as patch:
        drawn = iter(origins)
        patch.setattr(random, "randint", lambda low, high: next(drawn) + high)
        expected = demucs_separates(TorchNetwork(network, plan), samples, shifts=shifts)
    options = SeparationOptions(shifts=shifts, seed=seed)
    found = ours(network, plan, samples, normalise=True, options=options)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("shifts", [0, 2])
@pytest.mark.parametrize("frames", [100, 1000, 1777])
def test_bag_with_a_plan_for_every_member(frames: int, shifts: int) -> None:
    weights = [[1.0, 0.0, 2.0, 1.0], [0.5, 1.0, 0.0, 1.0], [0.0, 3.0, 1.0, 1.0]]
    plans = [ChunkPlan(input_samples=size, output_samples=size) for size in (128, 300, 77)]
    networks = [context_network(context_kernels(seed=seed)) for seed in (1, 2, 3)]
    samples = noise(2, frames)
    generator = np.random.default_rng(5)
    origins = [origin for _ in plans for origin in draw_origins(generator, shifts, RATE)]
    with pytest.MonkeyPatch.context() as patch:
        drawn = iter(origins)
        patch.setattr(random, "randint", lambda low, high: next(drawn) + high)
        models = [TorchNetwork(network, plan) for network, plan in zip(networks, plans, strict=True)]
        bag = demucs_apply.BagOfModels(models, weights)
        expected = demucs_separates(bag, samples, shifts=shifts)
    totals = np.sum(weights, axis=0)
    members = [
        fake_member(
            FakeSession(network=network),
            fake_manifest(name=f"member{index}", plan=plan, normalise=True),
            dict(zip(STEMS, np.asarray(row) / totals, strict=True)),
        )
        for index, (network, plan, row) in enumerate(zip(networks, plans, weights, strict=True))
    ]
    options = SeparationOptions(shifts=shifts, seed=5)
    with Separator(members, STEMS) as separator:
        found = separate_array(separator, samples, options=options)
    np.testing.assert_allclose(np.stack([found[name] for name in STEMS]), expected, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.9])
def test_a_random_htdemucs_around_the_whole_path(seconds: float) -> None:
    htdemucs = pytest.importorskip("demucs.htdemucs")
    torch.manual_seed(0)
    model = htdemucs.HTDemucs(
        list(STEMS), channels=8, depth=4, t_layers=1, segment=Fraction(1), samplerate=44_100
    ).eval()

    def network(windows: FloatArray) -> FloatArray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(windows)).numpy())

    manifest = fake_manifest(
        sample_rate=44_100,
        plan=ChunkPlan(input_samples=44_100, output_samples=44_100),
        normalise=True,
    )
    samples = noise(2, round(seconds * 44_100), level=0.2)
    expected = demucs_separates(model, samples)
    with Separator([fake_member(FakeSession(network=network), manifest)], STEMS) as separator:
        found = separate_array(separator, samples, 44_100)
    np.testing.assert_allclose(np.stack([found[name] for name in STEMS]), expected, atol=1e-5)
