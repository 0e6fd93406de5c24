"""Uploads: bytes that come in one request or in several, resumable by offset.

The row in `sw_upload` comes before the first byte, and a part lies in the storage before the row says so:
whatever dies in between, the sweeper finds the row, and a client goes on from what is really there.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from sqlalchemy import RowMapping, insert, select, update
from starlette.requests import ClientDisconnect

from stemwright.service.api.bodies import too_large
from stemwright.service.api.parts import Part
from stemwright.service.api.problems import ProblemError
from stemwright.service.errors import NotFoundError
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.ending import drop_upload
from stemwright.service.jobs.schema import UPLOADS
from stemwright.service.settings import Settings
from stemwright.service.storage import (
    Storage,
    guard_free_space,
)

_MAX_NAME = 255
UNNAMED = "upload"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload as its owner sees it."""

    id: str
    owner: str
    filename: str
    size: int | None
    received: int
    complete: bool
    expires_at: float


def clean_name(name: str) -> str:
    """Return a file name to show: its last component, without control characters or what bends text.

    It is shown and put in headers and tags, and never part of a path.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    clean = "".join(c for c in last if c.isprintable()).strip().strip(".")
    if len(clean) > _MAX_NAME:
        stem, dot, extension = clean.rpartition(".")
        kept = dot + extension if dot and len(extension) <= 10 else ""
        clean = (stem if kept else clean)[: _MAX_NAME - len(kept)] + kept
    return clean or UNNAMED


class Uploads:
    """The uploads of all owners."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self._database = database
        self._storage = storage
        self._settings = settings
        self._writing: set[str] = set()

    async def create(self, owner: str, filename: str, size: int | None = None) -> Upload:
        """Begin an upload.

        Parameters
        ----------
        owner
            Whose it is.
        filename
            As sent.
        size
            Bytes that will come, None if that is not known.

        Raises
        ------
        ProblemError
            It would be too large.
        BusyError
            The disk has no room.
        """
        if size is not None and size > self._settings.max_upload_bytes:
            raise too_large(self._settings.max_upload_bytes)
        await to_thread.run_sync(self._guard, size or 0)
        now = time.time()
        row: dict[str, Any] = {
            "id": secrets.token_urlsafe(16),
            "owner": owner,
            "filename": clean_name(filename),
            "size": size,
            "received": 0,
            "complete": False,
            "expires_at": now + self._settings.uploads_ttl_s,
        }
        await to_thread.run_sync(self._write, insert(UPLOADS).values(created_at=now, **row))
        return Upload(**row)

    async def get(self, upload_id: str, owner: str) -> Upload:
        """Return an upload.

        Raises
        ------
        NotFoundError
            There is none of that id that is this owner's.
        """

        def read() -> RowMapping | None:
            with self._database.reading() as connection:
                chosen = select(UPLOADS).where(UPLOADS.c.id == upload_id, UPLOADS.c.owner == owner)
                return connection.execute(chosen).mappings().first()

        row = await to_thread.run_sync(read)
        if row is None or row["expires_at"] < time.time():
            raise NotFoundError("there is no such upload", "it may have expired: begin a new one")
        return Upload(**{name: row[name] for name in Upload.__dataclass_fields__})

    async def append(
        self, upload_id: str, owner: str, offset: int, blocks: AsyncIterable[bytes], length: int | None
    ) -> Upload:
        """Take bytes from an offset on; what came before a client went away is kept.

        Parameters
        ----------
        upload_id, owner
            Which upload.
        offset
            Where the bytes belong: what was received so far.
        blocks
            The bytes.
        length
            How many will come, if that is known.

        Raises
        ------
        ProblemError
            Another offset, more bytes than were announced, or somebody else is writing.
        NotFoundError
            There is no such upload.
        """
        with self._alone(upload_id):
            upload = await self.get(upload_id, owner)
            if offset != upload.received:
                raise ProblemError(
                    "wrong_offset",
                    f"the upload goes on at {upload.received}, not at {offset}",
                    headers={"Upload-Offset": str(upload.received)},
                )
            if upload.complete:
                raise ProblemError("upload_complete")
            most = (upload.size if upload.size is not None else self._settings.max_upload_bytes) - offset
            if (length or 0) > most:
                raise self._beyond(upload)
            await to_thread.run_sync(self._guard, length or 0)
            await self._take(upload, blocks, most)
            return await self.get(upload_id, owner)

    async def _take(self, upload: Upload, blocks: AsyncIterable[bytes], most: int) -> None:
        received = upload.received
        pending = aiter(blocks)
        more = True
        while more:
            part = Part(self._storage, upload.id, received)
            await part.open()
            failure: BaseException | None = None
            try:
                more = await part.fill(pending, upload.received + most - received)
            except (ClientDisconnect, ProblemError) as error:
                failure = error  # what came is good: it is kept, and the client goes on behind it
            except BaseException:
                await part.drop()
                raise
            received += await part.keep()
            await to_thread.run_sync(self._note, upload, received)
            if failure is not None:
                raise failure
            if more and received - upload.received >= most:
                if await anext(pending, b""):
                    raise self._beyond(upload)
                more = False

    def _note(self, upload: Upload, received: int) -> None:
        self._write(
            update(UPLOADS)
            .where(UPLOADS.c.id == upload.id)
            .values(received=received, complete=received == upload.size)
        )

    async def finish(self, upload: Upload, size: int) -> None:
        """Note that an upload of so many bytes is complete."""
        await to_thread.run_sync(
            self._write,
            update(UPLOADS).where(UPLOADS.c.id == upload.id).values(received=size, size=size, complete=True),
        )

    async def delete(self, upload_id: str, owner: str) -> None:
        """Remove an upload.

        Raises
        ------
        NotFoundError
            There is none.
        ProblemError
            It is being written, or a job needs it.
        """
        with self._alone(upload_id):
            upload = await self.get(upload_id, owner)
            if not await to_thread.run_sync(drop_upload, self._database, self._storage, upload.id):
                raise ProblemError("upload_in_use", "a job needs this upload", "delete the job first")

    async def discard(self, upload: Upload) -> None:
        """Remove an upload and its bytes, also while the request that wanted it is being cancelled."""
        await asyncio.shield(to_thread.run_sync(self._remove, upload.id, abandon_on_cancel=False))

    def _remove(self, upload_id: str) -> None:
        drop_upload(self._database, self._storage, upload_id)  # but not from under a job

    async def receive(self, owner: str, filename: str) -> "Receiver":
        """Begin an upload whose bytes all come in this request."""
        upload = await self.create(owner, filename)
        part = Part(self._storage, upload.id, 0)
        await part.open()
        return Receiver(self, upload, part, self._settings.max_upload_bytes)

    @contextlib.contextmanager
    def _alone(self, upload_id: str) -> Any:
        if upload_id in self._writing:
            raise ProblemError("upload_in_use")
        self._writing.add(upload_id)
        try:
            yield
        finally:
            self._writing.discard(upload_id)

    def _beyond(self, upload: Upload) -> ProblemError:
        if upload.size is None:
            return too_large(self._settings.max_upload_bytes)
        return ProblemError("too_large", f"more bytes than the {upload.size} that were announced")

    def _guard(self, needed: int) -> None:
        guard_free_space(self._storage, needed, least_free=self._settings.min_free_bytes)

    def _write(self, statement: Any) -> None:
        with self._database.writing() as connection:
            connection.execute(statement)


class Receiver:
    """The target of a file in a form: one part, whole or not at all.

    Attributes
    ----------
    upload
        Its row; complete once `finish` was called.
    size
        Bytes so far.
    """

    def __init__(self, uploads: Uploads, upload: Upload, part: Part, most: int) -> None:
        self.upload = upload
        self.size = 0
        self._uploads = uploads
        self._part = part
        self._most = most
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the bytes so far."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        if self.size > self._most:
            raise too_large(self._most)
        await to_thread.run_sync(self._digest.update, data)
        await self._part.write(data)

    async def finish(self) -> None:
        """Keep them.

        Raises
        ------
        ProblemError
            There are none.
        """
        if not self.size:
            name = self.upload.filename
            raise ProblemError("invalid", f"the file {name} is empty", fields={"file": "is empty"})
        await self._part.keep()
        await self._uploads.finish(self.upload, self.size)

    async def abort(self) -> None:
        """Keep nothing."""
        await self._part.drop()
        await self._uploads.discard(self.upload)
