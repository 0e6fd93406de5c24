"""Factors fitted to the recording: least squares over the whole track, in bounded memory."""

import shutil
import tempfile
import tracemalloc
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import OptionError, ResourceError
from stemwright.models.manifest import ChunkPlan, Manifest, ScaleFit
from stemwright.models.separation import fitting
from stemwright.models.separation.fitting import Gram
from stemwright.models.separation.separator import SeparationOptions, Separator
from tests.support.fake_sessions import (
    FakeSession,
    context_kernels,
    context_network,
    fake_manifest,
    fake_member,
    gains_network,
    noise,
    separate_array,
)

pytestmark = pytest.mark.timeout(60)
STEMS = ("one", "two", "three")


def fitted_manifest(stems: tuple[str, ...] = STEMS, **changes: object) -> Manifest:
    data = fake_manifest(stems=stems).model_dump()
    return Manifest.model_validate({**data, "scale_fit": ScaleFit(), **changes})


def separator_of(*, fitted: bool, batch: int = 1) -> Separator:
    session = FakeSession(network=context_network(context_kernels(3)), batch_limit=batch)
    manifest = fitted_manifest() if fitted else fake_manifest(stems=STEMS)
    return Separator([fake_member(session, manifest)], STEMS)


def as_array(stems: dict[str, FloatArray]) -> FloatArray:
    return np.stack(list(stems.values()))


def test_the_factors_are_the_least_squares_solution() -> None:
    """Against numpy over the whole track at once, at a rate that is not the model's."""
    samples = noise(2, 3000, level=0.5)
    with separator_of(fitted=False) as separator:
        plain = as_array(separate_array(separator, samples, 1600))
    with separator_of(fitted=True) as separator:
        fitted = as_array(separate_array(separator, samples, 1600))
    factors = np.linalg.lstsq(
        plain.reshape(3, -1).T.astype(np.float64), samples.reshape(-1).astype(np.float64), rcond=None
    )[0]
    np.testing.assert_allclose(fitted, plain * factors[:, None, None], rtol=1e-5, atol=1e-6)
    assert np.abs(factors - 1).max() > 0.1


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 2500),
    batch=st.integers(1, 6),
    block=st.integers(1, 1500),
    rate=st.sampled_from([1000, 1600]),
)
def test_batches_and_blocks_do_not_change_the_factors(frames: int, batch: int, block: int, rate: int) -> None:
    samples = noise(2, frames, seed=frames)
    with separator_of(fitted=True) as separator:
        plain = as_array(separate_array(separator, samples, rate))
    with separator_of(fitted=True, batch=batch) as separator:
        np.testing.assert_array_equal(as_array(separate_array(separator, samples, rate)), plain)
        options = SeparationOptions(block_frames=block)
        blocks = as_array(separate_array(separator, samples, rate, options))
    np.testing.assert_allclose(blocks, plain, atol=1e-4 * max(1, np.abs(plain).max()))


def test_long_recordings_are_read_back_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_BLOCK", 700)
    samples = noise(2, 3000)
    with separator_of(fitted=True) as separator:
        several = as_array(separate_array(separator, samples))
    monkeypatch.setattr(fitting, "_BLOCK", 1 << 20)
    with separator_of(fitted=True) as separator:
        np.testing.assert_allclose(as_array(separate_array(separator, samples)), several, atol=1e-5)


def test_a_chosen_stem_has_the_factor_it_has_among_all() -> None:
    samples = noise(2, 2000)
    with separator_of(fitted=True) as separator:
        whole = separate_array(separator, samples)
        one = separate_array(separator, samples, options=SeparationOptions(stems=("two",), residual=True))
        complement = separate_array(separator, samples, options=SeparationOptions(complement_of="two"))
    assert tuple(one) == ("two", "residual")
    np.testing.assert_array_equal(one["two"], whole["two"])
    np.testing.assert_array_equal(one["residual"], samples - whole["two"])
    np.testing.assert_array_equal(complement["no_two"], samples - whole["two"])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_scale_of_the_network_does_not_matter(scale: float) -> None:
    samples = noise(2, 1500)
    network = gains_network((0.5 * scale, 0.0, -0.1 * scale))
    with Separator([fake_member(FakeSession(network=network), fitted_manifest())], STEMS) as separator:
        stems = separate_array(separator, samples)
    np.testing.assert_allclose(sum(stems.values()), samples, atol=1e-5)
    assert not stems["two"].any()
    # Of all ways to share the recording among equal stems, the one with the smallest factors.
    np.testing.assert_allclose(stems["one"], samples / 2, atol=1e-4)


