"""Sending files: small ones with the request for the job, large ones in pieces that can be gone on with."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

import httpx

from stemwright.core.errors import InputError
from stemwright.service.client.connection import AnswerError, Connection, Patience
from stemwright.service.errors import BusyError

BLOCK_BYTES = 1 << 20
# After each piece the service tells what it has: a broken connection costs one at most.
PIECE_BYTES = 64 << 20

Sent = Callable[[int, int], None]
"""Called with the bytes that were sent, and their whole number."""


def file_size(path: Path) -> int:
    """Return the size of a file that can be sent.

    Raises
    ------
    InputError
        There is none, it is a folder, or empty.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder", "name a recording")
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "check the path") from error
    if size == 0:
        raise InputError(f"{path.name} is empty (0 bytes)", "copy or download the file again")
    return size


async def upload(connection: Connection, path: Path, sent: Sent | None) -> str:
    """Send a file in pieces, going on where a broken connection left off; return the upload's id.

    Raises
    ------
    InputError
        The file cannot be read, or became shorter.
    StemwrightError
        What the service tells.
    """
    size = await asyncio.to_thread(file_size, path)
    begun = await connection.call("POST", "/v1/uploads", json={"filename": _shown(path), "size": size})
    upload_id = str(begun.json()["id"])
    patience = Patience(connection.patience_s)
    offset = 0
    with path.open("rb") as file:
        while offset < size:
            before = offset
            try:
                stop = min(size, offset + PIECE_BYTES)
                content = _blocks(file, offset, stop, sent, size)
                offset = await _piece(connection, upload_id, content, offset, stop)
            except httpx.TransportError as error:
                await patience.wait(connection.away(error))
                offset = await _offset(connection, upload_id)
            except AnswerError as error:
                offset = await _after(error, connection, upload_id, patience)
            if offset > before:
                patience.renew()
    return upload_id


async def _after(error: AnswerError, connection: Connection, upload_id: str, patience: Patience) -> int:
    """Return where to go on after an answer that was an error; raises what is not to be got over."""
    if not (error.passes or error.problem.code in ("wrong_offset", "upload_in_use", "slow_client")):
        raise error.problem
    await patience.wait(error.problem, error.retry_after_s)
    return await _offset(connection, upload_id)


async def _piece(
    connection: Connection, upload_id: str, content: AsyncIterator[bytes], start: int, stop: int
) -> int:
    headers = {
        "Upload-Offset": str(start),
        "Content-Type": "application/octet-stream",
        "Content-Length": str(stop - start),
    }
    path = f"/v1/uploads/{upload_id}"
    async with connection.stream("PATCH", path, content=content, headers=headers) as response:
        await response.aread()
        return int(response.json()["received"])


async def _blocks(
    file: BinaryIO, start: int, stop: int, sent: Sent | None, size: int
) -> AsyncIterator[bytes]:
    while start < stop:
        block = await asyncio.to_thread(os.pread, file.fileno(), min(BLOCK_BYTES, stop - start), start)
        if not block:
            raise InputError(f"{file.name} became shorter while it was sent", "send it again")
        yield block
        start += len(block)
        if sent is not None:
            sent(start, size)


async def _offset(connection: Connection, upload_id: str) -> int:
    answer = await connection.call("HEAD", f"/v1/uploads/{upload_id}")
    try:
        return int(answer.headers["upload-offset"])
    except (KeyError, ValueError) as error:
        raise BusyError("the service does not tell how much it has", "try again") from error


def _shown(path: Path) -> str:
    """Return the file's name as JSON can carry it."""
    return path.name.encode("utf-8", "replace").decode()
