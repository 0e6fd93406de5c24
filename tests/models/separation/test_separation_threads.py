"""Separations under way: cancelled, left, failing, several at once. Nothing hangs, no thread stays."""

import contextlib
import gc
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource, AudioInfo
from stemwright.core.errors import CancelledError, InputError, InternalError
from stemwright.models.graphs.roles import ModelInputs
from stemwright.models.separation.members import Member
from stemwright.models.separation.separator import CancelToken, Progress, SeparationOptions, Separator
from tests.support.fake_sessions import (
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

pytestmark = pytest.mark.timeout(30)
LONG = noise(2, 60_000)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Endless:
    """A source that goes on for ever, and fails where it is told to."""

    def __init__(self, fail_at: int | None = None, passes: int = 1) -> None:
        self.read = 0
        self.closed = 0
        self._fail_at = fail_at
        self._passes = passes

    @property
    def info(self) -> AudioInfo:
        return ArraySource(LONG, 1000).info

    def blocks(self, block_frames: int = 64) -> Iterator[FloatArray]:
        self._passes -= 1
        try:
            while True:
                self.read += block_frames
                if self._fail_at is not None and self._passes <= 0 and self.read >= self._fail_at:
                    raise InputError("the file is damaged", "mend it")
                yield noise(2, block_frames)
        finally:
            self.closed += 1


def gated_session(parallel_calls: int = 1) -> tuple[FakeSession, threading.Event]:
    """A session whose calls wait until the event is set."""
    gate = threading.Event()

    def wait(_call: int) -> None:
        gate.wait(20)

    return FakeSession(network=gains_network(), parallel_calls=parallel_calls, before=wait), gate


def test_cancel_ends_within_the_call_under_way() -> None:
    session, gate = gated_session()
    token = CancelToken()
    with Separator([fake_member(session)], STEMS) as separator:
        separation = separator.separate(ArraySource(LONG, 1000), cancel=token)
        while not session.batches:
            time.sleep(0.001)
        token.cancel()
        with pytest.raises(CancelledError):
            next(separation)
        with pytest.raises(StopIteration):
            next(separation)
        gate.set()
    assert len(session.batches) == 1


def test_a_token_that_was_set_before_ends_it_at_once() -> None:
    token = CancelToken()
    token.cancel()
    session = FakeSession(network=gains_network())
    with Separator([fake_member(session)], STEMS) as separator:
        with pytest.raises(CancelledError):
            collect(separator.separate(ArraySource(LONG, 1000), cancel=token))
        token_of_another = CancelToken()
        collect(separator.separate(ArraySource(LONG[:, :500], 1000), cancel=token_of_another))
        token_of_another.cancel()


def test_cancel_during_the_analysis() -> None:
    source, token = Endless(), CancelToken()
    with fake_separator() as separator:
        separation = separator.separate(source, cancel=token)
        threading.Timer(0.05, token.cancel).start()
        with pytest.raises(CancelledError):
            _ = separation.frames
    assert source.closed == 1


def test_cancel_from_the_progress_callback() -> None:
    token = CancelToken()

    def report(progress: Progress) -> None:
        if progress.done_chunks >= 3:
            token.cancel()

    with fake_separator() as separator, pytest.raises(CancelledError):
        collect(separator.separate(ArraySource(LONG, 1000), progress=report, cancel=token))


def test_an_error_in_the_progress_callback_reaches_the_caller() -> None:
    def report(progress: Progress) -> None:
        raise KeyError("display")

    with fake_separator() as separator, pytest.raises(KeyError, match="display"):
        collect(separator.separate(ArraySource(LONG, 1000), progress=report))


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_leaving_early_ends_the_threads(taken: int) -> None:
    with fake_separator() as separator:
        separation = separator.separate(ArraySource(LONG, 1000))
        for _ in range(taken):
            next(separation)
        separation.close()
        separation.close()
        assert list(separation) == []
        separate_array(separator, LONG[:, :300])


class Slow(ArraySource):
    """Takes its time for every block, and counts the readings that are open."""

    open_readings = 0

    def blocks(self, block_frames: int = 64) -> Iterator[FloatArray]:
        self.open_readings += 1
        try:
            for block in super().blocks(500):
                time.sleep(0.005)
                yield block
        finally:
            self.open_readings -= 1


@pytest.mark.parametrize("taken", [0, 2])
@pytest.mark.parametrize("who", ["separation", "separator"])
def test_closing_waits_for_the_threads_and_ends_every_reading(who: str, taken: int) -> None:
    source = Slow(LONG[:, :10_000], 1000)
    with fake_separator() as separator:
        separation = separator.separate(source, SeparationOptions(residual=True))
        for _ in range(taken):
            next(separation)
        (separation if who == "separation" else separator).close()
        assert source.open_readings == 0
        names = {thread.name for thread in threading.enumerate()}
        assert not names & {"stemwright-windows", "stemwright-stems"}


def test_a_separation_that_is_dropped_ends_its_threads() -> None:
    with fake_separator() as separator:
        separation = separator.separate(ArraySource(LONG, 1000))
        next(separation)
        threads = [t for t in threading.enumerate() if t.name in ("stemwright-windows", "stemwright-stems")]
        assert len(threads) == 2
        del separation
        gc.collect()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def test_closing_the_separator_ends_what_is_in_work() -> None:
    separator = fake_separator()
    separation = separator.separate(ArraySource(LONG, 1000))
    next(separation)
    separator.close()
    with pytest.raises(CancelledError, match="closed"):
        collect(separation)


def test_the_work_pauses_while_nobody_takes_the_blocks() -> None:
    session = FakeSession(network=gains_network(), batch_limit=1)
    with Separator([fake_member(session)], STEMS) as separator:
        separation = separator.separate(ArraySource(LONG, 1000))
        next(separation)
        before = -1
        while before != len(session.batches):
            before = len(session.batches)
            time.sleep(0.05)
        # One taken, two waiting, one about to wait, one done by the network.
        assert before == 5
        collected = sum(block.frames for block in separation)
    assert collected == LONG.shape[1] - 192


@pytest.mark.parametrize("passes", [1, 2])
def test_an_error_of_the_source_reaches_the_caller(passes: int) -> None:
    class Damaged(ArraySource):
        read = 0

        def blocks(self, block_frames: int = 64) -> Iterator[FloatArray]:
            self.read += 1
            for index, block in enumerate(super().blocks(64)):
                if self.read == passes and index == 30:
                    raise InputError("the file is damaged", "mend it")
                yield block

    with fake_separator() as separator:
        with pytest.raises(InputError, match="damaged"):
            collect(separator.separate(Damaged(LONG, 1000)))
        separate_array(separator, LONG[:, :300])


def test_an_error_in_the_analysis_reaches_who_asks_for_the_length() -> None:
    with fake_separator() as separator:
        separation = separator.separate(Endless(fail_at=1000))
        with pytest.raises(InputError, match="damaged"):
            _ = separation.frames


@pytest.mark.parametrize("parallel_calls", [1, 3])
def test_an_error_of_the_network_reaches_the_caller(parallel_calls: int) -> None:
    def fail(call: int) -> None:
        if call == 4:
            raise InternalError("the runtime failed", "try --device cpu")

    session = FakeSession(network=gains_network(), before=fail, parallel_calls=parallel_calls, batch_limit=2)
    with Separator([fake_member(session)], STEMS) as separator:
        with pytest.raises(InternalError, match="runtime failed"):
            collect(separator.separate(ArraySource(LONG, 1000)))
        separate_array(separator, LONG[:, :300])


def test_as_many_calls_run_at_once_as_the_session_takes() -> None:
    session = FakeSession(
        network=context_network(), parallel_calls=3, batch_limit=1, before=lambda _: time.sleep(0.01)
    )
    with Separator([fake_member(session)], STEMS) as separator:
        separate_array(separator, LONG[:, :5000])
    assert session.most_running == 3


def test_the_next_window_is_prepared_while_the_network_works() -> None:
    prepared = threading.Semaphore(0)
    in_time: list[bool] = []

    class Watched(Member):
        def prepare(
            self,
            windows: FloatArray,
            *,
            condition: FloatArray | None = None,
            spans: Sequence[tuple[int, int]] | None = None,
        ) -> ModelInputs:
            inputs = super().prepare(windows, condition=condition, spans=spans)
            prepared.release()
            return inputs

    def wait_for_the_next(call: int) -> None:
        if call < 5:  # the first call waits for its own window and the next one
            in_time.extend(prepared.acquire(timeout=10) for _ in range(2 if call == 1 else 1))

    session = FakeSession(network=gains_network(), batch_limit=1, before=wait_for_the_next)
    manifest = fake_manifest()
    member = Watched(
        name="watched", manifest=manifest, gains=dict.fromkeys(STEMS, 1.0), opener=lambda: session
    )
    with Separator([member], STEMS) as separator:
        separate_array(separator, LONG[:, :3000])
    assert in_time == [True] * 5


def test_a_session_is_never_given_more_calls_than_it_takes() -> None:
    """Members with different limits share the separator's threads."""
    sessions = [
        FakeSession(
            network=context_network(), parallel_calls=calls, batch_limit=1, before=lambda _: time.sleep(0.002)
        )
        for calls in (4, 1)
    ]
    members = [
        fake_member(session, fake_manifest(name=name), {name: 1.0})
        for name, session in zip(("drums", "bass"), sessions, strict=True)
    ]
    with Separator(members, ("drums", "bass")) as separator:
        separate_array(separator, LONG[:, :3000], options=SeparationOptions(stems=("drums",)))
        separate_array(separator, LONG[:, :3000])
    assert sessions[0].most_running > 1
    assert sessions[1].most_running == 1


def test_two_recordings_at_once_give_what_they_give_alone() -> None:
    sounds = [noise(2, 9000, seed=seed) for seed in range(3)]
    session = FakeSession(network=context_network(), batch_limit=2, before=lambda _: time.sleep(0.001))
    with Separator([fake_member(session)], STEMS) as separator:
        alone = [separate_array(separator, sound) for sound in sounds]
        separations = [separator.separate(ArraySource(sound, 1000)) for sound in sounds]
        parts: list[list[FloatArray]] = [[] for _ in sounds]
        waiting = set(range(len(sounds)))
        while waiting:
            for index in sorted(waiting):
                block = next(separations[index], None)
                if block is None:
                    waiting.discard(index)
                else:
                    parts[index].append(block.stems["bass"])
        assert session.most_running == 1
    for index, blocks in enumerate(parts):
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), alone[index]["bass"])


