"""Work in a thread of its own while another keeps telling how it goes, and stops it when it may not go on."""

import concurrent.futures
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from stemwright.models.separation.job import Progress
from stemwright.models.separation.pipeline import CancelToken

T = TypeVar("T")


class Gauge:
    """How far a piece of work is, between 0 and 1; written by one thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fraction = 0.0

    @property
    def fraction(self) -> float:
        """Part that is done."""
        with self._lock:
            return self._fraction

    def set(self, fraction: float) -> None:
        """Write the part that is done."""
        with self._lock:
            self._fraction = min(1.0, max(self._fraction, fraction))

    def follow(self, progress: Progress) -> None:
        """Take over the progress of a separation: the network is nearly all of it."""
        if progress.total_chunks:
            self.set(0.02 + 0.93 * progress.done_chunks / progress.total_chunks)


def watched(work: Callable[[Gauge, CancelToken], T], beat: Callable[[float], None], *, every_s: float) -> T:
    """Run work while `beat` is called with its fraction; what `beat` raises cancels the work.

    Parameters
    ----------
    work
        Runs in a thread of its own.
    beat
        Called in this thread, at the beginning and then every `every_s`.
    every_s
        Time between two calls.

    Raises
    ------
    BaseException
        What the work raises; or what `beat` raises, once the work has stopped.
    """
    gauge, cancel = Gauge(), CancelToken()
    beat(0.0)
    with ThreadPoolExecutor(1, thread_name_prefix="stemwright-stage") as pool:
        # with this thread's context, so that what it logs carries the job's id
        future = pool.submit(contextvars.copy_context().run, work, gauge, cancel)
        try:
            while not concurrent.futures.wait([future], timeout=every_s).done:
                beat(gauge.fraction)
        except BaseException:
            cancel.cancel()
            concurrent.futures.wait([future])
            raise
        return future.result()
