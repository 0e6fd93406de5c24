"""The workers of a run: this process, or several processes that share the cores.

A process of its own is told the name of a track through a pipe, and answers with progress and then a row. It
ends when its end of the pipe breaks, so that it does not outlive the run. One that dies fails its track, and
another takes its place.

Nothing heavy is imported before the process has limited its threads: see `serve`.
"""

import dataclasses
import logging
import os
import pickle
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stemwright.core.errors import CancelledError, InternalError, StemwrightError

if TYPE_CHECKING:
    from stemwright.eval.rows import FailedTrack, TrackScores
    from stemwright.eval.running import RunPlan
    from stemwright.eval.separating import Report

_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ENDING_S = 10.0


class Observer(Protocol):
    """Shows the progress of tracks."""

    def track(self, label: str) -> "AbstractContextManager[Report]":
        """Return a context for the time a track is in work, with what is called with its progress."""


def run_tracks(
    plan: "RunPlan", folder: Path, names: Sequence[str], workers: int, observer: Observer
) -> "Iterator[TrackScores | FailedTrack]":
    """Separate and score tracks; yield each row as it is there.

    Parameters
    ----------
    plan, folder
        As TrackRunner takes them.
    names
        Tracks to do.
    workers
        Processes; 1 for this one. Each has an equal share of the cores, unless the plan tells its threads.
    observer
        Shows the progress.

    Raises
    ------
    StemwrightError
        What is wrong with every track.
    """
    if workers == 1 or len(names) <= 1:
        yield from _here(plan, folder, names, observer)
        return
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    rows: queue.SimpleQueue[Any] = queue.SimpleQueue()
    pool = [_Process(plan, folder, _share(workers)) for _ in range(min(workers, len(names)))]
    threads = [
        threading.Thread(target=_drive, args=(process, waiting, rows, observer), daemon=True)
        for process in pool
    ]
    try:
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            item = rows.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for process in pool:
            process.stop()


def _share(workers: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _here(
    plan: "RunPlan", folder: Path, names: Sequence[str], observer: Observer
) -> "Iterator[TrackScores | FailedTrack]":
    from stemwright.eval.running import TrackRunner
    from stemwright.models.separation.separator import CancelToken

    cancel = CancelToken()
    with TrackRunner(plan, folder) as runner:
        for name in names:
            with observer.track(name) as report:
                row = runner.run(name, report, cancel)
            yield row


def _drive(
    process: "_Process", waiting: "queue.SimpleQueue[str]", rows: "queue.SimpleQueue[Any]", observer: Observer
) -> None:
    """Give a process one track after the other, until none waits."""
    from stemwright.eval.rows import FailedTrack

    try:
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                break
            try:
                with observer.track(name) as report:
                    rows.put(process.run(name, report))
            except InternalError as error:
                rows.put(FailedTrack(track=name, code=error.code, message=error.message, remedy=error.remedy))
        rows.put(None)
    except BaseException as error:
        rows.put(error)


class _Process:
    """A worker process, started when it first has something to do, and again after it died."""

    def __init__(self, plan: "RunPlan", folder: Path, threads: int) -> None:
        self._job = pickle.dumps((plan, folder))
        self._threads = threads
        self._process: Any = None
        self._pipe: Connection | None = None
        self._stopped = False

    def run(self, name: str, report: "Report") -> "TrackScores | FailedTrack":
        """Do a track.

        Raises
        ------
        InternalError
            The process died.
        StemwrightError
            What is wrong with every track.
        """
        pipe = self._pipe or self._start()
        try:
            pipe.send(name)
            while True:
                kind, *content = pipe.recv()
                if kind == "progress":
                    report(*content)
                elif kind == "row":
                    (row,) = content
                    return row  # type: ignore[no-any-return]
                else:
                    raise content[0]
        except (EOFError, OSError) as error:
            code = self._end()
            raise InternalError(
                f"the process that worked on {name} died ({code})",
                "memory may be short: use fewer --workers, or --low-memory",
            ) from error

    def stop(self) -> None:
        """End the process at once."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def _start(self) -> Connection:
        if self._stopped:
            raise CancelledError("the run was stopped", "")
        context = get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=serve, args=(far, self._job, self._threads), daemon=True)
        self._process.start()
        far.close()
        return self._pipe

    def _end(self) -> str:
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        process.join(_ENDING_S)
        code = process.exitcode
        if code is None:
            process.kill()
            return "it fell silent"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def serve(pipe: Connection, job: bytes, threads: int) -> None:
    """Work on tracks that the pipe names, in a process of its own, until the pipe breaks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's, which ends its processes
    for name in _THREAD_LIMITS:
        os.environ[name] = str(threads)
    logging.getLogger().addHandler(logging.NullHandler())  # what it would warn of stands in the rows
    plan, folder = pickle.loads(job)
    try:
        _serve(pipe, _limited(plan, threads), folder)
    except (EOFError, BrokenPipeError):
        return
    except StemwrightError as error:
        pipe.send(("error", error))


def _limited(plan: "RunPlan", threads: int) -> "RunPlan":
    """Give sessions and metrics this process's share of the cores."""
    from stemwright.eval.estimating import ModelChoice

    choice = plan.choice
    if isinstance(choice, ModelChoice) and choice.session.threads is None:
        session = dataclasses.replace(choice.session, threads=threads)
        choice = dataclasses.replace(choice, session=session)
    return dataclasses.replace(
        plan, choice=choice, options=dataclasses.replace(plan.options, threads=threads)
    )


def _serve(pipe: Connection, plan: "RunPlan", folder: Path) -> None:
    from stemwright.eval.running import TrackRunner
    from stemwright.models.separation.separator import CancelToken

    sending = threading.Lock()  # progress comes from threads of the separation

    def send(*message: object) -> None:
        with sending:
            pipe.send(message)

    def report(stage: str, share: float) -> None:
        send("progress", stage, share)

    with TrackRunner(plan, folder) as runner:
        while True:
            row = runner.run(pipe.recv(), report, CancelToken())
            send("row", row)
