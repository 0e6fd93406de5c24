"""Small files in one exchange: wait for the job, and answer with what it made."""

import asyncio
import contextlib
import re
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from stemwright.core import errors as core_errors
from stemwright.core.errors import StemwrightError
from stemwright.service import errors as service_errors
from stemwright.service.api.context import Caller, CallerDep, Service, ServiceDep
from stemwright.service.api.describing import FILE_BODY, binary, job_headers
from stemwright.service.api.problems import documented, problem_response
from stemwright.service.api.ranges import send_file
from stemwright.service.api.routes.jobs import SUBMISSION_PROBLEMS, accepted
from stemwright.service.api.routes.results import AUDIO_TYPES, archive, served
from stemwright.service.api.submission import submit
from stemwright.service.jobs.model import JobStatus, JobView

router = APIRouter(tags=["jobs"])

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?(?:$|[,;\s])", re.IGNORECASE)


@router.post(
    "/v1/separate",
    response_class=Response,
    responses={
        200: binary(
            "The stem, or a zip of several.", "application/zip", *AUDIO_TYPES,
            headers=("Content-Disposition", "Content-Location", "Preference-Applied"),
        ),
        202: {
            **job_headers("It takes longer: follow the job."),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobView"}}},
        },
        **documented(
            *SUBMISSION_PROBLEMS, core_errors.InputError, core_errors.ModelNotFoundError,
            core_errors.CancelledError, core_errors.OutOfMemoryError,
        ),
    },
    openapi_extra=FILE_BODY,
    summary="Separate and wait",
)  # fmt: skip
async def separate(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    prefer: Annotated[
        str | None,
        Header(description="`wait=N`: how many seconds to wait (RFC 7240).", max_length=500),
    ] = None,
) -> Response:
    """Submit a recording and wait for its stems, at most `Prefer: wait=N` seconds or the service's limit.

    What is not ready by then goes on as a job like any other: the answer is 202 with its address.
    """
    wait_s, headers = asked_wait(service, prefer)
    submitted = await submit(request, service, caller)
    job = await wait_for_end(service, caller, submitted.job, wait_s)
    response = await _answer(request, service, job)
    if response is None:
        response = accepted(request, submitted.model_copy(update={"job": job}))
    response.headers.update(headers)
    return response


def asked_wait(service: Service, prefer: str | None) -> tuple[float, dict[str, str]]:
    """Return how long to wait, and the headers that tell of it if a wish was met."""
    match = _WAIT.search(prefer or "")
    limit_s = service.settings.wait_limit_s
    if match is None:
        return limit_s, {}
    wait_s = min(float(match[1]), limit_s)
    return wait_s, {"Preference-Applied": f"wait={wait_s:g}"}


async def wait_for_end(service: Service, caller: Caller, job: JobView, wait_s: float) -> JobView:
    """Return the job when it has ended, or as it stands after the time."""
    waits = [asyncio.ensure_future(service.closing.wait()), asyncio.ensure_future(_end(service, caller, job))]
    try:
        await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return await service.board.get(job.id, owner=caller.owner)


async def _end(service: Service, caller: Caller, job: JobView) -> None:
    """Return when the job has ended."""
    async with contextlib.aclosing(service.board.events(job.id, owner=caller.owner)) as events:
        async for event in events:
            if event.final:
                return


async def _answer(request: Request, service: Service, job: JobView) -> Response | None:
    """Return the answer to a job that has ended, None for one that has not."""
    if not job.status.final:
        return None
    if job.status is JobStatus.succeeded:
        if len(job.stems) == 1:
            response = await send_file(request, service.storage, served(job, job.stems[0]), "attachment")
        else:
            response = await archive(service.storage, job)
        response.headers["Content-Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
        return response
    return ended_badly(job)


def ended_badly(job: JobView) -> Response | None:
    """Return the problem of a job that failed or was cancelled, None for one that has not ended."""
    if not job.status.final:
        return None
    if job.status is JobStatus.cancelled or job.error is None:
        return problem_response(409, "cancelled", "the job was cancelled", "submit it again")
    status = _STATUS_OF.get(job.error.code, 500)
    return problem_response(status, job.error.code, job.error.message, job.error.remedy)


def _statuses() -> dict[str, int]:
    """HTTP status of every code that our errors have."""
    found: dict[str, int] = {}
    for module in (core_errors, service_errors):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, StemwrightError):
                found.setdefault(kind.code, kind.http_status)
    return found


_STATUS_OF = _statuses()
