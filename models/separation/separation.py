"""The stems of one recording as an iterator that owns the threads which make them."""

import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from types import TracebackType
from typing import Self

import numpy as np

from stemwright.core.errors import CancelledError
from stemwright.models.separation.activity import Interval
from stemwright.models.separation.feeds import TrackAnalysis
from stemwright.models.separation.finishing import Finisher, StemBlock
from stemwright.models.separation.job import Job
from stemwright.models.separation.lanes import RemainderMode
from stemwright.models.separation.mixing import StemStage
from stemwright.models.separation.pipeline import CancelToken, Pipe, Stopped
from stemwright.models.separation.stages import WindowStage

_WAITING_BLOCKS = 2
"""Blocks that may wait for the consumer: one to take while the next is made; chosen here."""


class Separation(Iterator[StemBlock]):
    """The stems of one recording, block after block; made by `Separator.separate`.

    Work begins at once in threads of its own, and pauses when a few blocks wait to be taken. Leave
    it early by `close`, or by using it in a `with` statement.

    Attributes
    ----------
    stem_names
        Names of the stems in every block, in order.
    peaks
        Largest magnitude of each stem in the blocks that were taken.
    remainder
        How the stem that is the model's remainder is made; None if none of the stems is.
    """

    def __init__(
        self,
        job: Job,
        executor: Executor,
        finisher: Finisher,
        names: tuple[str, ...],
        cancel: CancelToken | None,
        *,
        remainder: RemainderMode | None = None,
    ) -> None:
        self._job = job
        self._flow = job.flow
        output = Pipe[StemBlock](self._flow, _WAITING_BLOCKS)
        self._blocks = iter(output)
        self.stem_names = names
        self.remainder = remainder
        self.peaks = dict.fromkeys(self.stem_names, 0.0)
        self._finished = False
        flow = self._flow
        self._unwatch = cancel.watch(lambda: flow.stop(_cancelled())) if cancel is not None else None
        # The threads do not hold this object: one that is dropped without close() ends them.
        self._finalizer = weakref.finalize(self, flow.stop)
        flow.start("windows", WindowStage(job, executor).run)
        flow.start("stems", StemStage(job, output, finisher).run)

    @property
    def analysis(self) -> TrackAnalysis:
        """What the first pass found; waits for it, and raises what it raised."""
        try:
            return self._job.planned().analysis
        except Stopped:
            self._end()
            reason = self._flow.reason or ValueError("the separation was closed")
            raise reason from reason.__cause__

    @property
    def frames(self) -> int:
        """Exact length in samples; waits for the first pass, and raises what it raised."""
        return self.analysis.frames

    @property
    def activity(self) -> Mapping[str, tuple[Interval, ...]]:
        """For each stem of a query, begin and end in seconds of where it is not silenced, in order.

        Complete when all blocks were taken, as far as the network has come before that.
        """
        queried = {lane.query.name for lane in self._job.request.lanes if lane.query is not None}
        stems = tuple(name for name in self.stem_names if name in queried)
        return self._job.activity.intervals(stems, self.analysis.duration_s) if stems else {}

    @property
    def sample_rate(self) -> int:
        """Rate of the stems in Hz: the recording's."""
        return self._job.source.info.sample_rate

    @property
    def channels(self) -> int:
        """Channels of each stem: the recording's."""
        return self._job.source.info.channels

    def __next__(self) -> StemBlock:
        if self._finished:
            raise StopIteration
        try:
            block = next(self._blocks)
        except StopIteration:
            self._end()
            raise
        except Stopped:
            self._end()
            reason = self._flow.reason
            if reason is None:
                raise StopIteration from None
            raise reason from reason.__cause__
        for name, samples in block.stems.items():
            self.peaks[name] = max(self.peaks[name], float(np.abs(samples).max()))
        return block

    def close(self) -> None:
        """Stop and wait for the threads; blocks that were not taken are lost."""
        self._flow.stop()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self) -> None:
        self._finished = True
        self._finalizer.detach()
        if self._unwatch is not None:
            self._unwatch()
        self._flow.join()


def _cancelled() -> CancelledError:
    return CancelledError("the separation was cancelled", "start it again")
