"""Getting stem files: resumed where they were left off, checked, and in place all at once."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import httpx

from stemwright.core.errors import InternalError, ResourceError, output_error
from stemwright.service.client.connection import AnswerError, Connection, Patience
from stemwright.service.client.views import Stem

Received = Callable[[int, int], None]
"""Called with the bytes of a file that are here, and their whole number."""


async def download(
    connection: Connection, job_id: str, stem: Stem, target: Path, received: Received | None
) -> Path:
    """Get a stem file; what an earlier try left beside the target is gone on with.

    Raises
    ------
    OutputError, ResourceError
        The target cannot be written.
    InternalError
        What came is not what the service says it is, twice.
    StemwrightError
        What the service tells.
    """
    url = f"/v1/jobs/{job_id}/stems/{quote(stem.file, safe='')}"
    part = target.with_name(f".{stem.sha256[:32]}.part")
    for last in (False, True):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            await _fill(connection, url, stem, part, received)
            if await asyncio.to_thread(_digest, part) == stem.sha256:
                await asyncio.to_thread(_put_in_place, part, target)
                return target
            part.unlink()
        except OSError as error:
            raise output_error(target, error) from error
        if last:
            break
    raise InternalError(
        f"{stem.file} did not arrive as the service made it",
        "try again; check what lies in between",
    )


async def _fill(connection: Connection, url: str, stem: Stem, part: Path, received: Received | None) -> None:
    """Append what is missing until the part has the file's size."""
    patience = Patience(connection.patience_s)
    with part.open("ab") as file:
        while (have := file.tell()) < stem.size:
            try:
                await _append(connection, url, stem, file, received)
            except httpx.TransportError as error:
                await patience.wait(connection.away(error))
            except AnswerError as error:
                if not error.passes:
                    raise error.problem from error
                await patience.wait(error.problem, error.retry_after_s)
            else:
                if file.tell() == have:
                    await patience.wait(ResourceError(f"{stem.file} ends too soon", "try again"))
            if file.tell() > have:
                patience.renew()
        if file.tell() > stem.size:
            file.truncate(stem.size)


async def _append(
    connection: Connection, url: str, stem: Stem, file: BinaryIO, received: Received | None
) -> None:
    have = file.tell()
    headers = {"Range": f"bytes={have}-", "If-Range": f'"{stem.sha256}"'} if have else {}
    async with connection.stream("GET", url, headers={**headers, "Accept-Encoding": "identity"}) as answer:
        if have and answer.status_code != httpx.codes.PARTIAL_CONTENT:
            file.truncate(0)
        async for block in answer.aiter_bytes():
            await asyncio.to_thread(file.write, block)
            if received is not None:
                received(file.tell(), stem.size)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _put_in_place(part: Path, target: Path) -> None:
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(target)
