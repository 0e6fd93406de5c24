"""For operators and their tools: alive, ready, metrics."""

import importlib.metadata
from collections.abc import Awaitable
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict

from stemwright.core.errors import StemwrightError
from stemwright.service.api.context import CallerDep, Service, ServiceDep, in_thread
from stemwright.service.api.kinds import KINDS
from stemwright.service.api.metrics import CONTENT_TYPE
from stemwright.service.api.problems import documented, problem_response
from stemwright.service.errors import BusyError

router = APIRouter(tags=["operation"])


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive", "version": "0.1.0"}]})

    status: Literal["alive"] = "alive"
    version: str


class Ready(BaseModel):
    """Jobs are taken and worked on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ready",
                    "checks": {
                        "database": "ok", "storage": "ok", "model": "ok",
                        "worker": "1 alive, CPUExecutionProvider",
                    },
                }
            ]
        }
    )  # fmt: skip

    status: Literal["ready"] = "ready"
    checks: dict[str, str]


@router.get("/health/live", summary="Whether the process answers")
async def live() -> Alive:
    """Say that the process answers; nothing else is looked at."""
    return Alive(version=importlib.metadata.version("stemwright"))


@router.get(
    "/health/ready",
    response_model=Ready,
    responses=documented("unavailable"),
    summary="Whether jobs are taken and worked on",
)
async def ready(service: ServiceDep) -> Ready | Response:
    """Check database, storage, the default model's files, and a live worker with the device it was asked for.

    The answer is 503 with the failed checks in `errors` where one fails.
    """
    checks = {
        "database": await _checked(service.board.check()),
        "storage": await _checked(in_thread(service.storage.check)),
        "model": await _checked(_check_model(service)),
        "worker": await _checked(_check_worker(service)),
    }
    failed = {name: text for name, (ok, text) in checks.items() if not ok}
    if failed or service.closing.is_set():
        kind = KINDS["unavailable"]
        detail = "; ".join(f"{name}: {text}" for name, text in failed.items()) or "the service is ending"
        return problem_response(kind.status, "unavailable", detail, kind.remedy, fields=failed)
    return Ready(checks={name: text for name, (_, text) in checks.items()})


async def _checked(check: Awaitable[str | None]) -> tuple[bool, str]:
    try:
        return True, await check or "ok"
    except StemwrightError as error:
        return False, error.message


async def _check_model(service: Service) -> str | None:
    """Verify the default model here; where this machine has none at all, leave it to the workers."""
    if not await in_thread(service.catalogue.models):
        if any(worker.models for worker in await service.board.workers() if worker.alive):
            return "open in a worker"
        return "none on this machine; workers check theirs"
    await in_thread(service.catalogue.verify_default)
    return None


async def _check_worker(service: Service) -> str:
    alive = [worker for worker in await service.board.workers() if worker.alive]
    if not alive:
        raise BusyError("no worker is alive", "start one: `stemwright worker`")
    wrong = [worker for worker in alive if not _fits(worker.device, worker.provider)]
    if len(wrong) == len(alive):
        raise BusyError(
            f"the device {wrong[0].device} was asked for, {wrong[0].provider} is in use",
            "see the worker's log, or run `stemwright doctor` there",
        )
    providers = sorted({worker.provider or "no session open yet" for worker in alive})
    return f"{len(alive)} alive, {', '.join(providers)}"


def _fits(device: str, provider: str | None) -> bool:
    """Whether the provider that is in use is of the kind that was asked for; none is in use before a job."""
    kind = device.partition(":")[0].lower()
    return provider is None or kind == "auto" or kind in provider.lower()


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "examples": {
                        "queue": {"value": 'stemwright_queue_jobs{queue="default",status="queued"} 3'}
                    },
                }
            },
        },
        **documented("unauthenticated", BusyError),
    },
    summary="Metrics",
)
async def metrics(service: ServiceDep, _: CallerDep) -> Response:
    """Return queue depth and age, workers, jobs by outcome, run time per second of audio, bytes, requests."""
    queues = await service.board.queue_facts()
    workers = await service.board.workers()
    body = await in_thread(service.metrics.render, queues, workers)
    return Response(body, headers={"Content-Type": CONTENT_TYPE})
