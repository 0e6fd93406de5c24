"""What the stages of one separation share: the request, the batches between them, the progress."""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from stemwright.core.arrays import ComplexArray, FloatArray
from stemwright.core.audio.source import AudioSource
from stemwright.models.separation.activity import ActivityLog
from stemwright.models.separation.lanes import Request, Schedule
from stemwright.models.separation.members import Member
from stemwright.models.separation.pipeline import Flow, Pipe
from stemwright.models.separation.plan import Chunk

_SERIALS = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a separation is.

    Parameters
    ----------
    stage
        `analysis` during the first pass, `separation` during the second.
    done_chunks, total_chunks
        Chunks of all models and passes; 0 of 0 during the analysis.
    audio_s
        Seconds of the recording that this pass has done.
    total_s
        Length of the recording in seconds: from its header during the analysis (None if it does
        not say), exact during the separation.
    elapsed_s
        Seconds since the separation began.
    """

    stage: Literal["analysis", "separation"]
    done_chunks: int
    total_chunks: int
    audio_s: float
    total_s: float | None
    elapsed_s: float

    @property
    def fraction(self) -> float:
        """Share of this stage that is done, 0 to 1; 0 where the length is not known yet."""
        if self.stage == "separation":
            return self.done_chunks / self.total_chunks if self.total_chunks else 1.0
        return min(1.0, self.audio_s / self.total_s) if self.total_s else 0.0


@dataclass(frozen=True, kw_only=True)
class Count:
    """So many of so many."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """A chunk of a lane; a silent one is not run.

    Parameters
    ----------
    lane, chunk
        Which one.
    silent
        Whether the window is silent, or nothing sounds in it that was asked for.
    span
        Begin and end of the recording, in samples from the window's begin.
    """

    lane: int
    chunk: Chunk
    silent: bool
    span: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Chunks of one member that were submitted together; `call` is None if all are silent."""

    member: Member
    tasks: tuple[Task, ...]
    call: "Future[dict[str, FloatArray]] | None"
    spectrum: ComplexArray | None


@dataclass(kw_only=True)
class Job:
    """What the stages of one separation share.

    Parameters
    ----------
    request
        What to compute.
    source
        The recording.
    block_frames
        Size of the blocks it is read in.
    batch_size
        Largest batch that was asked for, None for the sessions' own.
    flow
        Threads and the reason to stop.
    submitted
        Batches from the first stage to the second.
    report
        Called with the progress.
    """

    request: Request
    source: AudioSource
    block_frames: int
    batch_size: int | None
    flow: Flow
    submitted: Pipe[Batch]
    report: Callable[[Progress], None] | None
    schedule: Schedule | None = None
    activity: ActivityLog = field(default_factory=ActivityLog)
    serial: int = field(default_factory=lambda: next(_SERIALS))
    started: float = field(default_factory=time.monotonic)

    def progress(
        self, stage: Literal["analysis", "separation"], chunks: Count, frames: int, total_frames: int | None
    ) -> None:
        """Report where a stage is, `frames` at the recording's rate."""
        if self.report is None:
            return
        rate = self.source.info.sample_rate
        self.report(
            Progress(
                stage=stage,
                done_chunks=chunks.done,
                total_chunks=chunks.total,
                audio_s=frames / rate,
                total_s=total_frames / rate if total_frames is not None else None,
                elapsed_s=time.monotonic() - self.started,
            )
        )

    def planned(self) -> Schedule:
        """Wait for the first pass; raises Stopped if the flow ended before it did."""
        while self.schedule is None:
            self.flow.wait(lambda: self.schedule is not None)
        return self.schedule