def test_the_next_recording_is_read_while_the_network_works_on_this_one() -> None:
    session, gate = gated_session()
    with Separator([fake_member(session)], STEMS) as separator:
        first = separator.separate(ArraySource(LONG, 1000))
        second = separator.separate(ArraySource(LONG[:, :1234], 1000))
        assert second.frames == 1234
        gate.set()
        first.close()
        collect(second)


def test_many_recordings_in_a_row_keep_the_session() -> None:
    session = FakeSession(network=context_network())
    with Separator([fake_member(session)], STEMS) as separator:
        expected = separate_array(separator, LONG[:, :700])
        for _ in range(50):
            stems = separate_array(separator, LONG[:, :700])
        np.testing.assert_array_equal(stems["vocals"], expected["vocals"])
        assert not session.closed
    assert session.closed


def test_random_interruptions_never_hang() -> None:
    chooser = np.random.default_rng(1)
    with fake_separator(parallel_calls=2) as separator:
        for _ in range(60):
            token = CancelToken()
            separation = separator.separate(
                ArraySource(LONG[:, :4000], 1000), SeparationOptions(residual=True), cancel=token
            )
            timer = threading.Timer(float(chooser.uniform(0, 0.01)), token.cancel)
            timer.start()
            with contextlib.suppress(CancelledError):
                collect(separation)
            timer.join()
