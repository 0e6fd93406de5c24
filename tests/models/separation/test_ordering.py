"""Equal speakers stay in one order: against a search over all orders, whole track at a time."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import OptionError
from stemwright.models.manifest import ChunkPlan, Manifest
from stemwright.models.separation.ordering import best_order
from stemwright.models.separation.separator import SeparationOptions, Separator
from tests.support.fake_sessions import (
    FakeSession,
    Network,
    fake_manifest,
    fake_member,
    join_by_hand,
    noise,
    separate_array,
)

pytestmark = pytest.mark.timeout(60)
PLAN = ChunkPlan(input_samples=256, output_samples=256, overlap=0.5)
WEIGHT = np.concatenate([np.arange(1, 129), np.arange(128, 0, -1)]) / 128


def names(count: int) -> tuple[str, ...]:
    return tuple(f"speaker{index + 1}" for index in range(count))


def speakers_manifest(count: int, **changes: object) -> Manifest:
    data = fake_manifest(stems=names(count), channels=count, plan=PLAN).model_dump()
    return Manifest.model_validate({**data, "stem_kind": "interchangeable", **changes})


def shuffling_network(leak: float = 0.0) -> Network:
    """Channel s of the mixture is speaker s; each window gives them in an order of its own."""

    def run(windows: FloatArray) -> FloatArray:
        count = windows.shape[1]
        stems = np.stack(
            [np.stack([(1 - leak) * w + leak * w[::-1] for _ in range(count)], 1) for w in windows]
        )
        return np.stack(
            [one[list(order_of(window))] for one, window in zip(stems, windows, strict=True)]
        ).astype(np.float32)

    return run


def order_of(window: FloatArray) -> Sequence[int]:
    """An order that follows from the window's samples."""
    seed = int(np.abs(window.astype(np.float64)).sum() * 1e6)
    return [int(index) for index in np.random.default_rng(seed).permutation(len(window))]


def separator_of(count: int, network: Network, batch: int = 3, calls: int = 1) -> Separator:
    session = FakeSession(network=network, batch_limit=batch, parallel_calls=calls)
    return Separator([fake_member(session, speakers_manifest(count))], names(count))


def by_hand(samples: FloatArray, network: Network) -> FloatArray:
    """Search all orders of every window."""
    frames = samples.shape[-1]
    padded = np.pad(samples, ((0, 0), (256, 512)))
    before, pieces = None, []
    for start in range(0, frames, 128):
        length = min(256, frames - start)
        first = start - (256 - length) // 2
        stems = network(padded[None, :, 256 + first : 512 + first])[0][..., start - first :][..., :length]
        if before is not None:
            common = min(length, before.shape[-1] - 128)
            best, kept = -np.inf, stems
            for order in permutations(range(len(stems))):
                worth = sum(
                    np.cov(a, b, bias=True)[0, 1]
                    for s, o in enumerate(order)
                    for a, b in zip(before[s, :, 128:][:, :common], stems[o, :, :common], strict=True)
                )
                if worth > best + 1e-12:
                    best, kept = worth, stems[list(order)]
            stems = kept
        before = stems
        pieces.append((start, stems))
    return join_by_hand(pieces, WEIGHT.astype(np.float32), frames)


@pytest.mark.parametrize(("count", "leak"), [(2, 0.0), (2, 0.3), (3, 0.2), (5, 0.1)])
def test_the_order_is_that_of_a_full_search(count: int, leak: float) -> None:
    samples = noise(count, 1500, seed=count)
    network = shuffling_network(leak)
    with separator_of(count, network) as separator:
        stems = separate_array_of(separator, samples)
    np.testing.assert_allclose(stems, by_hand(samples, network), atol=1e-5)


def separate_array_of(
    separator: Separator, samples: FloatArray, options: SeparationOptions | None = None
) -> FloatArray:
    """Stems of a recording whose layout has as many channels as the model, as one group."""
    return np.stack(list(separate_array(separator, samples, options=options).values()))


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 2500),
    batch=st.integers(1, 5),
    calls=st.integers(1, 3),
    block=st.integers(1, 900),
)
def test_speakers_never_change_places_however_the_work_is_cut(
    frames: int, batch: int, calls: int, block: int
) -> None:
    samples = noise(2, frames, seed=frames)
    with separator_of(2, shuffling_network(), 1) as separator:
        plain = separate_array_of(separator, samples)
    with separator_of(2, shuffling_network(), batch, calls) as separator:
        cut = separate_array_of(separator, samples, SeparationOptions(block_frames=block))
    np.testing.assert_array_equal(cut, plain)
    found = [int(np.abs(plain[0] - samples[speaker]).max() < 1e-5) for speaker in (0, 1)]
    assert sorted(found) == [0, 1] or frames < 3


