"""Request bodies as streams: counted as they come, and given up when they stall."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header

from stemwright.service.api.problems import ProblemError, invalid_fields

_M = TypeVar("_M", bound=BaseModel)

MAX_FIELD_BYTES = 1 << 16
MAX_FIELDS = 100
MAX_JSON_BYTES = 1 << 20
# Bytes gathered before they go to a thread that writes them.
BLOCK_BYTES = 1 << 20
# A body slower than this, once it has had the time of `grace`, only holds a connection.
_LEAST_BYTES_PER_S = 1024
_SLOW_GRACE_S = 60.0


@dataclass(kw_only=True)
class Form:
    """The fields of a form, in the order they came."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)

    def add(self, name: str, value: str) -> None:
        """Add a field, which may come several times."""
        self.fields.setdefault(name, []).append(value)


def media_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    """Return the media type of the body, in lower case, and its parameters."""
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    return kind.decode("latin-1").lower(), parameters


def declared_length(request: Request) -> int | None:
    """Return Content-Length; None for a body of unknown length."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() else None


async def blocks(request: Request, timeout_s: float) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    Raises
    ------
    ProblemError
        It stalled, or only trickles.
    ClientDisconnect
        The client is gone.
    """
    started, received = time.monotonic(), 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(timeout_s):
                block = await anext(stream, None)
        except TimeoutError:
            raise ProblemError("slow_client", headers={"Connection": "close"}) from None
        if block is None:
            return
        received += len(block)
        elapsed = time.monotonic() - started
        if elapsed > _SLOW_GRACE_S and received < elapsed * _LEAST_BYTES_PER_S:
            raise ProblemError("slow_client", headers={"Connection": "close"})
        if block:
            yield block


async def read_small(request: Request, limit: int, timeout_s: float) -> bytes:
    """Return a body that is meant to be small.

    Raises
    ------
    ProblemError
        It is larger than `limit`, or stalls.
    """
    if (declared_length(request) or 0) > limit:
        raise ProblemError("too_large", f"a body of this kind may have {limit} bytes")
    found = bytearray()
    async for block in blocks(request, timeout_s):
        found += block
        if len(found) > limit:
            raise ProblemError("too_large", f"a body of this kind may have {limit} bytes")
    return bytes(found)


async def read_json(request: Request, timeout_s: float, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ProblemError
        It is none, too large, or stalls.
    """
    body = await read_small(request, limit, timeout_s)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise ProblemError("bad_request", "the body is no JSON") from None
    if not isinstance(values, dict):
        raise ProblemError("invalid", "the body is no JSON object", fields={"body": "is no object"})
    return values


async def read_model(request: Request, timeout_s: float, model: type[_M]) -> _M:
    """Read a small JSON object that is to be a model; raises ProblemError if it is not."""
    if media_type(request)[0] != "application/json":
        raise ProblemError("unsupported_media_type", remedy="send application/json")
    values = await read_json(request, timeout_s, MAX_FIELD_BYTES)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_fields(error) from None


async def read_urlencoded(request: Request, timeout_s: float) -> Form:
    """Read a form without files."""
    text = (await read_small(request, MAX_JSON_BYTES, timeout_s)).decode("utf-8", "replace")
    form = Form()
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise ProblemError("bad_request", f"more than {MAX_FIELDS} fields") from None
    for name, value in pairs:
        form.add(name, value)
    return form


def too_large(max_bytes: int) -> ProblemError:
    """Return the problem of an upload beyond the limit."""
    return ProblemError(
        "too_large", f"an upload may have at most {max_bytes} bytes", headers={"Connection": "close"}
    )


def split_once(values: list[str]) -> Iterator[str]:
    """Yield the items of a list field, which may be repeated or written `a,b`."""
    for value in values:
        for item in value.split(","):
            yield item.strip()
