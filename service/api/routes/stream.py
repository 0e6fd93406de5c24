"""Separation while the sound is made: samples in and stems out over a WebSocket."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from stemwright.service.api.context import Caller, Service, current_service, identify, in_thread
from stemwright.service.api.live import LiveStream, problem_for
from stemwright.service.api.problems import ProblemError, invalid_fields, shown
from stemwright.service.api.sockets import Socket
from stemwright.service.errors import BusyError
from stemwright.service.live.messages import LiveStart
from stemwright.service.live.process import LiveProcess
from stemwright.service.logs import request_id

router = APIRouter(tags=["jobs"])

_LOG = logging.getLogger("stemwright.streams")
_MOST_CHANNELS = 8  # each pair, or each single one, is a network's state of its own. Chosen here


def _names(value: object) -> object:
    return tuple(name for name in value.split(",") if name) if isinstance(value, str) else value


class StreamQuery(BaseModel):
    """What a stream is to be, from its address; pieces in milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, max_length=200)
    rate: int | None = Field(default=None, ge=1000, le=768_000)
    channels: int | None = Field(default=None, ge=1, le=_MOST_CHANNELS)
    format: Literal["s16le", "f32le"] = "s16le"
    stems: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    piece: float = Field(default=20.0, gt=0, le=1000)


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Separate a stream."""
    service = current_service(websocket)
    await websocket.accept(headers=[(b"x-request-id", request_id().encode())])
    socket = Socket(websocket, service.settings.stream_timeout_s)
    started = time.monotonic()
    code = 1006
    try:
        code = await _serve(websocket, socket, service)
    except WebSocketDisconnect as gone:
        code = gone.code
    except Exception as error:
        code = await socket.refuse(problem_for(error))
    finally:
        _account(websocket, socket, service, code, time.monotonic() - started)


async def _serve(websocket: WebSocket, socket: Socket, service: Service) -> int:
    caller = await identify(websocket, service)
    if caller.by_session and "origin" not in websocket.headers:
        raise ProblemError("bad_origin", "a session's cookie came without the page's Origin")
    try:
        query = StreamQuery.model_validate(_parameters(websocket))
    except ValidationError as error:
        raise invalid_fields(error) from None
    await in_thread(service.catalogue.check_streamable, query.model, query.stems)
    with _place(service, caller):
        _LOG.info("stream of %s begins", query.model, extra=_who(websocket))
        async with LiveProcess(_start(service, query)) as process:
            live = LiveStream(socket, process, service.settings.stream_timeout_s)
            return await live.run(service.closing)


def _parameters(websocket: WebSocket) -> dict[str, str]:
    found = {}
    for name, value in websocket.query_params.multi_items():
        if name in found:
            raise ProblemError("invalid", fields={shown(name): "given twice"})
        found[name] = value
    return found


def _start(service: Service, query: StreamQuery) -> LiveStart:
    settings = service.settings
    return LiveStart(
        model=query.model,
        models_dir=str(settings.models_dir.absolute()),
        sample_rate=query.rate,
        channels=query.channels,
        encoding=query.format,
        stems=query.stems or None,
        piece_s=query.piece / 1000,
        device=settings.device,
        precision=settings.precision,
        log_level=settings.log_level,
        log_format=settings.log_format,
        request_id=request_id(),
    )


@contextlib.contextmanager
def _place(service: Service, caller: Caller) -> Iterator[None]:
    """Hold one of the places for streams.

    Raises
    ------
    BusyError
        All are taken.
    """
    limit = service.settings.stream_limit
    if service.live.total() >= limit:
        raise BusyError(
            f"all {limit} streams of this service are in use" if limit else "this service takes no streams",
            "try again later, or make a job" if limit else "make a job, or have stream_limit raised",
        )
    service.live[caller.owner] += 1
    service.metrics.live.inc()
    try:
        yield
    finally:
        service.metrics.live.dec()
        service.live[caller.owner] -= 1
        if not service.live[caller.owner]:
            del service.live[caller.owner]


def _who(websocket: WebSocket) -> dict[str, object]:
    fields: dict[str, object] = {"path": websocket.url.path}
    if websocket.client is not None:
        fields["client"] = websocket.client.host
    if key_id := getattr(websocket.state, "key_id", None):
        fields["key_id"] = key_id
    return fields


def _account(websocket: WebSocket, socket: Socket, service: Service, code: int, seconds: float) -> None:
    """Log and count a stream that has ended, or was refused."""
    service.metrics.live_ended.labels(code=_label(code)).inc()
    service.metrics.bytes_in.inc(socket.bytes_in)
    service.metrics.bytes_out.inc(socket.bytes_out)
    fields = {
        **_who(websocket),
        "status": code,
        "seconds": round(seconds, 4),
        "bytes_in": socket.bytes_in,
        "bytes_out": socket.bytes_out,
    }
    _LOG.info("stream ended with %d", code, extra=fields)


def _label(code: int) -> str:
    """Return a code for a label: a client may close with thousands of its own."""
    ours = code <= 1015 or 4400 <= code < 4500
    return str(code) if ours else "other"
