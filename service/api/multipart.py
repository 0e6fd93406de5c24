"""Multipart bodies: the bytes of a file go from the socket through the parser to where they will lie.

Frameworks' own form parsing writes a whole file to a temporary one before a route runs; here it is counted
before anything spools it.

References
----------
RFC 7578, multipart/form-data.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from stemwright.service.api.bodies import (
    BLOCK_BYTES,
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    Form,
    blocks,
    declared_length,
    media_type,
    too_large,
)
from stemwright.service.api.problems import ProblemError

# What multipart adds around a file: boundaries, headers, the other fields.
MAX_OVERHEAD_BYTES = 1 << 20


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
