"""Laws of the separator: length, channels, independence of how the work is cut, silence, averages."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.transforms import Transform
from stemwright.models.manifest import AudioFormat, ChunkPlan, Graph, GraphInput, GraphOutput, Manifest
from stemwright.models.registry.store import ModelStore
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.models.sessions.opening import SessionOptions
from tests.support.fake_sessions import (
    GAINS,
    STEMS,
    FakeSession,
    collect,
    context_network,
    fake_manifest,
    fake_member,
    fake_separator,
    gains_network,
    noise,
    separate_array,
)
from tests.support.tiny_models import install_tiny_model

pytestmark = pytest.mark.timeout(60)
EDGE_LENGTHS = [1, 2, 3, 191, 192, 193, 255, 256, 257, 447, 448, 449, 1000]


def audio(mode: str, channels: int, sample_rate: int = 1000) -> AudioFormat:
    return AudioFormat.model_validate({"sample_rate": sample_rate, "channels": channels, "mode": mode})


def with_audio(manifest: Manifest, form: AudioFormat) -> Manifest:
    return manifest.model_copy(update={"audio": form})


# --- length, rate, channels -------------------------------------------------------------------


@pytest.mark.parametrize("frames", EDGE_LENGTHS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_length_comes_back_exactly(frames: int, channels: int) -> None:
    samples = noise(channels, frames)
    with fake_separator() as separator:
        stems = separate_array(separator, samples)
    for stem, gain in zip(STEMS, GAINS, strict=True):
        np.testing.assert_allclose(stems[stem], samples * np.float32(gain), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3), st.sampled_from([1000, 1001, 8000, 44_100, 192_000]))
def test_length_and_channels_at_every_rate(frames: int, channels: int, rate: int) -> None:
    with fake_separator() as separator:
        stems = separate_array(separator, noise(channels, frames), rate)
    assert {samples.shape for samples in stems.values()} == {(channels, frames)}


@pytest.mark.parametrize("rate", [8000, 48_000, 192_000])
def test_other_rates_keep_the_sound_in_place(rate: int) -> None:
    """A band-limited sound comes back in time and level: a shift of one sample would show."""
    manifest = fake_manifest(sample_rate=44_100, plan=ChunkPlan(input_samples=4096, output_samples=4096))
    time = np.arange(rate) / rate
    sound = np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 1234 * time)]).astype(np.float32)
    with fake_separator(manifest=manifest) as separator:
        stems = separate_array(separator, sound, rate)
    inside = slice(rate // 20, -rate // 20)
    np.testing.assert_allclose(stems["drums"][:, inside], 0.4 * sound[:, inside], atol=5e-4)


def test_six_channels_go_through_in_pairs_and_alone() -> None:
    """Left and right are one pass, centre and bass one each: a network that swaps channels tells."""

    def swap(windows: FloatArray) -> FloatArray:
        return gains_network()(np.ascontiguousarray(windows[:, ::-1]))

    samples = noise(6, 700)
    with fake_separator(swap) as separator:
        stems = separate_array(separator, samples)
    np.testing.assert_allclose(stems["drums"], 0.4 * samples[[1, 0, 2, 3, 5, 4]], atol=1e-6)


@pytest.mark.parametrize(("mode", "channels"), [("downmix", 1), ("per_channel", 1), ("native", 1)])
def test_models_of_one_channel(mode: str, channels: int) -> None:
    samples = noise(2, 700)
    manifest = with_audio(fake_manifest(), audio(mode, channels))
    with fake_separator(manifest=manifest) as separator:
        stems = separate_array(separator, samples)
    heard = samples.mean(axis=0, keepdims=True).repeat(2, axis=0) if mode == "downmix" else samples
    np.testing.assert_allclose(stems["bass"], 0.3 * heard, atol=1e-6)


# --- laws -------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 2500),
    batch_size=st.integers(1, 6),
    parallel_calls=st.integers(1, 3),
    block_frames=st.integers(1, 1500),
    shifts=st.integers(0, 2),
    rate=st.sampled_from([1000, 1600]),
)
def test_batches_threads_and_blocks_do_not_change_the_result(
    frames: int, batch_size: int, parallel_calls: int, block_frames: int, shifts: int, rate: int
) -> None:
    samples = noise(3, frames, seed=frames)
    samples[:, frames // 4 : frames // 2] = 0
    manifest = fake_manifest(normalise=True)

    def run(calls: int, limit: int, options: SeparationOptions) -> FloatArray:
        session = FakeSession(network=context_network(), parallel_calls=calls, batch_limit=limit)
        with Separator([fake_member(session, manifest)], STEMS) as separator:
            return np.stack(list(separate_array(separator, samples, rate, options).values()))

    plain = run(1, 1, SeparationOptions(shifts=shifts))
    batched = run(parallel_calls, batch_size, SeparationOptions(shifts=shifts, batch_size=batch_size))
    np.testing.assert_array_equal(batched, plain)
    blocks = run(1, 1, SeparationOptions(shifts=shifts, block_frames=block_frames))
    np.testing.assert_allclose(blocks, plain, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 3), st.sampled_from([1000, 1100, 700]), st.booleans())
def test_stems_and_residual_add_up_to_the_recording(
    frames: int, channels: int, rate: int, normalise: bool
) -> None:
    samples = noise(channels, frames)
    with fake_separator(context_network(), fake_manifest(normalise=normalise)) as separator:
        stems = separate_array(separator, samples, rate, SeparationOptions(residual=True))
    assert tuple(stems) == (*STEMS, "residual")
    total = np.sum(list(stems.values()), axis=0, dtype=np.float64)
    scale = max(float(np.abs(samples).max()) for samples in stems.values())
    np.testing.assert_allclose(total, samples, atol=1e-6 * max(scale, 1.0))


def test_a_stem_and_its_complement_are_the_recording() -> None:
    samples = noise(2, 1500)
    session = FakeSession(network=context_network())
    with Separator([fake_member(session)], STEMS) as separator:
        options = SeparationOptions(complement_of="vocals")
        stems = separate_array(separator, samples, options=options)
        whole = separate_array(separator, samples)
    assert tuple(stems) == ("vocals", "no_vocals")
    np.testing.assert_array_equal(stems["vocals"], whole["vocals"])
    np.testing.assert_array_equal(stems["no_vocals"], samples - stems["vocals"])


@settings(max_examples=15, deadline=None)
@given(st.integers(200, 2000), st.sampled_from([0.5, 2.0, 0.1]))
def test_normalised_models_follow_the_level_of_the_recording(frames: int, factor: float) -> None:
    samples = noise(2, frames)
    with fake_separator(context_network(), fake_manifest(normalise=True)) as separator:
        loud = separate_array(separator, samples)
        quiet = separate_array(separator, samples * np.float32(factor))
    for stem in STEMS:
        np.testing.assert_allclose(quiet[stem], loud[stem] * factor, atol=1e-4)


def test_chosen_stems_are_those_of_the_whole_in_the_order_asked() -> None:
    samples = noise(2, 1000)
    with fake_separator(context_network(), fake_manifest(normalise=True)) as separator:
        whole = separate_array(separator, samples, options=SeparationOptions(shifts=2))
        options = SeparationOptions(stems=("vocals", "bass", "vocals"), shifts=2)
        chosen = separate_array(separator, samples, options=options)
    assert tuple(chosen) == ("vocals", "bass")
    for stem, samples in chosen.items():
        np.testing.assert_array_equal(samples, whole[stem])


def test_discarding_context_takes_the_chunks_from_inside_the_windows() -> None:
    """A network that spoils the ends of its window does no harm once those are discarded."""

    def spoil(windows: FloatArray) -> FloatArray:
        stems = gains_network()(windows)
        stems[..., :20] = 9
        stems[..., -20:] = 9
        return stems

    samples = noise(2, 1500)
    with fake_separator(spoil) as separator:
        spoiled = separate_array(separator, samples)
        clean = separate_array(separator, samples, options=SeparationOptions(discard_s=0.02))
    assert np.abs(spoiled["drums"]).max() > 1
    np.testing.assert_allclose(clean["drums"], samples * np.float32(0.4), atol=1e-6)


def test_shifted_passes_are_averaged() -> None:
    samples = noise(2, 1200)
    with fake_separator() as separator:
        stems = separate_array(separator, samples, options=SeparationOptions(shifts=3, seed=1))
    np.testing.assert_allclose(stems["bass"], samples * np.float32(0.3), atol=1e-6)


def test_another_seed_shifts_otherwise() -> None:
    samples = noise(2, 1200)
    with fake_separator(context_network()) as separator:
        one, again, other = (
            separate_array(separator, samples, options=SeparationOptions(shifts=1, seed=seed))["bass"]
            for seed in (1, 1, 2)
        )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


# --- spectral roles ---------------------------------------------------------------------------


class MaskSession(FakeSession):
    """Magnitudes in, a constant mask for each stem out."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        magnitude = inputs["magnitude"]
        self.batches.append(magnitude.shape[0])
        mask = np.asarray(GAINS, np.float32)[:, None, None, None] * np.ones_like(magnitude)[:, None]
        return {"mask": mask}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_masks_are_put_on_the_spectrum_of_their_own_window(batch_size: int) -> None:
    graph = Graph(
        inputs=(GraphInput(name="magnitude", role="magnitude"),),
        outputs=(GraphOutput(name="mask", role="mask"),),
        transform=Transform(n_fft=64, hop=16),
    )
    plan = ChunkPlan(input_samples=256, output_samples=200, output_offset=28)
    manifest = fake_manifest(plan=plan).model_copy(update={"graph": graph})
    session = MaskSession(network=gains_network(), graph=graph)
    samples = noise(3, 1500)
    with Separator([fake_member(session, manifest)], STEMS) as separator:
        options = SeparationOptions(stems=("vocals", "drums"), batch_size=batch_size)
        stems = separate_array(separator, samples, options=options)
    assert max(session.batches) == batch_size
    np.testing.assert_allclose(stems["drums"], samples * np.float32(0.4), atol=1e-6)
    np.testing.assert_allclose(stems["vocals"], samples * np.float32(0.1), atol=1e-6)


