"""From rows of `sw_job` to what their owner sees, and cursors of lists."""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping

from stemwright.core.errors import OptionError
from stemwright.service.jobs.model import JobError, JobSpec, JobStatus, JobView, ProgressEvent, StemView

FINAL = tuple(status.value for status in JobStatus if status.final)
UNFINISHED = tuple(status.value for status in JobStatus if not status.final)
_END = "-end"


def moment(seconds: float | None) -> datetime | None:
    """Return a time of the database as a time of day in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def job_view(row: RowMapping, *, position: int | None = None) -> JobView:
    """Describe a job from its row."""
    return JobView(
        id=row["id"],
        name=row["name"],
        status=JobStatus(row["status"]),
        stage=row["stage"],
        fraction=row["fraction"],
        position=position,
        created=datetime.fromtimestamp(row["created_at"], UTC),
        started=moment(row["started_at"]),
        finished=moment(row["finished_at"]),
        expires=moment(row["expires_at"]),
        duration_s=row["duration_s"],
        model=row["model"],
        spec=JobSpec.model_validate_json(row["spec"]),
        stems=stems_of(row),
        result=json.loads(row["result"]) if row["result"] else None,
        error=_error(row),
        attempt=row["attempt"],
    )


def stems_of(row: RowMapping) -> tuple[StemView, ...]:
    """Return the files of a finished job."""
    return tuple(StemView.model_validate(stem) for stem in json.loads(row["stems"] or "[]"))


def state_event(row: RowMapping, offset: int) -> ProgressEvent:
    """Tell how a job stands, behind `offset` events of its worker."""
    status = JobStatus(row["status"])
    return ProgressEvent(
        id=f"{offset}{_END}" if status.final else str(offset),
        status=status,
        stage=row["stage"],
        fraction=row["fraction"],
        attempt=row["attempt"],
        at=datetime.fromtimestamp(row["updated_at"], UTC),
        error=_error(row),
        final=status.final,
    )


def worker_event(told: dict[str, Any], offset: int) -> ProgressEvent:
    """Pass on what a worker has told; `offset` counts from 1."""
    return ProgressEvent(
        id=str(offset),
        status=JobStatus.running,
        stage=told["stage"],
        fraction=told["fraction"],
        attempt=told["attempt"],
        at=datetime.fromtimestamp(told["at"], UTC),
    )


def offset_after(event_id: str | None) -> int:
    """Return how many events of the worker a reader has seen.

    Raises
    ------
    OptionError
        It is no id of an event.
    """
    digits = (event_id or "0").removesuffix(_END)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12):
        raise OptionError("that is no id of an event", "give the id of the last event, or none")
    return int(digits)


def encode_cursor(row: RowMapping) -> str:
    """Return the place in a list behind a row."""
    text = json.dumps([row["created_at"], row["id"]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Return the time and id of the row that a cursor stands behind.

    Raises
    ------
    OptionError
        It is no cursor.
    """
    try:
        created, job = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(created), str(job)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise OptionError("that is no cursor", "give the cursor of the page before, or none") from None


def _error(row: RowMapping) -> JobError | None:
    if row["error_code"] is None:
        return None
    return JobError(
        code=row["error_code"], message=row["error_message"] or "", remedy=row["error_remedy"] or ""
    )
