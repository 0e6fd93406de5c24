"""Threads and bounded queues of one separation, and the token that cancels it.

All queues of a separation share one condition, so that a failure in one stage wakes every other
stage at once and nothing polls.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from stemwright.core.errors import OutOfMemoryError

T = TypeVar("T")


class CancelToken:
    """Set by whoever wants the work to stop; safe to use from any thread and from a signal handler."""

    def __init__(self) -> None:
        # Reentrant, because a signal handler may interrupt the very thread that holds it.
        self._lock = threading.RLock()
        self._cancelled = False
        self._watchers: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """Whether the work is to stop."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask the work to stop; more than once does no harm."""
        with self._lock:
            self._cancelled = True
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` at cancel, or now if that was already; returns what ends the watch."""
        with self._lock:
            self._watchers.append(watcher)
        if self._cancelled:
            watcher()

        def end() -> None:
            with self._lock:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)

        return end


class Stopped(Exception):  # noqa: N818 - it is a signal between the threads, not an error
    """Raised in a stage that has to end because the separation was stopped."""


class Flow:
    """What the stages of one separation share: a condition, their threads, and the reason to stop."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self._stopped = False
        self._reason: BaseException | None = None
        self._threads: list[threading.Thread] = []

    @property
    def stopped(self) -> bool:
        """Whether the stages have to end."""
        return self._stopped

    @property
    def reason(self) -> BaseException | None:
        """The error that stopped the stages; None if they run, or were just told to end."""
        return self._reason

    def stop(self, reason: BaseException | None = None) -> None:
        """End all stages; the first reason stays."""
        with self.condition:
            if not self._stopped:
                self._stopped = True
                self._reason = reason
            self.condition.notify_all()

    def check(self) -> None:
        """Raise Stopped if the stages have to end."""
        if self._stopped:
            raise Stopped

    def wake(self) -> None:
        """Let all waiting stages look again."""
        with self.condition:
            self.condition.notify_all()

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready`, called with the condition held, is true; raises Stopped if stopped."""
        with self.condition:
            self.condition.wait_for(lambda: self._stopped or ready())
            self.check()

    def start(self, name: str, stage: Callable[[], None]) -> None:
        """Run a stage in a thread of its own; an exception in it stops the flow."""

        def body() -> None:
            try:
                stage()
            except Stopped:
                return
            except MemoryError as error:
                failure = OutOfMemoryError(
                    "the memory ran out while separating", "use --low-memory or a smaller batch"
                )
                failure.__cause__ = error
                self.stop(failure)
            except BaseException as error:  # whatever it is, the consumer's thread raises it
                self.stop(error)

        thread = threading.Thread(target=body, name=f"stemwright-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait for the threads of all stages, except the one this is called from."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()


class Pipe(Generic[T]):
    """A bounded queue from one stage to the next.

    Parameters
    ----------
    flow
        The separation that it belongs to.
    capacity
        Most items that wait in it.
    """

    def __init__(self, flow: Flow, capacity: int) -> None:
        self._flow = flow
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._ended = False

    def wait_for_room(self) -> None:
        """Wait until an item can be put; with a single producer the next put will not wait."""
        self._flow.wait(lambda: len(self._items) < self._capacity)

    def put(self, item: T) -> None:
        """Append an item, waiting for room; raises Stopped if the flow is stopped."""
        with self._flow.condition:
            self.wait_for_room()
            self._items.append(item)
            self._flow.wake()

    def end(self) -> None:
        """Say that no more items will come."""
        with self._flow.condition:
            self._ended = True
            self._flow.wake()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """Take an item; StopIteration at the end, Stopped if the flow is stopped."""
        with self._flow.condition:
            self._flow.wait(lambda: bool(self._items) or self._ended)
            if not self._items:
                raise StopIteration
            item = self._items.popleft()
            self._flow.wake()
            return item
