"""Separator: recordings in, stems out, in blocks and in bounded memory.

    with Separator.open("htdemucs", options=SessionOptions(cache_dir=...)) as separator:
        with separator.separate(open_source("song.flac")) as separation:
            for block in separation:
                ...  # block.stems["vocals"], shape=(channels, n)

The result is deterministic and has the recording's length, rate and channels. It does not depend
on the batch size, nor (beyond 1e-5) on the size of the blocks that the recording is read in.
"""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from stemwright.core.audio.source import BLOCK_FRAMES, AudioSource
from stemwright.core.errors import CancelledError, OptionError
from stemwright.models.feeds import Lockstep, TrackAnalysis
from stemwright.models.lanes import PlanOptions, resolve, track_plan
from stemwright.models.members import Member, ModelChoice, open_members
from stemwright.models.mixing import Finisher, StemBlock, StemStage
from stemwright.models.pipeline import CancelToken, Flow, Pipe, Stopped
from stemwright.models.registry import Installed, ModelStore
from stemwright.models.sessions import SessionFacts, SessionOptions
from stemwright.models.stages import Batch, Job, Progress, WindowStage

__all__ = ["CancelToken", "Progress", "Separation", "SeparationOptions", "Separator", "StemBlock"]

RESIDUAL = "residual"
COMPLEMENT_PREFIX = "no_"
_WAITING_BLOCKS = 2


@dataclass(frozen=True, kw_only=True)
class SeparationOptions:
    """What to compute and how.

    Parameters
    ----------
    stems
        Names of the stems, in the order they are wanted; None for all.
    complement_of
        Two-stem mode: this stem, and `no_STEM`, the recording minus it.
    residual
        Also give `residual`, the recording minus all stems that are given, so that all together
        add up to the recording.
    overlap
        Share of a chunk by which consecutive chunks overlap; None for each model's own.
    discard_s
        Seconds of every call's output to discard at both ends, because the network lacks context
        there; 0 is the reference implementations' plan.
    shifts
        Number of randomly shifted passes to average (demucs' time-shift trick); 0 for a single
        pass without a shift.
    seed
        Seed of the shifts.
    batch_size
        Most chunks in one call of the network; None for what the device takes. It does not change
        the result.
    block_frames
        Samples in which the recording is read at a time.
    """

    stems: tuple[str, ...] | None = None
    complement_of: str | None = None
    residual: bool = False
    overlap: float | None = None
    discard_s: float = 0.0
    shifts: int = 0
    seed: int = 0
    batch_size: int | None = None
    block_frames: int = BLOCK_FRAMES


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
        Names of the stems that can be had; for each, the members' gains add up to 1.
    """

    def __init__(self, members: Sequence[Member], stems: tuple[str, ...]) -> None:
        if not members:
            raise ValueError("a separator needs a member")
        self._members = tuple(members)
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
        options: SessionOptions,
        weights: Sequence[float] | None = None,
        store: ModelStore | None = None,
    ) -> Self:
        """Open a model or bag, or several to be averaged.

        Parameters
        ----------
        models
            Names, paths or opened models.
        options
            Device, precision, threads.
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
        return cls(*open_members(choices, weights, store, options))

    @property
    def sample_rate(self) -> int:
        """Rate of the first model in Hz; stems come at the recording's rate."""
        return self._members[0].manifest.audio.sample_rate

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
        computed, remainder = _wanted(options or SeparationOptions(), self.stems)
        return computed if remainder is None else (*computed, remainder)

    def prepare(self, options: SeparationOptions | None = None) -> list[SessionFacts]:
        """Open the sessions that these options need, and tell what they use.

        Raises
        ------
        DeviceError, ModelFileError, OutOfMemoryError
            A session cannot be opened.
        OptionError
            The options ask for a stem that there is not.
        """
        computed, _ = _wanted(options or SeparationOptions(), self.stems)
        needed = [member for member in self._members if any(stem in member.gains for stem in computed)]
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
        computed, remainder = _wanted(options, self.stems)
        plan = _plan_options(options)
        request = resolve(self._members, computed, source.info, plan)
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
            submitted=Pipe[Batch](flow, max(1, max(fact.parallel_calls for fact in facts))),
            report=progress,
        )
        finisher = Finisher(computed, remainder, Lockstep(source=source, block_frames=options.block_frames))
        executor = self._enlist(flow, min(fact.parallel_calls for fact in facts))
        return Separation(job, executor, finisher, cancel)

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
    """

    def __init__(
        self, job: Job, executor: ThreadPoolExecutor, finisher: Finisher, cancel: CancelToken | None
    ) -> None:
        self._job = job
        self._flow = job.flow
        output = Pipe[StemBlock](self._flow, _WAITING_BLOCKS)
        self._blocks = iter(output)
        self.stem_names = finisher.names
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


def _wanted(options: SeparationOptions, available: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """Names of the stems to compute, and of the one that is the recording minus them."""
    if options.complement_of is not None:
        if options.stems is not None or options.residual:
            raise OptionError(
                "a stem and its complement leave no room for other stems or a residual",
                "ask for either the complement, or for stems and the residual",
            )
        computed: tuple[str, ...] = (options.complement_of,)
        remainder: str | None = COMPLEMENT_PREFIX + options.complement_of
    else:
        computed = available if options.stems is None else tuple(dict.fromkeys(options.stems))
        remainder = RESIDUAL if options.residual else None
    for stem in computed:
        if stem not in available:
            raise OptionError(f"there is no stem {stem!r}", f"the stems are {', '.join(available)}")
    if not computed:
        raise OptionError("no stems were asked for", f"the stems are {', '.join(available)}")
    if remainder in computed:
        raise OptionError(f"the model has a stem named {remainder} itself", "leave the residual out")
    return computed, remainder


def _plan_options(options: SeparationOptions) -> PlanOptions:
    for name, value, least in (
        ("shifts", options.shifts, 0),
        ("seed", options.seed, 0),
        ("discard_s", options.discard_s, 0),
        ("batch size", options.batch_size, 1),
        ("block size", options.block_frames, 1),
    ):
        if value is not None and not value >= least:
            raise OptionError(f"{name} {value} is not possible", f"give at least {least}")
    return PlanOptions(
        overlap=options.overlap, discard_s=options.discard_s, shifts=options.shifts, seed=options.seed
    )
