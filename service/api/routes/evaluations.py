"""Scores of estimates against references, without separating anything: a job of its own kind."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from stemwright.core.errors import OptionError, ResourceError
from stemwright.service.api.bodies import read_json
from stemwright.service.api.context import CallerDep, ServiceDep
from stemwright.service.api.describing import evaluation_body, job_headers
from stemwright.service.api.problems import documented
from stemwright.service.api.routes.jobs import accepted
from stemwright.service.api.submission import submit_evaluation
from stemwright.service.errors import BusyError, ConflictError, NotFoundError, ReplayError, TooManyError
from stemwright.service.jobs.model import JobView

router = APIRouter(tags=["jobs"])

MODEL = "evaluation"
"""What stands in a job's `model` where no model separates."""
_OF_THE_JOB = ("name", "priority", "webhook_url")


class ScoreMetric(BaseModel):
    """A metric, and what it was computed with."""

    name: str
    columns: list[str] = Field(description="Its numbers, by their names in `values` and `frames`.")
    better: str = Field(description="`higher` or `lower`.")
    unit: str
    options: dict[str, Any]


class ScoredStem(BaseModel):
    """Scores of a stem."""

    values: dict[str, float | None] = Field(description="The track's number; null where there is none.")
    frames: dict[str, list[float | None]] = Field(description="Of framewise metrics: each frame's.")
    notes: list[str] = Field(description="Why a number is missing.")


class Evaluation(BaseModel):
    """Scores of a track: such a job's `result`, and `evaluation` in the result of one that separates."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "metrics": [
                        {
                            "name": "si-sdr",
                            "columns": ["SI-SDR"],
                            "better": "higher",
                            "unit": "dB",
                            "options": {},
                        }
                    ],
                    "seconds": 30.0,
                    "sample_rate": 44100,
                    "channels": 2,
                    "stems": {"vocals": {"values": {"SI-SDR": 9.13}, "frames": {}, "notes": []}},
                    "notes": ["residual is not scored: there is no reference"],
                    "versions": {"stemwright": "0.1.0"},
                }
            ]
        }
    )

    metrics: list[ScoreMetric]
    seconds: float
    sample_rate: int
    channels: int
    stems: dict[str, ScoredStem]
    notes: list[str] = Field(description="What was left out, trimmed or summed.")
    versions: dict[str, str]


@router.post(
    "/v1/evaluations",
    status_code=202,
    response_model=JobView,
    responses={
        202: job_headers("The job was taken; its `result` will be an `Evaluation`."),
        **documented(
            "bad_request", NotFoundError, "slow_client", ConflictError, ReplayError, "too_large",
            "unsupported_media_type", "invalid", OptionError, TooManyError, BusyError, ResourceError,
        ),
    },
    openapi_extra=evaluation_body(Evaluation),
    summary="Score estimates against references",
)  # fmt: skip
async def evaluate(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Score stems that are there already: uploads, or what a job of yours has made.

    References and estimates are paired by the names of their stems; rates, channels and lengths must be
    the same. With an `Idempotency-Key` the same request makes one job, however often it is sent.
    """
    values = await read_json(request, service.settings.body_timeout_s)
    kept = {name: value for name, value in values.items() if name in _OF_THE_JOB}
    wish = {name: value for name, value in values.items() if name not in _OF_THE_JOB}
    submitted = await submit_evaluation(request, service, caller, {**kept, "model": MODEL, "score": wish})
    return accepted(request, submitted)
