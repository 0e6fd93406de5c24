"""A job's progress as server-sent events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from stemwright.core.errors import OptionError, StemwrightError
from stemwright.service.api.context import CallerDep, Service, ServiceDep
from stemwright.service.api.describing import EVENT_SCHEMA
from stemwright.service.api.problems import documented, retry_after
from stemwright.service.api.routes.jobs import JobId
from stemwright.service.errors import BusyError, NotFoundError
from stemwright.service.jobs.model import ProgressEvent

router = APIRouter(tags=["jobs"])

_EVENT_ID = r"^[0-9]{1,11}(-end)?$"
HEARTBEAT_S = 10.0
# When a client connects again after the connection broke.
_RETRY_MS = 2000


@router.get(
    "/v1/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events `progress`, and `final` as the last one (`gone` if the job is deleted"
            " meanwhile); comments in between keep the connection alive.",
            "content": {
                "text/event-stream": {
                    "schema": EVENT_SCHEMA,
                    "examples": {
                        "progress": {
                            "value": "id: 7\nevent: progress\ndata: "
                            '{"id":"7","status":"running","stage":"separate","fraction":0.42}\n\n'
                        }
                    },
                }
            },
        },
        **documented(NotFoundError, OptionError, "invalid", "too_many_streams", BusyError),
    },
    summary="Follow a job",
)
async def follow_job(
    job_id: JobId,
    service: ServiceDep,
    caller: CallerDep,
    last_event_id: Annotated[
        str | None, Header(description="Go on behind this event.", pattern=_EVENT_ID)
    ] = None,
    after: Annotated[
        str | None, Query(description="The same, for clients that cannot set headers.", pattern=_EVENT_ID)
    ] = None,
) -> StreamingResponse:
    """Send what the job has told so far, what it tells from now on, and at last its final state."""
    if service.streams[caller.owner] >= service.settings.max_event_streams:
        raise retry_after("too_many_streams", 10)
    events = service.board.events(job_id, owner=caller.owner, after=last_event_id or after)
    # An unknown job or id is to be an answer, not a stream that breaks off.
    first = await _first_or_pending(events)
    return _EventResponse(service, caller.owner, events, first)


class _EventResponse(StreamingResponse):
    """A stream that counts for its owner from here on, until it has ended in whatever way."""

    def __init__(
        self,
        service: Service,
        owner: str,
        events: AsyncIterator[ProgressEvent],
        first: "asyncio.Task[ProgressEvent]",
    ) -> None:
        super().__init__(
            _stream(service, events, first),
            headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"},
            media_type="text/event-stream",
        )
        self._service = service
        self._owner = owner
        service.streams[owner] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        self._service.metrics.streams.inc()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._service.metrics.streams.dec()
            self._service.streams[self._owner] -= 1
            if not self._service.streams[self._owner]:
                del self._service.streams[self._owner]


async def _first_or_pending(events: AsyncIterator[ProgressEvent]) -> "asyncio.Task[ProgressEvent]":
    task = asyncio.ensure_future(_next(events))
    await asyncio.wait({task}, timeout=0.5)
    if task.done() and not isinstance(task.exception(), StopAsyncIteration):
        task.result()
    return task


async def _next(events: AsyncIterator[ProgressEvent]) -> ProgressEvent:
    return await anext(events)


async def _stream(
    service: Service, events: AsyncIterator[ProgressEvent], task: "asyncio.Task[ProgressEvent]"
) -> AsyncIterator[bytes]:
    """Yield the events as text until the final one, the server's end, or the client's."""
    closing = asyncio.ensure_future(service.closing.wait())
    try:
        yield b"retry: %d\n\n" % _RETRY_MS
        while True:
            await asyncio.wait({task, closing}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if closing.done():
                return  # the client connects again, to whoever serves then, and misses nothing
            if not task.done():
                yield b": still there\n\n"
                continue
            try:
                event = task.result()
            except StemwrightError as error:  # deleted meanwhile; the stream has begun, so as an event
                told = {"code": error.code, "message": error.message}
                yield f"event: gone\ndata: {json.dumps(told)}\n\n".encode()
                return
            yield as_text(event)
            if event.final:
                return
            task = asyncio.ensure_future(_next(events))
    finally:
        closing.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def as_text(event: ProgressEvent) -> bytes:
    """Return an event as it goes over the wire."""
    kind = "final" if event.final else "progress"
    return f"id: {event.id}\nevent: {kind}\ndata: {event.model_dump_json()}\n\n".encode()
