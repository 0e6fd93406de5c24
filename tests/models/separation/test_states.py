"""Networks with a state, and calls of variable length: cut anyhow, the result is that of one call."""

import threading
import time
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import CancelledError, InternalError, OptionError, OutOfMemoryError
from stemwright.models.manifest import (
    ChunkPlan,
    TrackNormalisation,
)
from stemwright.models.separation.separator import CancelToken, SeparationOptions, Separator
from tests.support.fake_kinds import (
    LAG,
    STATE_GRAPH,
    STATE_STEMS,
    RememberingSession,
    remember,
    remembering_manifest,
)
from tests.support.fake_sessions import (
    FakeSession,
    context_network,
    fake_manifest,
    fake_member,
    gains_network,
    join_by_hand,
    noise,
    separate_array,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def remembering(size: int = 64, calls: int = 1, **changes: object) -> tuple[RememberingSession, Separator]:
    session = RememberingSession(network=gains_network(), graph=STATE_GRAPH, parallel_calls=calls)
    manifest = remembering_manifest(size, **changes)  # type: ignore[arg-type]
    return session, Separator([fake_member(session, manifest)], STATE_STEMS)


def whole(samples: FloatArray) -> FloatArray:
    """All in one call, shape=(stems, channels, n)."""
    padded = np.pad(samples, ((0, 0), (0, LAG)))
    memory, delay = np.full((1, 2, 1), 0.5), np.zeros((1, 2, 2, LAG), np.float32)
    return remember(padded[None], memory, delay)["stems"][0, ..., LAG:]


def as_array(stems: Mapping[str, FloatArray]) -> FloatArray:
    return np.stack(list(stems.values()))


@settings(max_examples=30, deadline=None)
@given(
    frames=st.integers(1, 1500),
    size=st.integers(1, 300),
    kind=st.sampled_from(["fixed", "variable"]),
    block=st.integers(1, 900),
    calls=st.integers(1, 3),
)
def test_a_file_in_pieces_is_the_file_in_one_call(
    frames: int, size: int, kind: str, block: int, calls: int
) -> None:
    samples = noise(2, frames, seed=frames)
    samples[:, frames // 4 : frames // 2] = 0
    session, separator = remembering(size, calls, kind=kind)
    with separator:
        stems = separate_array(separator, samples, options=SeparationOptions(block_frames=block))
    np.testing.assert_allclose(as_array(stems), whole(samples), atol=1e-5)
    assert len(session.batches) == -(-(frames + LAG) // size)


def test_lanes_run_side_by_side_and_each_in_order() -> None:
    """Six channels are three pairs, each with a state of its own."""
    barrier = threading.Barrier(2, timeout=20)

    def meet(call: int) -> None:
        if call <= 2:  # both are in work at once, or the barrier breaks
            barrier.wait()

    samples = noise(4, 1000)
    session, separator = remembering(128, calls=2)
    session.before = meet
    with separator:
        stems = separate_array(separator, samples)
    assert session.most_running == 2
    expected = np.concatenate([whole(samples[:2]), whole(samples[2:])], axis=1)
    np.testing.assert_allclose(as_array(stems), expected, atol=1e-5)


def test_a_normalised_network_with_a_state() -> None:
    samples = noise(2, 700, level=0.3)
    _, separator = remembering(100, normalisation=TrackNormalisation())
    with separator:
        stems = separate_array(separator, samples)
    mono = samples.mean(axis=0)
    mean, scale = mono.mean(), mono.std(ddof=1)
    expected = whole(((samples - mean) / scale).astype(np.float32)) * scale + mean
    np.testing.assert_allclose(as_array(stems), expected, atol=1e-4)


def test_silence_is_heard_within_a_recording_and_not_run_alone() -> None:
    samples = noise(2, 640)
    samples[:, :320] = 0
    session, separator = remembering(64)
    with separator:
        stems = separate_array(separator, samples)
        np.testing.assert_allclose(as_array(stems), whole(samples), atol=1e-5)
        assert as_array(stems)[0, :, :320].any()  # what the initial state fades from
        session.batches.clear()
        assert not as_array(separate_array(separator, np.zeros((2, 640), np.float32))).any()
    assert session.batches == []


def test_speakers_of_a_network_with_a_state_keep_the_networks_order() -> None:
    samples = noise(2, 1000)
    _, separator = remembering(64, stem_kind="interchangeable")
    with separator:
        np.testing.assert_allclose(as_array(separate_array(separator, samples)), whole(samples), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [SeparationOptions(shifts=1), SeparationOptions(overlap=0.25), SeparationOptions(discard_s=0.001)],
)
def test_shifts_overlap_and_discarded_context_are_refused(options: SeparationOptions) -> None:
    _, separator = remembering()
    with separator:
        with pytest.raises(OptionError, match="once, in order and without overlap"):
            separator.separate(ArraySource(noise(2, 500), 1000), options)
        assert separate_array(separator, noise(2, 500), options=SeparationOptions(overlap=0.0))


def test_cancel_stops_the_chain() -> None:
    token = CancelToken()
    session, separator = remembering(64)

    def cancel(call: int) -> None:
        if call == 3:
            token.cancel()

    session.before = cancel
    with (
        separator,
        separator.separate(ArraySource(noise(2, 60_000), 1000), cancel=token) as separation,
        pytest.raises(CancelledError),
    ):
        list(separation)
    assert len(session.batches) <= 4


@pytest.mark.parametrize("after", [0, 0.05])
def test_closing_while_calls_wait_hangs_nowhere(after: float) -> None:
    session, separator = remembering(64, calls=2)
    session.before = lambda call: time.sleep(0.01)
    separation = separator.separate(ArraySource(noise(4, 60_000), 1000))
    time.sleep(after)
    separator.close()
    with pytest.raises(CancelledError):
        list(separation)


def test_a_call_that_does_not_fit_into_memory_is_an_error_and_not_halved() -> None:
    session, separator = remembering(64)

    def fail(call: int) -> None:
        raise OutOfMemoryError("the network ran out of memory", "use a smaller batch")

    session.before = fail
    with separator, pytest.raises(OutOfMemoryError):
        separate_array(separator, noise(2, 500))
    assert len(session.batches) == 1


def test_a_state_that_is_not_finite_any_more_is_an_error() -> None:
    class Spoilt(RememberingSession):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            outputs = super().run(inputs)
            if len(self.batches) == 3:
                outputs["memory.out"] = outputs["memory.out"] * np.inf
            return outputs

    session = Spoilt(network=gains_network(), graph=STATE_GRAPH)
    with (
        Separator([fake_member(session, remembering_manifest())], STATE_STEMS) as separator,
        pytest.raises(InternalError, match=r"memory\.in is not finite"),
    ):
        separate_array(separator, noise(2, 1000))


# --- variable length ----------------------------------------------------------------------------


def variable_plan(tail: str, overlap: float = 0.25) -> ChunkPlan:
    return ChunkPlan.model_validate(
        {
            "input_samples": 256,
            "output_samples": 256,
            "overlap": overlap,
            "tail": tail,
            "time": "variable",
            "multiple": 8,
        }
    )


def windows_by_hand(frames: int, tail: str) -> list[tuple[int, int, int, int]]:
    """Start and length of each chunk, start and length of its window."""
    if frames <= 256:
        return [(0, frames, 0, -(-frames // 8) * 8)]
    chunks = []
    for start in range(0, frames, 192):
        length = min(256, frames - start)
        if tail == "end":
            chunks.append((start, length, start, -(-length // 8) * 8))
        else:
            chunks.append((start, length, start - (256 - length) // 2, 256))
    return chunks


@settings(max_examples=30, deadline=None)
@given(
    frames=st.one_of(st.integers(1, 300), st.integers(300, 1500)),
    tail=st.sampled_from(["end", "centred"]),
    batch=st.integers(1, 4),
    block=st.integers(1, 700),
)
def test_calls_of_variable_length(frames: int, tail: str, batch: int, block: int) -> None:
    samples, network = noise(2, frames, seed=frames), context_network()
    padded = np.pad(samples, ((0, 0), (256, 512)))
    pieces = []
    for start, length, first, size in windows_by_hand(frames, tail):
        stems = network(padded[None, :, 256 + first : 256 + first + size])[0]
        pieces.append((start, stems[..., start - first : start - first + length]))
    weight = np.asarray(np.concatenate([np.arange(1, 129), np.arange(128, 0, -1)]) / 128, np.float32)
    expected = join_by_hand(pieces, weight, frames)
    session = FakeSession(network=network, batch_limit=batch)
    manifest = fake_manifest(plan=variable_plan(tail))
    with Separator([fake_member(session, manifest)], manifest.stems) as separator:
        stems = separate_array(separator, samples, options=SeparationOptions(block_frames=block))
    np.testing.assert_allclose(as_array(stems), expected, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(1, 1200), shifts=st.integers(0, 2), discard=st.integers(0, 60))
def test_shifts_and_discarded_context_with_variable_calls(frames: int, shifts: int, discard: int) -> None:
    samples = noise(2, frames)
    session = FakeSession(network=gains_network(), batch_limit=3)
    manifest = fake_manifest(plan=variable_plan("end"))
    with Separator([fake_member(session, manifest)], manifest.stems) as separator:
        options = SeparationOptions(shifts=shifts, discard_s=discard / 1000)
        stems = separate_array(separator, samples, options=options)
    np.testing.assert_allclose(stems["drums"], samples * np.float32(0.4), atol=1e-5)
