"""Ending jobs before their time, removing them, and beginning them anew."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from stemwright.service.errors import ConflictError, GoneError
from stemwright.service.jobs.database import Database, translated
from stemwright.service.jobs.model import JobSpec, JobStatus, Stage
from stemwright.service.jobs.reading import job_row
from stemwright.service.jobs.schema import JOB_UPLOADS, JOBS, UPLOADS
from stemwright.service.jobs.submitting import check_limits
from stemwright.service.jobs.truth import ACTIVE
from stemwright.service.jobs.views import UNFINISHED
from stemwright.service.settings import Settings
from stemwright.service.storage import Storage, job_prefix, upload_prefix
from stemwright.service.webhooks.outbox import order_again

if TYPE_CHECKING:
    from dbos import DBOSClient

# Between a failure's row and the end of its workflow lies one write to the database.
_WORKFLOW_ENDS_S = 5.0
_LOOK_S = 0.05


def cancel_job(
    database: Database, client: "DBOSClient", settings: Settings, job_id: str, owner: str | None
) -> None:
    """Cancel a job; one that has ended stays as it is.

    Its row lets no attempt write any more, and its workflow refuses the next sign of progress: a worker
    notices within a chunk.

    Raises
    ------
    NotFoundError
        There is none of that id that this owner may see.
    """
    with database.reading() as connection:
        row = job_row(connection, job_id, owner)
    if JobStatus(row["status"]).final:
        return
    with translated():
        client.cancel_workflow(job_id)
    now = time.time()
    with database.writing() as connection:
        connection.execute(
            update(JOBS)
            .where(JOBS.c.id == job_id, JOBS.c.status.in_(UNFINISHED))
            .values(
                status=JobStatus.cancelled.value,
                run=None,
                executor=None,
                finished_at=now,
                updated_at=now,
                expires_at=now + settings.results_ttl_s,
            )
        )


def delete_job(
    database: Database,
    client: "DBOSClient",
    settings: Settings,
    storage: Storage,
    job_id: str,
    owner: str | None,
) -> None:
    """Remove a job with its workflow and all files; a running one is cancelled first.

    Raises
    ------
    NotFoundError
        There is none of that id that this owner may see.
    """
    cancel_job(database, client, settings, job_id, owner)
    with database.writing() as connection:
        uploads = uploads_of(connection, job_id)
        connection.execute(delete(JOBS).where(JOBS.c.id == job_id))
    with translated():
        client.delete_workflow(job_id)
    storage.delete_tree(job_prefix(job_id))
    for upload in uploads:
        drop_upload(database, storage, upload)


def uploads_of(connection: Connection, job_id: str) -> tuple[str, ...]:
    """Return all uploads that a job was made with and that are there still, each once."""
    own = connection.execute(select(JOBS.c.upload_id, JOBS.c.example_id).where(JOBS.c.id == job_id)).first()
    others = connection.execute(select(JOB_UPLOADS.c.upload_id).where(JOB_UPLOADS.c.job_id == job_id))
    return tuple(dict.fromkeys(filter(None, (*(own or ()), *others.scalars()))))


def needs(upload_id: ColumnElement[str] | str) -> ColumnElement[bool]:
    """Return the condition on a job that it was made with an upload."""
    others = (
        select(JOB_UPLOADS.c.job_id)
        .where(JOB_UPLOADS.c.job_id == JOBS.c.id, JOB_UPLOADS.c.upload_id == upload_id)
        .correlate(JOBS, UPLOADS)
    )
    return or_(JOBS.c.upload_id == upload_id, JOBS.c.example_id == upload_id, others.exists())


def drop_upload(database: Database, storage: Storage, upload_id: str) -> bool:
    """Remove an upload unless a job needs it still; return whether it was removed.

    A job that failed or was cancelled needs it for another try.
    """
    with database.writing() as connection:
        database.lock(connection, f"upload {upload_id}")
        needed = select(JOBS.c.id).where(needs(upload_id), JOBS.c.status != JobStatus.succeeded.value)
        if connection.execute(needed.limit(1)).first() is not None:
            return False
        connection.execute(delete(UPLOADS).where(UPLOADS.c.id == upload_id))
        for column in (JOBS.c.upload_id, JOBS.c.example_id):
            connection.execute(update(JOBS).where(column == upload_id).values({column: None}))
        connection.execute(delete(JOB_UPLOADS).where(JOB_UPLOADS.c.upload_id == upload_id))
    storage.delete_tree(upload_prefix(upload_id))
    return True


def retry_job(
    database: Database, client: "DBOSClient", settings: Settings, job_id: str, owner: str | None
) -> None:
    """Queue a job that failed or was cancelled again, from its first unfinished stage.

    Raises
    ------
    NotFoundError, ConflictError, GoneError, TooManyError, BusyError
        As `JobBoard.retry` says.
    """
    with database.reading() as connection:
        ended = JobStatus(job_row(connection, job_id, owner)["status"]).final
    if ended:
        _await_workflow(client, job_id)
    with database.writing() as connection:
        row = job_row(connection, job_id, owner)
        database.lock(connection, f"owner {row['owner']}")
        if JobStatus(row["status"]) not in (JobStatus.failed, JobStatus.cancelled):
            raise ConflictError(
                f"the job is {row['status']}", "only a job that failed or was cancelled can be retried"
            )
        spec = JobSpec.model_validate_json(row["spec"])
        wanted = {row["upload_id"], spec.query_audio, *spec.uploads} - {None}
        there = select(func.count()).where(UPLOADS.c.id.in_(wanted))
        if row["upload_id"] is None or connection.execute(there).scalar_one() < len(wanted):
            raise GoneError("the recording has expired", "upload it again for a new job")
        check_limits(connection, settings, row["owner"], row["duration_s"])
        connection.execute(
            update(JOBS)
            .where(JOBS.c.id == job_id)
            .values(
                status=JobStatus.queued.value,
                fraction=0.0,
                stage=None,
                run=None,
                executor=None,
                error_code=None,
                error_message=None,
                error_remedy=None,
                finished_at=None,
                expires_at=None,
                updated_at=time.time(),
            )
        )
        order_again(connection, job_id)
    with translated():
        client.rewind_workflow(
            job_id,
            start_step=_first_unfinished(client, job_id, spec.stages),
            queue_name=row["queue"],
            queue_partition_key=row["owner"],
        )


def _await_workflow(client: "DBOSClient", job_id: str) -> None:
    """Wait for the workflow of a job whose row has ended: it ends a moment later."""
    until = time.monotonic() + _WORKFLOW_ENDS_S
    while time.monotonic() < until:
        with translated():
            found = client.list_workflows(workflow_ids=[job_id], load_input=False, load_output=False)
        state = next(iter(found), None)
        if state is None or state.status not in ACTIVE:
            return
        time.sleep(_LOOK_S)


def _first_unfinished(client: "DBOSClient", job_id: str, stages: Sequence[Stage]) -> int:
    """Return the number of the step that begins the first stage without a result."""
    done = {step["function_id"]: step for step in client.list_workflow_steps(job_id)}
    for number, stage in enumerate(stages, start=1):
        step = done.get(number)
        if step is None or step["function_name"] != stage or step["error"] is not None:
            return number
    return len(stages)
