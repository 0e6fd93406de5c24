"""One file of an upload while it is written, from threads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

from anyio import to_thread

from stemwright.service.api.bodies import BLOCK_BYTES
from stemwright.service.api.problems import ProblemError
from stemwright.service.storage import FileSink, Storage, upload_part_key

# A PATCH is stored in parts of this size: what is lost when this process is killed is at most one.
PART_BYTES = 64 << 20


class Part:
    """One file of the storage while it is written, from threads."""

    def __init__(self, storage: Storage, upload_id: str, offset: int) -> None:
        self._context: AbstractContextManager[FileSink] | None = storage.writer(
            upload_part_key(upload_id, offset)
        )
        self._sink: FileSink | None = None
        self._size = 0

    async def open(self) -> None:
        """Begin."""
        assert self._context is not None  # opened once
        self._sink = await to_thread.run_sync(self._context.__enter__)

    async def write(self, data: bytes) -> None:
        """Append bytes."""
        assert self._sink is not None  # opened first
        await to_thread.run_sync(self._sink.write, data)
        self._size += len(data)

    async def fill(self, blocks: AsyncIterator[bytes], most: int) -> bool:
        """Write until the part is full; return whether more may come."""
        buffer = bytearray()
        try:
            while self._size + len(buffer) < min(PART_BYTES, most):
                block = await anext(blocks, None)
                if block is None:
                    return False
                buffer += block
                if self._size + len(buffer) > most:
                    del buffer[most - self._size :]
                    raise ProblemError("too_large", "more bytes than were announced")
                if len(buffer) >= BLOCK_BYTES:
                    await self._drain(buffer)
        finally:
            await self._drain(buffer)
        return True

    async def _drain(self, buffer: bytearray) -> None:
        if buffer:
            data = bytes(buffer)
            buffer.clear()
            await self.write(data)

    async def keep(self) -> int:
        """Put the file in place, if it has any bytes; return them."""
        if self._size == 0:
            await self.drop()
            return 0
        context, self._context = self._context, None
        if context is not None:
            await to_thread.run_sync(context.__exit__, None, None, None)
        return self._size

    async def drop(self) -> None:
        """Leave nothing of it."""
        context, self._context = self._context, None
        if context is None or self._sink is None:
            return
        gone = _DroppedError()
        with contextlib.suppress(_DroppedError):
            await asyncio.shield(to_thread.run_sync(context.__exit__, _DroppedError, gone, None))


class _DroppedError(Exception):
    """Tells a writer to keep nothing."""
