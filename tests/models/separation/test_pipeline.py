import signal
import threading
import time
from types import FrameType

import pytest

from stemwright.core.errors import InputError, OutOfMemoryError
from stemwright.models.separation.pipeline import CancelToken, Flow, Pipe, Stopped

pytestmark = pytest.mark.timeout(20)


def test_items_come_in_order_and_then_the_end() -> None:
    flow = Flow()
    pipe = Pipe[int](flow, 3)

    def produce() -> None:
        for number in range(1000):
            pipe.put(number)
        pipe.end()

    flow.start("producer", produce)
    assert list(pipe) == list(range(1000))
    assert list(pipe) == []
    flow.join()


def test_the_producer_never_runs_further_ahead_than_the_capacity() -> None:
    flow = Flow()
    pipe = Pipe[int](flow, 2)
    put = 0

    def produce() -> None:
        nonlocal put
        for number in range(20):
            pipe.put(number)
            put = number + 1
        pipe.end()

    flow.start("producer", produce)
    for taken in pipe:
        assert put <= taken + 1 + 2 + 1
        time.sleep(0.001)
    flow.join()


def test_a_failing_stage_stops_the_others_and_its_error_stays() -> None:
    flow = Flow()
    pipe = Pipe[int](flow, 1)

    def fail() -> None:
        raise InputError("broken", "mend it")

    def wait_for_ever() -> None:
        next(pipe)

    flow.start("waiting", wait_for_ever)
    flow.start("failing", fail)
    flow.join()
    assert flow.stopped
    assert isinstance(flow.reason, InputError)
    flow.stop(KeyError("later"))
    assert isinstance(flow.reason, InputError)
    with pytest.raises(Stopped):
        next(pipe)
    with pytest.raises(Stopped):
        pipe.put(1)
    with pytest.raises(Stopped):
        flow.check()


def test_memory_that_runs_out_in_a_stage_becomes_an_error_of_ours() -> None:
    flow = Flow()

    def fail() -> None:
        raise MemoryError

    flow.start("failing", fail)
    flow.join()
    assert isinstance(flow.reason, OutOfMemoryError)
    assert isinstance(flow.reason.__cause__, MemoryError)


def test_stop_without_a_reason_ends_the_stages() -> None:
    flow = Flow()
    pipe = Pipe[int](flow, 1)
    flow.start("waiting", lambda: next(pipe))  # type: ignore[arg-type]
    flow.stop()
    flow.join()
    assert flow.reason is None


def test_a_stage_may_join_its_own_flow() -> None:
    flow = Flow()
    flow.start("self", flow.join)
    flow.join()
    assert flow.reason is None


def test_room_is_awaited() -> None:
    flow = Flow()
    pipe = Pipe[int](flow, 1)
    pipe.put(0)
    done = threading.Event()

    def wait() -> None:
        pipe.wait_for_room()
        done.set()

    flow.start("waiting", wait)
    assert not done.wait(0.05)
    assert next(pipe) == 0
    assert done.wait(5)
    flow.join()


def test_token_calls_its_watchers_once_and_late_ones_at_once() -> None:
    token, calls = CancelToken(), list[str]()
    token.watch(lambda: calls.append("kept"))
    end = token.watch(lambda: calls.append("ended"))
    end()
    end()
    assert not token.cancelled
    token.cancel()
    assert token.cancelled
    token.watch(lambda: calls.append("late"))
    assert calls == ["kept", "late"]


def test_token_may_be_set_in_a_signal_handler_while_the_thread_waits() -> None:
    flow, token = Flow(), CancelToken()
    token.watch(lambda: flow.stop(InputError("cancelled", "")))

    def handle(_number: int, _frame: FrameType | None) -> None:
        token.cancel()

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Stopped):
            flow.wait(lambda: False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
