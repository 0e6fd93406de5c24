"""Taking a job: limits, replays, and the row and the workflow in one transaction."""

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, RowMapping, func, select

from stemwright.service.errors import BusyError, ConflictError, NotFoundError, ReplayError, TooManyError
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.model import JobSpec, JobStatus
from stemwright.service.jobs.reading import job_row
from stemwright.service.jobs.schema import JOB_UPLOADS, JOBS, UPLOADS
from stemwright.service.jobs.truth import VERSION, WORKFLOW
from stemwright.service.jobs.views import UNFINISHED
from stemwright.service.settings import Settings
from stemwright.service.storage import Storage, guard_free_space
from stemwright.service.webhooks.addresses import check_wish
from stemwright.service.webhooks.outbox import order

if TYPE_CHECKING:
    from dbos import DBOSClient


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A request for a job; `spec.model` and `queue` are decided already."""

    spec: JobSpec
    owner: str
    queue: str
    upload_id: str
    duration_s: float | None
    idempotency_key: str | None
    body_hash: str | None


def submit(
    database: Database, client: "DBOSClient", settings: Settings, storage: Storage, wanted: Submission
) -> tuple[RowMapping, bool]:
    """Take a job; return its row, and whether it is new."""
    webhook = wanted.spec.webhook_url
    check_wish(webhook, settings)
    with database.writing() as connection:
        database.lock(connection, f"owner {wanted.owner}")
        earlier = _earlier(connection, wanted)
        if earlier is not None:
            return earlier, False
        filename = _complete_upload(connection, wanted.upload_id, wanted.owner)
        for upload in filter(None, (wanted.spec.query_audio, *wanted.spec.uploads)):
            _complete_upload(connection, upload, wanted.owner)
        if wanted.spec.score is not None and wanted.spec.score.job_id is not None:
            _succeeded_job(connection, wanted.spec.score.job_id, wanted.owner)
        check_limits(connection, settings, wanted.owner, wanted.duration_s)
        guard_free_space(storage, 0, least_free=settings.min_free_bytes)
        job_id = uuid.uuid4().hex
        now = time.time()
        connection.execute(
            JOBS.insert().values(
                id=job_id,
                owner=wanted.owner,
                name=wanted.spec.name or filename,
                queue=wanted.queue,
                model=wanted.spec.model,
                spec=wanted.spec.model_dump_json(),
                priority=wanted.spec.priority,
                upload_id=wanted.upload_id,
                example_id=wanted.spec.query_audio,
                status="queued",
                duration_s=wanted.duration_s,
                idempotency_key=wanted.idempotency_key,
                body_hash=wanted.body_hash,
                created_at=now,
                updated_at=now,
            )
        )
        if wanted.spec.uploads:
            connection.execute(
                JOB_UPLOADS.insert(),
                [{"job_id": job_id, "upload_id": upload} for upload in wanted.spec.uploads],
            )
        if webhook is not None:
            order(connection, job_id, webhook)
        client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": WORKFLOW,
                "queue_name": wanted.queue,
                "workflow_id": job_id,
                "app_version": VERSION,
                "priority": wanted.spec.priority,
                "queue_partition_key": wanted.owner,
            },
            job_id,
        )
        return connection.execute(select(JOBS).where(JOBS.c.id == job_id)).mappings().one(), True


def check_limits(connection: Connection, settings: Settings, owner: str, duration_s: float | None) -> None:
    """Refuse a job that is more than its owner, or the service, may have waiting.

    Raises
    ------
    TooManyError, BusyError
        It is.
    """
    unfinished = JOBS.c.status.in_(UNFINISHED)
    mine, seconds = connection.execute(
        select(func.count(), func.coalesce(func.sum(JOBS.c.duration_s), 0.0)).where(
            unfinished, JOBS.c.owner == owner
        )
    ).one()
    if mine >= settings.max_queued_per_key:
        raise TooManyError(
            f"{mine} jobs of yours are unfinished, the limit is {settings.max_queued_per_key}",
            "wait for some of them, or cancel some",
        )
    minutes = settings.max_audio_minutes_per_key
    if minutes is not None and (seconds + (duration_s or 0.0)) / 60 > minutes:
        raise TooManyError(
            f"your unfinished jobs would hold more than {minutes:g} minutes of audio",
            "wait for some of them, or cancel some",
            retry_after_s=60,
        )
    if connection.execute(select(func.count()).where(unfinished)).scalar_one() >= settings.max_queued:
        raise BusyError("the service has more jobs than it may keep", "try again later", retry_after_s=60)


def _earlier(connection: Connection, wanted: Submission) -> RowMapping | None:
    """Return the job that the same request made before."""
    if wanted.idempotency_key is None:
        return None
    row = (
        connection.execute(
            select(JOBS).where(JOBS.c.owner == wanted.owner, JOBS.c.idempotency_key == wanted.idempotency_key)
        )
        .mappings()
        .first()
    )
    if row is not None and row["body_hash"] != wanted.body_hash:
        raise ReplayError(
            "this Idempotency-Key came with another request before", "use a new key for a new request"
        )
    return row


def _succeeded_job(connection: Connection, job_id: str, owner: str) -> None:
    """Check that there are stems to score."""
    status = job_row(connection, job_id, owner)["status"]
    if status != JobStatus.succeeded:
        raise ConflictError(f"the job is {status}", "score a job that has succeeded")


def _complete_upload(connection: Connection, upload_id: str, owner: str) -> str:
    """Return the file name of a complete upload of the owner's."""
    row = connection.execute(
        select(UPLOADS.c.filename, UPLOADS.c.complete).where(
            UPLOADS.c.id == upload_id, UPLOADS.c.owner == owner
        )
    ).first()
    if row is None:
        raise NotFoundError("there is no upload of that id", "upload the recording first")
    if not row.complete:
        raise ConflictError("the upload is not complete", "send the rest of it first")
    return str(row.filename)
