"""Finds dead workers and gives their jobs to others. Every worker does it; racing does no harm."""

import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from stemwright.service.jobs.database import Database
from stemwright.service.jobs.engine import JobEngine
from stemwright.service.jobs.model import JobStatus
from stemwright.service.jobs.schema import JOBS, WORKERS

if TYPE_CHECKING:
    from dbos import DBOSClient

_LOG = logging.getLogger(__name__)


class Reaper:
    """Looks for dead workers.

    Parameters
    ----------
    database, client
        Where workers and workflows stand.
    engine
        Of this worker, which can queue jobs again.
    executor_id
        This worker, which never reaps itself.
    dead_after_s
        Silence after which a worker counts as dead.
    scratch
        Where workers have their folders for files in work.
    """

    def __init__(
        self,
        database: Database,
        client: "DBOSClient",
        engine: JobEngine,
        *,
        executor_id: str,
        dead_after_s: float,
        scratch: Path,
    ) -> None:
        self._database = database
        self._client = client
        self._engine = engine
        self._executor_id = executor_id
        self._dead_after_s = dead_after_s
        self._scratch = scratch

    def living(self) -> set[str]:
        """Return the workers that live, this one included."""
        with self._database.reading() as connection:
            found = connection.execute(
                select(WORKERS.c.executor_id).where(WORKERS.c.seen > self._database.now - self._dead_after_s)
            ).scalars()
            return {*found, self._executor_id}

    def reap(self) -> tuple[str, ...]:
        """Queue the jobs of workers that have fallen silent again; return those workers."""
        with self._database.reading() as connection:
            silent = connection.execute(
                select(WORKERS.c.executor_id).where(
                    WORKERS.c.seen <= self._database.now - self._dead_after_s,
                    WORKERS.c.executor_id != self._executor_id,
                )
            ).scalars()
            dead = tuple(silent)
        if dead:
            _LOG.warning("workers without a sign of life: %s", ", ".join(dead))
            self._take_over(dead)
        return dead

    def reap_strays(self) -> tuple[str, ...]:
        """Do the same for jobs whose worker has no row: it left between taking a job and telling so."""
        owners = {
            state.executor_id
            for state in self._client.list_workflows(status="PENDING", load_input=False, load_output=False)
            if state.executor_id and (state.updated_at or 0) / 1000 < time.time() - self._dead_after_s
        }
        with self._database.reading() as connection:
            known = set(connection.execute(select(WORKERS.c.executor_id)).scalars())
        strays = tuple(owners - known - {self._executor_id})
        if strays:
            self._take_over(strays)
        return strays

    def _take_over(self, dead: tuple[str, ...]) -> None:
        self._engine.recover(dead)
        left = {
            state.executor_id
            for state in self._client.list_workflows(
                status="PENDING", executor_id=list(dead), load_input=False, load_output=False
            )
        }
        gone = [worker for worker in dead if worker not in left]
        for worker in gone:  # while their rows still tell of it: this one may die in between
            shutil.rmtree(self._scratch / worker, ignore_errors=True)
        with self._database.writing() as connection:
            connection.execute(
                update(JOBS)
                .where(JOBS.c.executor.in_(gone), JOBS.c.status == JobStatus.running.value)
                .values(status=JobStatus.queued.value, run=None, executor=None, updated_at=time.time())
            )
            # One that woke up meanwhile has shown itself, and stays.
            connection.execute(
                delete(WORKERS).where(
                    WORKERS.c.executor_id.in_(gone),
                    WORKERS.c.seen <= self._database.now - self._dead_after_s,
                )
            )
