"""Separator: recordings in, stems out, in blocks and in bounded memory.

    with Separator.open("htdemucs") as separator:
        with separator.separate(open_source("song.flac")) as separation:
            for block in separation:
                ...  # block.stems["vocals"], shape=(channels, n)

The result is deterministic and has the recording's length, rate and channels. It does not depend
on the batch size, nor (beyond 1e-5) on the size of the blocks that the recording is read in.
"""

import math
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import CancelledError
from stemwright.models.manifest import QueryRules
from stemwright.models.registry.store import Installed, ModelStore
from stemwright.models.separation.choosing import ModelChoice, open_members
from stemwright.models.separation.finishing import Finisher, StemBlock
from stemwright.models.separation.job import Batch, Job, Progress
from stemwright.models.separation.lanes import Choice, Request, resolve, track_plan
from stemwright.models.separation.members import Member
from stemwright.models.separation.options import Offer, SeparationOptions, plan_options, wanted_stems
from stemwright.models.separation.pipeline import CancelToken, Flow, Pipe
from stemwright.models.separation.separation import Separation
from stemwright.models.sessions.opening import SessionFacts, SessionOptions

__all__ = ["CancelToken", "Progress", "Separation", "SeparationOptions", "Separator", "StemBlock"]

_STATEFUL_AHEAD = 4
"""Calls of each lane with a state that may be submitted ahead; chosen here."""


class Separator:
    """One or more models, ready to separate any number of recordings.

    Sessions are opened when a stem first needs them and stay open. Several recordings may be in
    work at the same time: their calls of the network take turns, so that one recording is decoded
    or encoded while the network works on another.

    Parameters
    ----------
    members
        The models with their shares.
    stems
        Names of the stems that can be had; for each, the members' gains add up to 1. None for a model
        whose stems are asked for by queries.

    Raises
    ------
    OptionError
        Models that cannot be averaged.
    """

    def __init__(self, members: Sequence[Member], stems: tuple[str, ...]) -> None:
        if not members:
            raise ValueError("a separator needs a member")
        for stem in stems:
            total = sum(member.gains.get(stem, 0.0) for member in members)
            if not math.isclose(total, 1.0, rel_tol=1e-6):
                raise ValueError(f"gains for {stem} add up to {total:g}")
        self._members = tuple(members)
        self._offer = Offer.of([member.manifest for member in members], stems)
        self.stems = stems
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._flows: weakref.WeakSet[Flow] = weakref.WeakSet()
        self._closed = False

    @classmethod
    def open(
        cls,
        models: ModelChoice | Sequence[ModelChoice],
        *,
        options: SessionOptions | None = None,
        weights: Sequence[float] | None = None,
        store: ModelStore | None = None,
    ) -> Self:
        """Open a model or bag, or several to be averaged.

        Parameters
        ----------
        models
            Names, paths or opened models.
        options
            Device, precision, threads; None for the best that works here.
        weights
            Weight of each model in the average; None for equal ones.
        store
            Where names are looked up; None for the user's store.

        Raises
        ------
        OptionError
            No models, weights that make no average, or models without a common stem.
        ModelNotFoundError, ModelFileError
            A model is not installed, or damaged.
        """
        choices = [models] if isinstance(models, str | Path | Installed) else models
        return cls(*open_members(choices, weights, store, options or SessionOptions()))

    @property
    def sample_rate(self) -> int:
        """Rate of the first model in Hz; stems come at the recording's rate."""
        return self._members[0].manifest.audio.sample_rate

    @property
    def query_rules(self) -> QueryRules | None:
        """How the model is asked; None for models whose stems are fixed."""
        return self._members[0].manifest.query

    @property
    def facts(self) -> dict[str, SessionFacts]:
        """What the sessions that are open use, by the name of the model.

        `batch_limit` is what has proved to fit: it falls when the memory ran out.
        """
        return {member.name: facts for member in self._members if (facts := member.facts) is not None}

    def output_stems(self, options: SeparationOptions | None = None) -> tuple[str, ...]:
        """Names of the stems that `separate` gives with these options, in order.

        Raises
        ------
        OptionError
            The options ask for a stem that there is not, or contradict each other.
        """
        return wanted_stems(options or SeparationOptions(), self._offer).names

    def prepare(self, options: SeparationOptions | None = None) -> list[SessionFacts]:
        """Open the sessions that these options need, all without options, and tell what they use.

        Raises
        ------
        DeviceError, ModelFileError, OutOfMemoryError
            A session cannot be opened.
        OptionError
            The options ask for a stem that there is not.
        """
        stems = self.stems if options is None else wanted_stems(options, self._offer).computed
        needed = [
            member
            for member in self._members
            if self._offer.by_query or any(stem in member.gains for stem in stems)
        ]
        return [member.session.facts for member in needed]

    def separate(
        self,
        source: AudioSource,
        options: SeparationOptions | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> "Separation":
        """Begin to separate a recording; iterate over the result.

        Parameters
        ----------
        source
            The recording; it is read twice, and a third time alongside for a residual or a
            complement.
        options
            What to compute.
        progress
            Called with the progress from threads of the separation, never by two at a time.
        cancel
            Ends the work within one chunk; the iterator then raises CancelledError.

        Raises
        ------
        OptionError
            Options that contradict each other or the models.
        DeviceError, ModelFileError, OutOfMemoryError
            A session cannot be opened.
        """
        options = options or SeparationOptions()
        wanted = wanted_stems(options, self._offer)
        plan = plan_options(options)
        remainder = options.remainder or "subtract"
        choice = Choice(stems=wanted.computed, queries=options.queries, remainder=remainder)
        request = resolve(self._members, choice, source.info, plan)
        for lane in request.lanes:
            track_plan(lane, plan, frames=1)
        facts = self.prepare(options)
        flow = Flow()
        job = Job(
            request=request,
            source=source,
            block_frames=options.block_frames,
            batch_size=options.batch_size,
            flow=flow,
            submitted=Pipe[Batch](flow, _batches_ahead(request, facts)),
            report=progress,
        )
        finisher = Finisher(
            wanted, source, options.block_frames, shares=request.recording, fitted=self._offer.joint
        )
        executor = self._enlist(flow, min(fact.parallel_calls for fact in facts))
        made = remainder if self._offer.remainder in wanted.given else None
        return Separation(job, executor, finisher, wanted.names, cancel, remainder=made)

    def close(self) -> None:
        """Stop what is in work, wait for the calls in flight, free the sessions."""
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
            flows = list(self._flows)
        for flow in flows:
            flow.stop(CancelledError("the separator was closed", ""))
            flow.join()
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)
        for member in self._members:
            member.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enlist(self, flow: Flow, parallel_calls: int) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed:
                raise ValueError("the separator is closed")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(max(1, parallel_calls), "stemwright-network")
            self._flows.add(flow)
            return self._executor


def _batches_ahead(request: Request, facts: Sequence[SessionFacts]) -> int:
    """Batches that may wait between the stages: as many as can be in flight at once.

    Calls with a state take turns within their lane; more of them, so that all lanes have one.
    """
    calls = max(1, max(fact.parallel_calls for fact in facts))
    stateful = any(lane.member.graph.state for lane in request.lanes)
    return max(calls, _STATEFUL_AHEAD * len(request.lanes)) if stateful else calls