def test_the_last_order_is_kept_through_silence() -> None:
    """After a pause nothing tells who is who: the outputs keep the places they had."""
    samples = noise(2, 2560)
    samples[:, 900:1700] = 0

    def network(windows: FloatArray) -> FloatArray:
        stems = np.stack([np.stack([w, w], 1) for w in windows])
        return np.ascontiguousarray(stems[:, ::-1])  # always the second speaker first

    with separator_of(2, network) as separator:
        stems = separate_array_of(separator, samples)
    np.testing.assert_allclose(stems[0], samples[[1, 1]], atol=1e-5)
    np.testing.assert_allclose(stems[1], samples[[0, 0]], atol=1e-5)


def test_what_is_near_silence_decides_nothing() -> None:
    """Residues 80 dB below the recording would swap the speakers; they are not listened to."""
    samples = noise(2, 2560)
    samples -= samples.mean(axis=1, keepdims=True)
    samples[:, 700:1800] *= 1e-4

    def run(windows: FloatArray) -> FloatArray:
        stems = np.stack([np.stack([w, w], 1) for w in windows])
        quiet = np.abs(windows).max(axis=(1, 2)) < 1e-3
        stems[quiet] = stems[quiet][:, ::-1]
        return stems

    with separator_of(2, run) as separator:
        stems = separate_array_of(separator, samples)
    loud = np.r_[0:600, 1900:2560]
    np.testing.assert_allclose(stems[0][:, loud], samples[[0, 0]][:, loud], atol=1e-5)


def test_one_chosen_speaker_is_that_of_the_whole() -> None:
    samples = noise(2, 1500)
    with separator_of(2, shuffling_network(0.2)) as separator:
        whole = separate_array(separator, samples)
        chosen = separate_array(separator, samples, options=SeparationOptions(stems=("speaker2",)))
    np.testing.assert_array_equal(chosen["speaker2"], whole["speaker2"])


def test_the_level_of_the_recording_does_not_matter() -> None:
    samples = noise(2, 1500)
    with separator_of(2, lambda windows: shuffling_network()(windows)) as separator:
        loud = separate_array_of(separator, samples)
    for level in (2.0**-20, 2.0**10):

        def scaled(windows: FloatArray, level: float = level) -> FloatArray:
            return shuffling_network()(windows / np.float32(level)) * np.float32(level)

        with separator_of(2, scaled) as separator:
            stems = separate_array_of(separator, samples * np.float32(level))
        np.testing.assert_array_equal(stems, loud * np.float32(level))


def test_passes_that_cannot_be_brought_together_are_refused() -> None:
    with separator_of(2, shuffling_network()) as separator:
        with pytest.raises(OptionError, match="shifted passes"):
            separator.separate(ArraySource(noise(2, 500), 1000), SeparationOptions(shifts=2))
        with pytest.raises(OptionError, match="needs an overlap"):
            separator.separate(ArraySource(noise(2, 500), 1000), SeparationOptions(overlap=0.0))
        with pytest.raises(OptionError, match="pair of channels"):
            separator.separate(ArraySource(noise(6, 500), 1000))
        assert len(separate_array(separator, noise(2, 500), options=SeparationOptions(shifts=1))) == 2
    members = [
        fake_member(FakeSession(network=shuffling_network()), speakers_manifest(2, name=name), {})
        for name in ("a", "b")
    ]
    with pytest.raises(OptionError, match="equal speakers"):
        Separator(members, ())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_the_best_order_has_the_largest_trace(count: int, seed: int) -> None:
    gains = np.random.default_rng(seed).standard_normal((count, count))
    best = max(sum(gains[row, order[row]] for row in range(count)) for order in permutations(range(count)))
    order = best_order(gains)
    assert sorted(order) == list(range(count))
    assert sum(gains[row, order[row]] for row in range(count)) == pytest.approx(best)
