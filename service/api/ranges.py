"""Files of the storage as responses: ranges, conditions, names.

References
----------
RFC 9110, sections 13 (conditional requests) and 14 (range requests); RFC 6266 and RFC 5987 (file names).
"""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from anyio import to_thread
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from stemwright.service.api.problems import ProblemError
from stemwright.service.storage import Storage

Disposition = Literal["inline", "attachment"]

_RANGES = re.compile(r"bytes\s*=\s*(.+)", re.IGNORECASE)
_ONE = re.compile(r"(\d*)\s*-\s*(\d*)", re.ASCII)
_MAX_RANGES = 100
_ASCII_NAME = re.compile(r"[^A-Za-z0-9!#$&+.^_`|~ -]")


@dataclass(frozen=True, kw_only=True)
class ServedFile:
    """A file as it is sent.

    Parameters
    ----------
    key
        In the storage.
    size
        Bytes.
    etag
        Opaque tag, without quotes, that changes with the content.
    mime
        Media type.
    name
        File name for the client to save it under.
    """

    key: str
    size: int
    etag: str
    mime: str
    name: str


def chosen_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return first byte and the byte behind the last of a Range header; None to send the whole.

    Several ranges that join are sent as one, others as the whole: parts of a multipart answer are of no use
    for audio. A header that cannot be read is as good as none.

    Raises
    ------
    ProblemError
        All of it lies outside of the file.
    """
    match = _RANGES.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    pieces = match[1].split(",")
    if len(pieces) > _MAX_RANGES:
        return None
    found = []
    for piece in pieces:
        one = _ONE.fullmatch(piece.strip())
        if one is None or (not one[1] and not one[2]):
            return None
        if one[1] and one[2] and int(one[2]) < int(one[1]):
            return None
        first = int(one[1]) if one[1] else max(0, size - int(one[2]))
        last = min(int(one[2]), size - 1) if one[1] and one[2] else size - 1
        if first <= last:
            found.append((first, last + 1))
    if not found:
        raise ProblemError("range_not_satisfiable", headers={"Content-Range": f"bytes */{size}"})
    found.sort()
    start, end = found[0]
    for first, behind in found[1:]:
        if first > end:
            return None
        end = max(end, behind)
    return start, end


def content_disposition(name: str, disposition: Disposition) -> str:
    """Return the header for a file name of any characters."""
    plain = _ASCII_NAME.sub("_", name)
    header = f'{disposition}; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"


def matches(header: str | None, etag: str, *, weak: bool) -> bool:
    """Whether a list of tags names this one; `weak` lets weak tags count (If-None-Match)."""
    if header is None:
        return False
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or f'"{etag}"' in tags or (weak and f'W/"{etag}"' in tags)


async def send_file(
    request: Request, storage: Storage, file: ServedFile, disposition: Disposition
) -> Response:
    """Return the answer to a GET or HEAD of a file that never changes.

    Raises
    ------
    ProblemError
        A range outside of the file.
    NotFoundError
        The file is gone.
    """
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.etag}"',
        "Cache-Control": "private, max-age=3600, no-transform",
        "Content-Disposition": content_disposition(file.name, disposition),
    }
    if matches(request.headers.get("if-none-match"), file.etag, weak=True):
        return Response(status_code=304, headers=headers)
    condition = request.headers.get("if-range")
    wanted = None
    if condition is None or matches(condition, file.etag, weak=False):
        wanted = chosen_range(request.headers.get("range"), file.size)
    start, end = wanted or (0, file.size)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["Content-Length"] = str(end - start)
    status = 200 if wanted is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.mime)
    blocks = storage.open_range(file.key, start, end)
    first = await to_thread.run_sync(next, blocks, b"")  # an error here can still be answered as one
    return StreamingResponse(in_blocks(blocks, first), status, headers, media_type=file.mime)


async def in_blocks(blocks: Iterator[bytes], first: bytes = b"") -> AsyncIterator[bytes]:
    """Yield what an iterator that blocks gives, each block from a thread; it is closed at the end."""
    try:
        if first:
            yield first
        while (block := await to_thread.run_sync(next, blocks, b"")) != b"":
            yield block
    finally:
        close = getattr(blocks, "close", None)
        if close is not None:
            close()