# --- silence ----------------------------------------------------------------------------------


def test_silence_gives_silence_without_the_network() -> None:
    session = FakeSession(network=lambda windows: windows[:, None] + np.ones((1, 4, 1, 1), np.float32))
    manifest = fake_manifest(normalise=True)
    with Separator([fake_member(session, manifest)], STEMS) as separator:
        separation = separator.separate(ArraySource(np.zeros((2, 5000), np.float32), 1000))
        stems = collect(separation)
    assert separation.analysis.silent
    assert session.batches == []
    assert all(not samples.any() for samples in stems.values())
    assert separation.peaks == dict.fromkeys(STEMS, 0.0)


def test_silence_is_handed_on_chunk_by_chunk_however_large_the_batches() -> None:
    with fake_separator(batch_limit=1000) as separator:
        separation = separator.separate(ArraySource(np.zeros((2, 192 * 50), np.float32), 1000))
        assert len(list(separation)) == 50


def test_only_windows_that_are_wholly_silent_are_left_out() -> None:
    samples = noise(2, 256 * 8)
    samples[:, 256 : 256 * 6] = 0
    session = FakeSession(network=context_network(), batch_limit=3)
    manifest = fake_manifest(plan=ChunkPlan(input_samples=256, output_samples=256, overlap=0.0))
    with Separator([fake_member(session, manifest)], STEMS) as separator:
        stems = separate_array(separator, samples)
    assert sum(session.batches) == 3
    assert all(not samples[:, 256 : 256 * 6].any() for samples in stems.values())
    assert all(samples[:, :256].any() and samples[:, 256 * 6 :].any() for samples in stems.values())


