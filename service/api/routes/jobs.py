"""Jobs: submit, look, list, cancel, retry, delete."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from stemwright.core.errors import OptionError, ResourceError
from stemwright.service.api.context import CallerDep, ServiceDep
from stemwright.service.api.describing import JOB_BODY, job_headers
from stemwright.service.api.problems import documented
from stemwright.service.api.submission import submit
from stemwright.service.errors import (
    BusyError,
    ConflictError,
    GoneError,
    NotFoundError,
    ReplayError,
    TooManyError,
)
from stemwright.service.jobs.model import JobStatus, JobView, Page, Submitted
from stemwright.service.jobs.reading import MOST_IN_PAGE

router = APIRouter(tags=["jobs"])

JobId = Annotated[
    str,
    Path(
        description="Id of the job.",
        max_length=64,
        pattern=r"^[A-Za-z0-9_-]+$",
        examples=["5f0c1f0e6c9b4a0c8f5b3a2d1e0f9a8b"],
    ),
]
SUBMISSION_PROBLEMS = (
    "bad_request", "bad_multipart", NotFoundError, "slow_client", ConflictError, ReplayError, "too_large",
    "unsupported_media_type", "invalid", OptionError, TooManyError, BusyError, ResourceError,
)  # fmt: skip


def job_url(request: Request, job_id: str) -> str:
    """Return the path of a job, below whatever a proxy serves us."""
    return f"{request.scope.get('root_path', '')}/v1/jobs/{job_id}"


def accepted(request: Request, submitted: Submitted) -> Response:
    """Return the answer to a job that was taken."""
    headers = {"Location": job_url(request, submitted.job.id)}
    if not submitted.created:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(submitted.job.model_dump(mode="json"), 202, headers)


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=JobView,
    responses={202: job_headers("The job was taken."), **documented(*SUBMISSION_PROBLEMS)},
    openapi_extra=JOB_BODY,
    summary="Submit a job",
)
async def submit_job(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Separate a recording: send it as `file`, or name an `upload_id`.

    With an `Idempotency-Key` the same request makes one job, however often it is sent.
    """
    return accepted(request, await submit(request, service, caller))


@router.get(
    "/v1/jobs",
    responses=documented(OptionError, "invalid", BusyError),
    summary="List your jobs, newest first",
)
async def list_jobs(
    service: ServiceDep,
    caller: CallerDep,
    status: Annotated[
        list[JobStatus] | None, Query(description="Only jobs that stand so; may be repeated.")
    ] = None,
    cursor: Annotated[
        str | None, Query(max_length=500, description="The page behind this one's `cursor`.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_IN_PAGE, description="Most jobs in the page.")] = 50,
) -> Page:
    """Return a page of your jobs; give its `cursor` for the next one."""
    return await service.board.list(
        owner=caller.owner, status=tuple(status or ()), cursor=cursor, limit=limit
    )


@router.get(
    "/v1/jobs/{job_id}", responses=documented(NotFoundError, "invalid", BusyError), summary="Look at a job"
)
async def get_job(job_id: JobId, service: ServiceDep, caller: CallerDep) -> JobView:
    """Return how a job stands; when it has succeeded, its stems and its result."""
    return await service.board.get(job_id, owner=caller.owner)


@router.post(
    "/v1/jobs/{job_id}/cancel",
    responses=documented(NotFoundError, "invalid", BusyError),
    summary="Cancel a job",
)
async def cancel_job(job_id: JobId, service: ServiceDep, caller: CallerDep) -> JobView:
    """Cancel a job; a running one stops within a chunk, one that has ended stays as it is."""
    return await service.board.cancel(job_id, owner=caller.owner)


@router.post(
    "/v1/jobs/{job_id}/retry",
    status_code=202,
    responses={
        202: job_headers("The job is queued again."),
        **documented(NotFoundError, ConflictError, GoneError, "invalid", TooManyError, BusyError),
    },
    response_model=JobView,
    summary="Retry a job",
)
async def retry_job(request: Request, job_id: JobId, service: ServiceDep, caller: CallerDep) -> Response:
    """Queue a job that failed or was cancelled again, from its first unfinished stage."""
    job = await service.board.retry(job_id, owner=caller.owner)
    return accepted(request, Submitted(job=job, created=True))


@router.delete(
    "/v1/jobs/{job_id}",
    status_code=204,
    responses={204: {"description": "It is gone."}, **documented(NotFoundError, "invalid", BusyError)},
    response_class=Response,
    summary="Delete a job",
)
async def delete_job(job_id: JobId, service: ServiceDep, caller: CallerDep) -> Response:
    """Remove a job with all its files; a running one is cancelled first."""
    await service.board.delete(job_id, owner=caller.owner)
    return Response(status_code=204)
