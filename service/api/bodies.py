"""Request bodies as streams: counted as they come, before anything spools them, and given up when they stall.

Frameworks' own form parsing writes a whole file to a temporary one before a route runs; here the bytes of
a file go from the socket through the parser to where they will lie.

References
----------
RFC 7578, multipart/form-data.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from stemwright.service.api.problems import ProblemError, invalid_fields

_M = TypeVar("_M", bound=BaseModel)

MAX_FIELD_BYTES = 1 << 16
MAX_FIELDS = 100
MAX_JSON_BYTES = 1 << 20
# What multipart adds around a file: boundaries, headers, the other fields.
MAX_OVERHEAD_BYTES = 1 << 20
# Bytes gathered before they go to a thread that writes them.
BLOCK_BYTES = 1 << 20
# A body slower than this, once it has had the time of `grace`, only holds a connection.
_LEAST_BYTES_PER_S = 1024
_SLOW_GRACE_S = 60.0


class Target(Protocol):
    """Where the bytes of a file go."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes; raises ProblemError if they are too many."""

    async def finish(self) -> None:
        """All bytes have come."""

    async def abort(self) -> None:
        """Nothing of it is wanted."""


Open = Callable[[str, str], Awaitable[Target]]
"""Gives the target of a file part: (field name, file name) to target."""


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


async def read_multipart(request: Request, open_target: Open, *, max_bytes: int, timeout_s: float) -> Form:
    """Read a form, its files streamed to their targets.

    Whatever goes wrong, no target is left open: each was finished or aborted.

    Parameters
    ----------
    request
        The request.
    open_target
        Gives the target of a file part.
    max_bytes
        Most bytes of all files together.
    timeout_s
        Longest silence.

    Raises
    ------
    ProblemError
        The body is no multipart, is too large, stalls, or a target refused it.
    ClientDisconnect
        The client is gone.
    """
    boundary = media_type(request)[1].get(b"boundary", b"")
    if not boundary:
        raise ProblemError("bad_multipart", "the Content-Type names no boundary")
    if (declared_length(request) or 0) > max_bytes + MAX_OVERHEAD_BYTES:
        raise too_large(max_bytes)
    reader = _Reader(boundary, open_target, max_bytes)
    try:
        async for block in blocks(request, timeout_s):
            await reader.feed(block)
        await reader.end()
    except BaseException:
        await reader.abort()
        raise
    return reader.form


def too_large(max_bytes: int) -> ProblemError:
    """Return the problem of an upload beyond the limit."""
    return ProblemError(
        "too_large", f"an upload may have at most {max_bytes} bytes", headers={"Connection": "close"}
    )


class _Reader:
    """Turns the parser's callbacks, which cannot wait, into events that can."""

    def __init__(self, boundary: bytes, open_target: Open, max_bytes: int) -> None:
        self.form = Form()
        self._open = open_target
        self._max_bytes = max_bytes
        self._received = 0
        self._overhead = 0
        self._parts = 0
        self._events: list[tuple[str, bytes]] = []
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = bytearray(), bytearray()
        self._name = ""
        self._text: bytearray | None = None
        self._target: Target | None = None
        self._buffer = bytearray()
        self._opened: list[Target] = []
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": lambda: self._events.append(("begin", b"")),
                    "on_header_field": lambda d, s, e: self._events.append(("field", d[s:e])),
                    "on_header_value": lambda d, s, e: self._events.append(("value", d[s:e])),
                    "on_header_end": lambda: self._events.append(("header", b"")),
                    "on_headers_finished": lambda: self._events.append(("headers", b"")),
                    "on_part_data": lambda d, s, e: self._events.append(("data", d[s:e])),
                    "on_part_end": lambda: self._events.append(("end", b"")),
                    "on_end": lambda: self._events.append(("finish", b"")),
                },
            )
        except FormParserError as error:
            raise ProblemError("bad_multipart", str(error)) from None

    async def feed(self, block: bytes) -> None:
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise ProblemError("bad_multipart", f"the multipart body cannot be read: {error}") from None
        events, self._events = self._events, []
        before = self._received
        for kind, data in events:
            await self._handle(kind, data)
        self._overhead += max(0, len(block) - (self._received - before))
        if self._overhead > MAX_OVERHEAD_BYTES + MAX_FIELDS * MAX_FIELD_BYTES:
            raise ProblemError("bad_multipart", "the multipart body has more wrapping than content")

    async def end(self) -> None:
        if not self._ended:
            raise ProblemError("bad_multipart", "the multipart body ends before its last boundary")

    async def abort(self) -> None:
        for target in self._opened:
            await target.abort()

    async def _handle(self, kind: str, data: bytes) -> None:
        match kind:
            case "begin":
                self._parts += 1
                if self._parts > MAX_FIELDS:
                    raise ProblemError("bad_multipart", f"more than {MAX_FIELDS} parts")
                self._headers, self._text, self._target = {}, None, None
            case "field":
                self._header += data
            case "value":
                self._value += data
            case "header":
                self._headers[bytes(self._header).lower()] = bytes(self._value)
                self._header.clear()
                self._value.clear()
            case "headers":
                await self._begin()
            case "data":
                await self._take(data)
            case "end":
                await self._end_part()
            case _:
                self._ended = True

    async def _begin(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind.lower() != b"form-data" or b"name" not in options:
            raise ProblemError("bad_multipart", "a part has no Content-Disposition: form-data with a name")
        self._name = options[b"name"].decode("utf-8", "replace")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise ProblemError("bad_multipart", "a part has a Content-Transfer-Encoding", "leave it out")
        if b"filename" not in options:
            self._text = bytearray()
            return
        self._target = await self._open(self._name, options[b"filename"].decode("utf-8", "replace"))
        self._opened.append(self._target)
        self.form.files.add(self._name)

    async def _take(self, data: bytes) -> None:
        if self._text is not None:
            self._text += data
            if len(self._text) > MAX_FIELD_BYTES:
                raise ProblemError(
                    "too_large", f"the field {self._name!r} is larger than {MAX_FIELD_BYTES} bytes"
                )
            return
        self._received += len(data)
        if self._received > self._max_bytes:
            raise too_large(self._max_bytes)
        self._buffer += data
        if len(self._buffer) >= BLOCK_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        if self._buffer and self._target is not None:
            data = bytes(self._buffer)
            self._buffer.clear()
            await self._target.write(data)

    async def _end_part(self) -> None:
        if self._text is not None:
            self.form.add(self._name, self._text.decode("utf-8", "replace"))
        elif self._target is not None:
            await self._flush()
            await self._target.finish()


def split_once(values: list[str]) -> Iterator[str]:
    """Yield the items of a list field, which may be repeated or written `a,b`."""
    for value in values:
        for item in value.split(","):
            yield item.strip()