# --- several models ---------------------------------------------------------------------------


def test_models_of_different_rates_and_windows_are_averaged_in_step() -> None:
    """Both give the recording times a factor, so that their average is known exactly."""
    time = np.arange(6000) / 2000
    sound = np.stack([np.sin(2 * np.pi * 50 * time), np.sin(2 * np.pi * 120 * time)]).astype(np.float32)
    plan = ChunkPlan(input_samples=777, output_samples=600, output_offset=77, window="hann", tail="end")
    members = [
        fake_member(
            FakeSession(network=gains_network()),
            fake_manifest(name="a", sample_rate=2000),
            dict.fromkeys(STEMS, 0.25),
        ),
        fake_member(
            FakeSession(network=lambda windows: gains_network((1, 1, 1, 1))(windows)[..., 77:677]),
            fake_manifest(name="b", sample_rate=1000, plan=plan),
            dict.fromkeys(STEMS, 0.75),
        ),
    ]
    with Separator(members, STEMS) as separator:
        stems = separate_array(separator, sound, 2000, SeparationOptions(block_frames=333))
    for stem, gain in zip(STEMS, GAINS, strict=True):
        expected = sound * (0.25 * gain + 0.75)
        np.testing.assert_allclose(stems[stem][:, 200:-200], expected[:, 200:-200], atol=1e-3)


