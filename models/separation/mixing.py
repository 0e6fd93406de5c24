"""The stage after the network: from the outputs of its calls to blocks of stems.

Chunks are cross-faded lane by lane, the lanes of one sample rate are summed, each sum is brought
to the recording's rate, and the sums are added.
"""

from collections.abc import Mapping

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import Resampler
from stemwright.core.errors import InternalError
from stemwright.models.separation.feeds import FeedFacts
from stemwright.models.separation.finishing import Finisher, StemBlock
from stemwright.models.separation.job import Batch, Count, Job
from stemwright.models.separation.lanes import Lane, Request, Schedule
from stemwright.models.separation.ordering import StemOrder
from stemwright.models.separation.overlap import AlignedSum, OverlapAdd, Part
from stemwright.models.separation.pipeline import Pipe
from stemwright.models.separation.plan import Chunk, TrackPlan


class StemStage:
    """Invert, overlap-add, sum, resample back, complete with what the recording itself gives."""

    def __init__(self, job: Job, output: Pipe[StemBlock], finisher: "Finisher") -> None:
        self._job = job
        self._output = output
        self._finisher = finisher

    def run(self) -> None:
        """Turn the batches into stem blocks, in order."""
        job = self._job
        plan = job.planned()
        try:
            self._finisher.expect(plan.analysis.frames)
            mixer = Mixer(job.request, plan, job.source.info.sample_rate, job.source.info.channels)
            done = 0
            for batch in job.submitted:
                self._add(mixer, plan, batch)
                done += len(batch.tasks)
                self._give(mixer.pop())
                chunks = Count(done=done, total=plan.chunks)
                job.progress("separation", chunks, self._finisher.received, plan.analysis.frames)
            self._give(mixer.finish())
            for block in self._finisher.rest(job.flow.check):
                self._output.put(block)
            if self._finisher.position != plan.analysis.frames:
                raise InternalError(
                    f"{self._finisher.position} of {plan.analysis.frames} samples came out", "report this"
                )
        finally:
            self._finisher.close()
        self._output.end()

    def _add(self, mixer: "Mixer", plan: Schedule, batch: Batch) -> None:
        stems = None
        lanes = self._job.request.lanes
        if batch.call is not None:
            call = batch.call
            self._job.flow.wait(call.done)
            # All lanes of a member use the same stems, all windows of a batch have the same length.
            size = next(task.chunk.window_samples for task in batch.tasks if not task.silent)
            picks = lanes[batch.tasks[0].lane].picks
            stems = batch.member.recover(call.result(), batch.spectrum, picks, size)
        row = 0
        for task in batch.tasks:
            piece = None
            if stems is not None and not task.silent:
                span = slice(task.chunk.skip, task.chunk.skip + task.chunk.length)
                piece = stems[row, :, :, span]
                row += 1
                level = plan.levels[task.lane]
                if level is not None:
                    level.undo(piece)
            mixer.add(task.lane, task.chunk, piece)

    def _give(self, block: FloatArray | None) -> None:
        if block is None or not block.shape[-1]:
            return
        for finished in self._finisher.add(block):
            self._output.put(finished)


