"""Time of a run, and what share of it the network waits for data."""

import time
from collections.abc import Iterator

from stemwright.training.data.batches import Batch


class Clock:
    """Measures a run.

    Parameters
    ----------
    before
        Seconds that the run took before it was resumed.
    batch
        Examples of a step.
    """

    def __init__(self, before: float, batch: int) -> None:
        self._began = time.monotonic() - before
        self._batch = batch
        self._mark = time.monotonic()
        self._waited = 0.0
        self._steps = 0

    @property
    def seconds(self) -> float:
        """Time of the run in all."""
        return time.monotonic() - self._began

    def waiting_for(self, examples: Iterator[Batch]) -> Batch:
        """Take the next batch and count the time until it comes."""
        began = time.monotonic()
        batch = next(examples)
        self._waited += time.monotonic() - began
        self._steps += 1
        return batch

    def rates(self) -> dict[str, float]:
        """Return examples a second and the share of time spent waiting for data, since the last call."""
        now = time.monotonic()
        passed = max(1e-9, now - self._mark)
        found = {"examples_per_s": self._steps * self._batch / passed, "waiting": self._waited / passed}
        self._mark, self._waited, self._steps = now, 0.0, 0
        return found
