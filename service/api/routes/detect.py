"""Which sounds are in a recording: a job like any other, waited for where it is short."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from stemwright.core import errors as core_errors
from stemwright.service.api.context import CallerDep, ServiceDep
from stemwright.service.api.describing import DETECT_BODY, job_headers
from stemwright.service.api.problems import documented
from stemwright.service.api.routes.jobs import SUBMISSION_PROBLEMS, accepted
from stemwright.service.api.routes.separate import asked_wait, ended_badly, wait_for_end
from stemwright.service.api.submission import submit
from stemwright.service.jobs.model import JobStatus

router = APIRouter(tags=["catalogue"])

TAGGER = "yamnet"


class HeardClass(BaseModel):
    """A class of sound over time."""

    mid: str = Field(description="Its id in AudioSet's ontology.")
    name: str
    index: int | None
    peak: float = Field(description="Largest probability over time.")
    mean: float
    active: list[tuple[float, float]] = Field(description="Begin and end in seconds of where it is active.")
    probabilities: list[float] = Field(description="Its probability in each window.")


class Heard(BaseModel):
    """What was heard in a recording."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tagger": "yamnet",
                    "duration_s": 4.0,
                    "window_s": 2.0,
                    "threshold": 0.2,
                    "classes": [
                        {
                            "mid": "/m/04rlf",
                            "name": "Music",
                            "index": 137,
                            "peak": 0.93,
                            "mean": 0.91,
                            "active": [[0.0, 4.0]],
                            "probabilities": [0.93, 0.89],
                        }
                    ],
                }
            ]
        }
    )

    tagger: str
    duration_s: float
    window_s: float = Field(description="Length of the windows that were heard, one after the other.")
    threshold: float
    classes: list[HeardClass]


def _detection(values: dict[str, Any]) -> dict[str, Any]:
    """Turn the fields of a request into those of a job."""
    passed = ("upload_id", "name", "priority", "webhook_url")
    wish = {name: value for name, value in values.items() if name not in passed}
    kept = {name: value for name, value in values.items() if name in passed}
    return {**kept, "model": TAGGER, "detect": wish}


@router.post(
    "/v1/detect",
    response_model=Heard,
    responses={
        202: {
            **job_headers("It takes longer: follow the job, whose `result` is what was heard."),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobView"}}},
        },
        **documented(*SUBMISSION_PROBLEMS, core_errors.InputError, core_errors.CancelledError),
    },
    openapi_extra=DETECT_BODY,
    summary="Hear which sounds are in a recording",
)
async def detect(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    prefer: Annotated[
        str | None,
        Header(description="`wait=N`: how many seconds to wait (RFC 7240).", max_length=500),
    ] = None,
) -> Response:
    """Tell the strongest classes of AudioSet in a recording, and when each is active.

    A worker hears it, in its turn. What is not ready in time goes on as a job: the answer is 202.
    """
    wait_s, headers = asked_wait(service, prefer)
    submitted = await submit(request, service, caller, meant=_detection)
    job = await wait_for_end(service, caller, submitted.job, wait_s)
    response: Response | None
    if job.status is JobStatus.succeeded:
        headers["Content-Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
        response = JSONResponse(job.result)
    else:
        response = ended_badly(job)
    response = response or accepted(request, submitted.model_copy(update={"job": job}))
    response.headers.update(headers)
    return response