class Mixer:
    """Joins the chunks of all lanes into stems at the recording's rate and channels.

    Parameters
    ----------
    request, plan
        The lanes and their plans.
    sample_rate, channels
        Of the recording.
    """

    def __init__(self, request: Request, plan: Schedule, sample_rate: int, channels: int) -> None:
        self._frames = plan.analysis.frames
        self._lanes = request.lanes
        self._orders = [
            _order(lane, track, plan.analysis.feeds[lane.feed])
            for lane, track in zip(request.lanes, plan.plans, strict=True)
        ]
        self._shape = (len(request.stems), channels)
        self._given = 0
        self._adders = [
            OverlapAdd(track, len(lane.picks), request.feeds[lane.feed].group.model_channels)
            for lane, track in zip(request.lanes, plan.plans, strict=True)
        ]
        self._groups = [request.feeds[lane.feed].group for lane in request.lanes]
        rates = [request.feeds[lane.feed].sample_rate for lane in request.lanes]
        buses = {
            rate: RateBus(
                {i: lane for i, lane in enumerate(request.lanes) if rates[i] == rate},
                Resampler(rate, sample_rate, len(request.stems) * channels),
                self._shape,
            )
            for rate in dict.fromkeys(rates)
        }
        self._buses = tuple(buses.values())
        self._bus_of = [buses[rate] for rate in rates]
        whole = Part(
            stems=tuple(range(self._shape[0])),
            channels=tuple(range(channels)),
            gains=(1.0,) * self._shape[0],
        )
        self._total = AlignedSum([whole] * len(self._buses), *self._shape)

    def add(self, lane: int, chunk: Chunk, piece: FloatArray | None) -> None:
        """Take the next chunk of a lane, shape=(stems of the lane, model channels, chunk.length)."""
        order = self._orders[lane]
        if order is not None:
            piece = order.apply(chunk, piece)
        final = self._lanes[lane].stems(self._adders[lane].add(chunk, piece))
        self._bus_of[lane].push(lane, self._groups[lane].from_model(final))

    def pop(self) -> FloatArray | None:
        """Stems that are complete now, shape=(stems, channels, n), or None."""
        for index, bus in enumerate(self._buses):
            self._total.push(index, bus.pop())
        return self._limit(self._total.pop())

    def finish(self) -> FloatArray | None:
        """Return the rest after the last chunk."""
        for index, bus in enumerate(self._buses):
            self._total.push(index, bus.finish())
        return self._limit(self._total.pop())

    def _limit(self, block: FloatArray | None) -> FloatArray | None:
        if block is None:
            return None
        block = block[..., : self._frames - self._given]
        self._given += block.shape[-1]
        return block


def _order(lane: Lane, plan: TrackPlan, facts: FeedFacts) -> StemOrder | None:
    """Return what keeps a lane's stems in order, if they are equals and no state does."""
    manifest = lane.member.manifest
    if manifest.stem_kind != "interchangeable" or manifest.graph.state:
        return None
    return StemOrder(plan, len(lane.picks), facts.std)


class RateBus:
    """Sum of the lanes of one model rate, brought to the recording's rate.

    Parameters
    ----------
    lanes
        The lanes by their number.
    resampler
        From the models' rate to the recording's, over all stems' channels.
    shape
        Stems and channels of the sum.
    """

    def __init__(self, lanes: Mapping[int, Lane], resampler: Resampler, shape: tuple[int, int]) -> None:
        self._streams = {lane: stream for stream, lane in enumerate(lanes)}
        self._sum = AlignedSum([lane.part for lane in lanes.values()], *shape)
        self._resampler = resampler
        self._shape = shape

    def push(self, lane: int, block: FloatArray) -> None:
        """Take a block of one of its lanes."""
        self._sum.push(self._streams[lane], block)

    def pop(self) -> FloatArray:
        """Return what is ready at the recording's rate, shape=(stems, channels, n >= 0)."""
        block = self._sum.pop()
        if block is None:
            return np.zeros((*self._shape, 0), np.float32)
        return self._unfold(self._resampler.push(block.reshape(-1, block.shape[-1])))

    def finish(self) -> FloatArray:
        """Return the rest, at least as long as the recording.

        One more sample is fed in, because a length that was rounded on the way to the model's rate
        could come back short by the rounding.
        """
        if self._resampler.in_rate == self._resampler.out_rate:
            return self.pop()
        ready = self.pop()
        spare = self._unfold(self._resampler.push(np.zeros((self._resampler.channels, 1), np.float32)))
        return np.concatenate([ready, spare, self._unfold(self._resampler.flush())], axis=-1)

    def _unfold(self, block: FloatArray) -> FloatArray:
        return block.reshape(*self._shape, block.shape[-1])
