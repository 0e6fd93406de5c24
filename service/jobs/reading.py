"""Questions to the tables: a job, a page of jobs, how queues and workers stand."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, func, or_, select

from stemwright.service.errors import NotFoundError
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.model import JobStatus, JobView, Page, QueueFacts, WorkerView
from stemwright.service.jobs.schema import JOBS, WORKERS
from stemwright.service.jobs.views import decode_cursor, encode_cursor, job_view

MOST_IN_PAGE = 200


def job_row(connection: Connection, job_id: str, owner: str | None) -> RowMapping:
    """Return a job's row; `owner` None for whosever it is.

    Raises
    ------
    NotFoundError
        There is none of that id that this owner may see.
    """
    wanted = select(JOBS).where(JOBS.c.id == job_id)
    if owner is not None:
        wanted = wanted.where(JOBS.c.owner == owner)
    row = connection.execute(wanted).mappings().first()
    if row is None:
        raise NotFoundError("there is no job of that id", "list the jobs with GET /v1/jobs")
    return row


def find_job(connection: Connection, job_id: str, owner: str) -> JobView:
    """Describe a job, of a queued one also its place among its owner's.

    Raises
    ------
    NotFoundError
        There is none of that id that this owner may see.
    """
    row = job_row(connection, job_id, owner)
    if row["status"] != JobStatus.queued:
        return job_view(row)
    before = connection.execute(
        select(func.count())
        .select_from(JOBS)
        .where(
            JOBS.c.status == JobStatus.queued.value,
            JOBS.c.queue == row["queue"],
            JOBS.c.owner == owner,
            or_(
                JOBS.c.priority < row["priority"],
                and_(JOBS.c.priority == row["priority"], JOBS.c.created_at < row["created_at"]),
            ),
        )
    ).scalar_one()
    return job_view(row, position=before)


def list_jobs(
    connection: Connection, *, owner: str, status: Sequence[JobStatus], cursor: str | None, limit: int
) -> Page:
    """Return a page of an owner's jobs, newest first.

    Raises
    ------
    OptionError
        A cursor that is none.
    """
    limit = max(1, min(limit, MOST_IN_PAGE))
    wanted = select(JOBS).where(JOBS.c.owner == owner)
    if status:
        wanted = wanted.where(JOBS.c.status.in_([one.value for one in status]))
    if cursor is not None:
        created, job = decode_cursor(cursor)
        wanted = wanted.where(
            or_(JOBS.c.created_at < created, and_(JOBS.c.created_at == created, JOBS.c.id < job))
        )
    rows = (
        connection.execute(wanted.order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc()).limit(limit + 1))
        .mappings()
        .all()
    )
    shown = rows[:limit]
    return Page(
        items=tuple(job_view(row) for row in shown),
        cursor=encode_cursor(shown[-1]) if len(rows) > limit else None,
    )


def queue_facts(connection: Connection, now: float) -> tuple[QueueFacts, ...]:
    """Count the unfinished jobs of each queue."""
    found: dict[str, dict[str, Any]] = {}
    for queue, status, count, oldest in connection.execute(
        select(JOBS.c.queue, JOBS.c.status, func.count(), func.min(JOBS.c.created_at))
        .where(JOBS.c.status.in_((JobStatus.queued.value, JobStatus.running.value)))
        .group_by(JOBS.c.queue, JOBS.c.status)
    ):
        facts = found.setdefault(queue, {"queued": 0, "running": 0, "oldest_queued_s": 0.0})
        facts[status] = count
        if status == JobStatus.queued:
            facts["oldest_queued_s"] = max(0.0, now - oldest)
    return tuple(QueueFacts(queue=queue, **facts) for queue, facts in sorted(found.items()))


def worker_views(connection: Connection, database: Database, dead_after_s: float) -> tuple[WorkerView, ...]:
    """Describe the workers that have shown themselves."""
    rows = connection.execute(select(WORKERS, (database.now - WORKERS.c.seen).label("age"))).mappings()
    return tuple(
        WorkerView(
            id=row["executor_id"],
            queue=row["queue"],
            device=row["device"],
            host=row["host"],
            pid=row["pid"],
            provider=row["provider"],
            models=tuple(json.loads(row["models"])),
            job=row["job"],
            seen_s=max(0.0, row["age"]),
            alive=row["age"] < dead_after_s,
        )
        for row in rows
    )
