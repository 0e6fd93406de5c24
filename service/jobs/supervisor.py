"""Keeps workers running: starts them, starts them again when they die, and ends them with it."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from stemwright.service.settings import PREFIX, Settings

_LOG = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "stemwright.service.cli")
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
# A worker that lived so long, or was killed, has not failed at its start.
_HEALTHY_S = 60.0
_SPARE_S = 10.0


@dataclass(kw_only=True)
class _Child:
    queue: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = 0.0
    due: float = 0.0


class Supervisor:
    """Runs one worker for each queue; a context manager.

    A worker that dies is started again, after a pause that grows while it dies soon. Workers end with this
    process, however it ends: they notice that their standard input was closed.

    Parameters
    ----------
    settings
        Handed to the workers through their environment.
    queues
        One worker each; None for those of the settings.
    command
        What runs `stemwright`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        queues: Sequence[str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._settings = settings
        self._command = tuple(command)
        self._children = [_Child(queue=queue) for queue in queues or settings.queues]
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="stemwright-supervisor", daemon=True)

    def __enter__(self) -> "Supervisor":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes of the workers that run."""
        with self._lock:
            return tuple(
                child.process.pid
                for child in self._children
                if child.process is not None and child.process.poll() is None
            )

    def start(self) -> None:
        """Start the workers, and watch them from a thread."""
        for child in self._children:
            self._spawn(child)
        self._thread.start()

    def stop(self) -> None:
        """End the workers: each finishes its job within the grace time or hands it back."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        until = time.monotonic() + self._settings.grace_s + _SPARE_S
        for process in running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                _LOG.warning("worker %d does not end, and is killed", process.pid)
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            for child in self._children:
                self._look_after(child)

    def _look_after(self, child: _Child) -> None:
        process = child.process
        if process is None:
            if time.monotonic() >= child.due:
                self._spawn(child)
            return
        code = process.poll()
        if code is None:
            return
        lived = time.monotonic() - child.started
        healthy = lived > _HEALTHY_S or code < 0
        child.pause_s = (
            _FIRST_PAUSE_S if healthy else min(2 * child.pause_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        )
        _LOG.warning(
            "a worker ended with %d after %.0f s; the next starts in %.0f s", code, lived, child.pause_s
        )
        if process.stdin is not None:
            process.stdin.close()
        with self._lock:
            child.process, child.due = None, time.monotonic() + child.pause_s

    def _spawn(self, child: _Child) -> None:
        arguments = [*self._command, "worker", "--queues", child.queue, "--until-eof"]
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, env={**os.environ, **settings_environment(self._settings)}
        )
        with self._lock:
            child.process, child.started = process, time.monotonic()


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return settings as the variables that `load_settings` reads; what is None is left out."""
    return {
        PREFIX + name.upper(): _written(value)
        for name in Settings.model_fields
        if (value := getattr(settings, name)) is not None and value != ()
    }


def _written(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, dict | bool):
        return json.dumps(value)
    return str(value.absolute() if isinstance(value, Path) else value)