def test_members_without_a_share_in_the_stems_are_neither_opened_nor_run() -> None:
    sessions = [FakeSession(network=gains_network((1, 1, 1, 1))) for _ in STEMS]
    members = [
        fake_member(session, fake_manifest(name=stem), {**dict.fromkeys(STEMS, 0.0), stem: 1.0})
        for stem, session in zip(STEMS, sessions, strict=True)
    ]
    with Separator(members, STEMS) as separator:
        assert separator.facts == {}
        samples = noise(2, 500)
        stems = separate_array(separator, samples, options=SeparationOptions(stems=("bass",)))
        assert list(separator.facts) == ["bass"]
        np.testing.assert_allclose(stems["bass"], samples, atol=1e-6)
        assert [bool(session.batches) for session in sessions] == [False, True, False, False]
        separate_array(separator, samples)
        assert list(separator.facts) == list(STEMS)
    assert all(session.closed for session in sessions)


def test_shifts_of_a_member_do_not_depend_on_the_stems_asked_for() -> None:
    manifest = fake_manifest()
    members = [
        fake_member(FakeSession(network=context_network()), fake_manifest(name=stem), {stem: 1.0})
        for stem in STEMS
    ]
    samples = noise(2, 1200)
    with Separator(members, manifest.stems) as separator:
        options = SeparationOptions(shifts=2, seed=9)
        whole = separate_array(separator, samples, options=options)
        alone = separate_array(
            separator, samples, options=SeparationOptions(shifts=2, seed=9, stems=("vocals",))
        )
    np.testing.assert_array_equal(alone["vocals"], whole["vocals"])


def test_models_are_opened_by_name_and_averaged(tmp_path: Path) -> None:
    install_tiny_model(tmp_path, "a")
    install_tiny_model(tmp_path, "b", gains=(1.0, 1.0, 1.0, 1.0), segment=3000)
    samples = noise(2, 9000)
    options = SessionOptions(cache_dir=tmp_path / "cache", device="cpu")
    with Separator.open(["a", "b"], options=options, weights=(3, 1), store=ModelStore(tmp_path)) as separator:
        assert separator.stems == STEMS
        assert separator.sample_rate == 44_100
        stems = separate_array(separator, samples, 44_100)
        assert list(separator.facts) == ["a", "b"]
    np.testing.assert_allclose(stems["drums"], samples * np.float32(0.75 * 0.4 + 0.25), atol=1e-6)
    with Separator.open("a", options=options, store=ModelStore(tmp_path)) as separator:
        stems = separate_array(separator, samples, 44_100)
    np.testing.assert_allclose(stems["drums"], samples * np.float32(0.4), atol=1e-6)
