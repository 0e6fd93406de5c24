"""What a worker writes about its job. Every write tells the attempt: one that was taken over writes nothing.

Calls wait for a database that is away; only then are they slow.
"""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Update, func, update

from stemwright.core.errors import StemwrightError
from stemwright.service.jobs.database import Database, patient
from stemwright.service.jobs.model import JobSpec, JobStatus, Stage
from stemwright.service.jobs.schema import JOBS
from stemwright.service.jobs.views import UNFINISHED


class SupersededError(Exception):
    """The attempt may not go on: its job was cancelled, deleted, handed back or taken over."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One worker's attempt at a job.

    Parameters
    ----------
    job_id, owner, name, upload_id
        The job, whose it is, what it is called, its recording.
    run
        Names this attempt among all; the token that its writes carry.
    number
        How many attempts there were, this one included.
    spec
        What to do; its model is decided.
    """

    job_id: str
    owner: str
    name: str
    upload_id: str | None
    run: str
    number: int
    spec: JobSpec


class Ledger:
    """Writes the rows of this worker's jobs.

    Parameters
    ----------
    database
        Where they are.
    executor_id
        This worker.
    results_ttl_s
        How long ended jobs are kept.
    """

    def __init__(self, database: Database, executor_id: str, *, results_ttl_s: float) -> None:
        self._database = database
        self._executor_id = executor_id
        self._results_ttl_s = results_ttl_s

    def begin(self, job_id: str) -> Attempt:
        """Take a job over: from here on no earlier attempt can write.

        Raises
        ------
        SupersededError
            It has ended, or is not there any more.
        """
        run, now = uuid.uuid4().hex, time.time()

        def work() -> Attempt:
            with self._database.writing() as connection:
                row = (
                    connection.execute(
                        update(JOBS)
                        .where(JOBS.c.id == job_id, JOBS.c.status.in_(UNFINISHED))
                        .values(
                            run=run,
                            executor=self._executor_id,
                            attempt=JOBS.c.attempt + 1,
                            status=JobStatus.running.value,
                            started_at=func.coalesce(JOBS.c.started_at, now),
                            updated_at=now,
                        )
                        .returning(JOBS)
                    )
                    .mappings()
                    .first()
                )
            if row is None:
                raise SupersededError(f"job {job_id} has ended")
            return Attempt(
                job_id=job_id,
                owner=row["owner"],
                name=row["name"],
                upload_id=row["upload_id"],
                run=run,
                number=row["attempt"],
                spec=JobSpec.model_validate_json(row["spec"]),
            )

        return patient(work)

    def tell(self, attempt: Attempt, stage: Stage, fraction: float, **values: Any) -> None:
        """Write how far an attempt is, and other columns.

        Raises
        ------
        SupersededError
            The attempt may not go on.
        """
        self._write(attempt, {"stage": stage, "fraction": fraction, **values})

    def succeed(self, attempt: Attempt, *, stems: list[dict[str, Any]], result: dict[str, Any]) -> None:
        """Make a job's result visible, all at once.

        Raises
        ------
        SupersededError
            The attempt may not go on.
        """
        ended = self._ended(JobStatus.succeeded)
        run_s = result.get("wall_seconds")
        self._write(
            attempt,
            {
                **ended,
                "fraction": 1.0,
                "stems": json.dumps(stems),
                "result": json.dumps(result),
                "run_s": run_s,
            },
        )

    def fail(self, attempt: Attempt, error: StemwrightError) -> None:
        """Let a job fail.

        Raises
        ------
        SupersededError
            The attempt may not go on.
        """
        told = {"error_code": error.code, "error_message": error.message, "error_remedy": error.remedy}
        self._write(attempt, {**self._ended(JobStatus.failed), **told})

    def hand_back(self, attempt: Attempt) -> bool:
        """Let another worker take a job; return whether it was still this attempt's."""
        try:
            self._write(attempt, {"status": JobStatus.queued.value, "run": None, "executor": None})
        except SupersededError:
            return False
        return True

    def _ended(self, status: JobStatus) -> dict[str, Any]:
        now = time.time()
        return {
            "status": status.value,
            "run": None,
            "executor": None,
            "finished_at": now,
            "expires_at": now + self._results_ttl_s,
        }

    def _write(self, attempt: Attempt, values: dict[str, Any]) -> None:
        statement: Update = (
            update(JOBS)
            .where(
                JOBS.c.id == attempt.job_id,
                JOBS.c.run == attempt.run,
                JOBS.c.status == JobStatus.running.value,
            )
            .values(updated_at=time.time(), **values)
        )

        def work() -> int:
            with self._database.writing() as connection:
                return connection.execute(statement).rowcount

        if not patient(work):
            raise SupersededError(f"attempt {attempt.number} at job {attempt.job_id} was superseded")
