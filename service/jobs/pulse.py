"""Signs of life of a worker, by the database's clock."""

import json
import logging
import os
import platform
import threading
from dataclasses import dataclass

from sqlalchemy import delete, insert, update

from stemwright.service.errors import BusyError
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.engine import JobEngine
from stemwright.service.jobs.schema import WORKERS
from stemwright.service.jobs.warm import WarmEngines

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a worker is.

    Parameters
    ----------
    executor_id
        This process.
    queue, device
        What it serves, and on what.
    """

    executor_id: str
    queue: str
    device: str


class Pulse:
    """Shows in `sw_worker` that this worker lives, and what it has open; a thread of its own.

    Parameters
    ----------
    database
        Where it shows.
    identity
        Who it is.
    engines
        What is open.
    every_s
        Time between two signs.
    """

    def __init__(
        self, database: Database, identity: Identity, engines: WarmEngines, *, every_s: float
    ) -> None:
        self._database = database
        self._identity = identity
        self._engines = engines
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stemwright-pulse", daemon=True)
        self._engine: JobEngine | None = None

    def start(self) -> None:
        """Show the first sign, then more.

        Raises
        ------
        BusyError
            The database cannot be reached.
        """
        self.beat()
        self._thread.start()

    def watch(self, engine: JobEngine) -> None:
        """Tell from now on what the engine works on."""
        self._engine = engine

    def beat(self) -> None:
        """Show a sign of life."""
        attempt = self._engine.current if self._engine is not None else None
        values = {
            "queue": self._identity.queue,
            "device": self._identity.device,
            "host": platform.node(),
            "pid": os.getpid(),
            "provider": self._engines.provider,
            "models": json.dumps(self._engines.models),
            "job": attempt.job_id if attempt is not None else None,
            "seen": self._database.now,
        }
        mine = WORKERS.c.executor_id == self._identity.executor_id
        with self._database.writing() as connection:
            if not connection.execute(update(WORKERS).where(mine).values(**values)).rowcount:
                connection.execute(insert(WORKERS).values(executor_id=self._identity.executor_id, **values))

    def stop(self) -> None:
        """Take leave: others need not wait until the worker counts as dead."""
        self._stop.set()
        self._thread.join(timeout=10.0)
        try:
            with self._database.writing() as connection:
                connection.execute(delete(WORKERS).where(WORKERS.c.executor_id == self._identity.executor_id))
        except BusyError as error:
            _LOG.warning("cannot take leave: %s", error.message)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.beat()
            except BusyError as error:
                _LOG.warning("no sign of life: %s", error.message)
