"""The stage before the network: reads a recording twice and submits its windows in batches.

    WindowStage   reads the recording twice, cuts windows, transforms them, submits batches
    (network)     the separator's executor runs the batches
    StemStage     (mixing.py) waits for them in order, inverts the transform, overlap-adds, sums

Each stage runs in a thread of its own, so that decoding, transforms and encoding overlap with the
network. What lies between them is bounded in batches, never by the duration.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.models.separation.feeds import FeedReader, SlidingBuffer, analyse, changed_while_read
from stemwright.models.separation.job import Batch, Count, Job, Task
from stemwright.models.separation.lanes import Lane, Schedule, schedule
from stemwright.models.separation.members import Member
from stemwright.models.separation.pipeline import Flow
from stemwright.models.separation.plan import Chunk
from stemwright.models.separation.states import StateChain

_SILENT_PER_CALL = 8
"""Silent windows that may wait for one that is not, by the size of a batch; chosen here."""

PROGRESS_INTERVAL_S = 0.1
"""Least time between two reports of the first pass; chosen here."""


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """A task that waits for its batch, with what its call is given; a silent one with nothing."""

    task: Task
    window: FloatArray | None = None
    condition: FloatArray | None = None


class WindowStage:
    """Decode, resample, cut, transform, submit."""

    def __init__(self, job: Job, executor: Executor) -> None:
        self._job = job
        self._executor = executor
        self._pending: dict[Member, list[_Pending]] = {}
        self._chains: dict[int, StateChain] = {}
        self._last_report = 0.0

    def run(self) -> None:
        """Do both passes over the recording."""
        job = self._job
        analysis = analyse(job.source, job.request.feeds, job.block_frames, self._observe)
        plan = schedule(job.request, analysis)
        # Reported before the other stage can know of the plan, so that no two reports overlap.
        job.progress("separation", Count(done=0, total=plan.chunks), 0, analysis.frames)
        job.schedule = plan
        job.flow.wake()
        self._submit_windows(plan)
        for member in list(self._pending):
            self._submit(member)
        job.submitted.end()

    def _observe(self, frames: int) -> None:
        self._job.flow.check()
        now = time.monotonic()
        if now - self._last_report >= PROGRESS_INTERVAL_S:
            self._last_report = now
            self._job.progress("analysis", Count(done=0, total=0), frames, self._job.source.info.frames)

    def _submit_windows(self, plan: Schedule) -> None:
        job = self._job
        buffers = [
            SlidingBuffer(feed.group.model_channels, facts.frames)
            for feed, facts in zip(job.request.feeds, plan.analysis.feeds, strict=True)
        ]
        following = [0] * len(job.request.lanes)
        reader = FeedReader(job.source, job.request.feeds, job.block_frames, lambda _: job.flow.check())
        for feed, block in reader:
            buffers[feed].append(block)
            self._cut(plan, feed, buffers[feed], following)
        if reader.frames != plan.analysis.frames:
            raise changed_while_read()

    def _cut(self, plan: Schedule, feed: int, buffer: SlidingBuffer, following: list[int]) -> None:
        """Queue the windows that the buffer holds, then forget what no later window needs."""
        lanes = [lane for lane, owner in enumerate(self._job.request.lanes) if owner.feed == feed]
        waiting: dict[int, int] = {}
        # One window a lane in turn, so that all lanes advance together and queries share their windows.
        while len(waiting) < len(lanes):
            for lane in lanes:
                track = plan.plans[lane]
                if lane in waiting:
                    continue
                if following[lane] >= track.count:
                    waiting[lane] = buffer.end
                    continue
                chunk = track.chunk(following[lane])
                if buffer.has(chunk.window_start + chunk.window_samples):
                    following[lane] += 1
                    self._queue(plan, lane, chunk, buffer)
                else:
                    waiting[lane] = chunk.window_start
        buffer.discard(min(waiting.values(), default=buffer.end))

    def _queue(self, plan: Schedule, lane: int, chunk: Chunk, buffer: SlidingBuffer) -> None:
        owner = self._job.request.lanes[lane]
        size = chunk.window_samples
        samples, before = buffer.span(chunk.window_start, chunk.window_start + size)
        # A state moves on in silence too, so that only a recording that is silent throughout is not run.
        silent = plan.analysis.silent if owner.member.graph.state else not samples.any()
        window, condition = None, None
        if not silent:
            window = np.zeros((samples.shape[0], size), np.float32)
            inside = window[:, before : before + samples.shape[1]]
            level = plan.levels[lane]
            if level is None:
                inside[...] = samples
            else:
                level.apply(samples, out=inside)
            if owner.query is not None:
                condition = self._condition(owner, chunk, window)
                silent = condition is None
        frames = plan.analysis.feeds[owner.feed].frames
        span = (-chunk.window_start, frames - chunk.window_start)
        task = Task(lane=lane, chunk=chunk, silent=silent, span=span)
        entry = _Pending(task=task) if silent else _Pending(task=task, window=window, condition=condition)
        self._append(owner.member, entry)

    def _condition(self, lane: Lane, chunk: Chunk, window: FloatArray) -> FloatArray | None:
        """Ask a lane's query for the condition of a window; None if the stem is silent there."""
        query, rules = lane.query, lane.member.manifest.query
        if query is None or rules is None:
            return None
        rate = lane.member.manifest.audio.sample_rate
        # A key for each separation, feed and window.
        place = self._job.serial * len(self._job.request.feeds) + lane.feed
        condition = query.source.condition(window, rate, (place << 48) + chunk.window_start)
        if condition is None:
            return None
        if condition.shape != (rules.size,):
            raise ValueError(f"{query.name}: a condition has shape {condition.shape}, not ({rules.size},)")
        self._job.activity.add(query.name, chunk.start / rate, (chunk.start + chunk.length) / rate)
        return np.asarray(condition, np.float32)

    def _append(self, member: Member, entry: _Pending) -> None:
        """Let a window wait for its batch, and submit that if it is full."""
        pending = self._pending.get(member, [])
        if pending and pending[0].window is not None and entry.window is not None:
            lengths = {one.window.shape[-1] for one in (pending[0], entry) if one.window is not None}
            if len(lengths) > 1:
                self._submit(member)
        pending = self._pending.setdefault(member, [])
        pending.append(entry)
        # Silent chunks cost nothing, so that they wait for company only behind a chunk that does.
        full = member.batch_size(self._job.batch_size)
        count = len(pending)
        if member.graph.conditional:
            silent = sum(one.task.silent for one in pending)
            count = max(count - silent, silent // _SILENT_PER_CALL)
        if pending[0].task.silent or count >= full:
            self._submit(member)

    def _submit(self, member: Member) -> None:
        pending = self._pending.pop(member, [])
        if not pending:
            return
        job = self._job
        calls = [entry for entry in pending if entry.window is not None]
        inputs = None
        if calls:
            conditions = [entry.condition for entry in calls if entry.condition is not None]
            inputs = member.prepare(
                np.stack([entry.window for entry in calls if entry.window is not None]),
                condition=np.stack(conditions) if conditions else None,
                spans=[entry.task.span for entry in calls],
            )
        job.submitted.wait_for_room()
        tasks = tuple(entry.task for entry in pending)
        call = None
        if inputs is not None:
            call = self._start(member, tasks[0].lane, inputs.arrays)
            call.add_done_callback(lambda _: job.flow.wake())
        spectrum = None if inputs is None else inputs.spectrum
        job.submitted.put(Batch(member=member, tasks=tasks, call=call, spectrum=spectrum))

    def _start(
        self, member: Member, lane: int, inputs: Mapping[str, FloatArray]
    ) -> "Future[dict[str, FloatArray]]":
        """Let the executor run a call; with a state, after the one before of its lane."""
        if not member.graph.state:
            return self._executor.submit(_run, self._job.flow, member, inputs)
        if lane not in self._chains:
            self._chains[lane] = StateChain(member, self._executor, self._job.flow)
        return self._chains[lane].submit(inputs)


def _run(flow: Flow, member: Member, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    flow.check()
    return member.run(inputs)