def test_silence_stays_silence() -> None:
    with separator_of(fitted=True) as separator:
        stems = separate_array(separator, np.zeros((2, 1000), np.float32))
    assert not as_array(stems).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_no_other_factors_come_nearer(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    stems = generator.standard_normal((count, 2, 50)).astype(np.float32)
    recording = generator.standard_normal((2, 50)).astype(np.float32)
    gram = Gram(count)
    for span in (slice(0, 17), slice(17, 50)):
        gram.add(stems[..., span], recording[..., span])
    factors = gram.factors()

    def distance(tried: np.ndarray) -> float:
        return float(np.square(np.tensordot(tried, stems, 1) - recording).sum())

    for _ in range(10):
        other = factors + generator.standard_normal(count) * 0.01
        assert distance(factors) <= distance(other) + 1e-9


# --- the disk -----------------------------------------------------------------------------------


@pytest.fixture
def spool_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_nothing_stays_on_the_disk(spool_folder: Path) -> None:
    samples = noise(2, 60_000)
    with separator_of(fitted=True) as separator:
        separate_array(separator, samples)
        assert list(spool_folder.iterdir()) == []
        separation = separator.separate(ArraySource(samples, 1000))
        next(separation)
        separation.close()
        assert list(spool_folder.iterdir()) == []


def test_no_room_is_an_error_before_the_work(spool_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, 1 << 30, 64 << 20))
    session = FakeSession(network=gains_network((1, 1, 1)))
    with (
        Separator([fake_member(session, fitted_manifest())], STEMS) as separator,
        pytest.raises(ResourceError, match="GB free"),
    ):
        separate_array(separator, noise(2, 60_000))
    assert list(spool_folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full")
def test_a_disk_that_fills_up_on_the_way_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **where: Path("/dev/full").open("r+b"))
    with separator_of(fitted=True) as separator, pytest.raises(ResourceError, match="until they are scaled"):
        separate_array(separator, noise(2, 5000))


def test_a_folder_that_is_not_there_is_an_error(spool_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(spool_folder / "missing"))
    with separator_of(fitted=True) as separator, pytest.raises(ResourceError, match="put the stems aside"):
        separate_array(separator, noise(2, 500))


def test_a_failing_network_leaves_nothing(spool_folder: Path) -> None:
    def fail(call: int) -> None:
        if call == 20:
            raise ArithmeticError("a test")

    session = FakeSession(network=gains_network((1, 1, 1)), before=fail)
    with (
        Separator([fake_member(session, fitted_manifest())], STEMS) as separator,
        pytest.raises(ArithmeticError),
    ):
        separate_array(separator, noise(2, 60_000))
    assert list(spool_folder.iterdir()) == []


def test_memory_does_not_grow_with_the_recording() -> None:
    plan = ChunkPlan(input_samples=4096, output_samples=4096)
    session = FakeSession(network=gains_network((1, 1, 1)))
    samples = noise(1, 2_000_000)
    manifest = fitted_manifest(plan=plan)
    with Separator([fake_member(session, manifest)], STEMS) as separator:
        tracemalloc.start()
        try:
            for _ in separator.separate(ArraySource(samples, 1000)):
                pass
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 12e6  # all stems are 24 MB


def test_models_that_are_fitted_cannot_be_averaged() -> None:
    members = [
        fake_member(
            FakeSession(network=gains_network()), fitted_manifest(name=name), dict.fromkeys(STEMS, 0.5)
        )
        for name in ("a", "b")
    ]
    with pytest.raises(OptionError, match="cannot be averaged"):
        Separator(members, STEMS)
