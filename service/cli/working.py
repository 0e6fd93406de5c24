"""The work of `stemwright worker`."""

import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stemwright.core.errors import EXIT_OK, OptionError
from stemwright.service.jobs.supervisor import Supervisor
from stemwright.service.logs import configure_logs
from stemwright.service.settings import Settings, load_settings

if TYPE_CHECKING:
    from stemwright.service.jobs.worker import Worker


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked of `worker`; None for what the settings say."""

    queues: tuple[str, ...] | None
    device: str | None
    once: bool
    config: Path | None
    until_eof: bool


def work(request: Request) -> int:
    """Run a worker in this process, or for several queues one process each; return the exit code.

    Raises
    ------
    StemwrightError
        Settings, database or storage do not allow it.
    """
    settings = load_settings(request.config, queues=request.queues, device=request.device)
    if len(settings.queues) == 1:
        _work_here(settings, request)
    if request.once:
        raise OptionError("--once goes with one queue", "name one with --queues")
    return _supervise(settings)


def _work_here(settings: Settings, request: Request) -> None:
    configure_logs(settings.log_level, settings.log_format)
    from stemwright.service.jobs.worker import Worker, run_worker

    worker = Worker(settings, settings.queues[0])
    if request.until_eof:
        threading.Thread(target=_stop_at_eof, args=(worker,), daemon=True).start()
    run_worker(worker, once=request.once, supervised=request.until_eof)


def _stop_at_eof(worker: "Worker") -> None:
    """End with the supervisor, whose end of the pipe is closed by its death."""
    while sys.stdin.buffer.read(1):
        pass
    worker.stop()


def _supervise(settings: Settings) -> int:
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    with Supervisor(settings):
        asked.wait()
    return EXIT_OK
