"""The parent's end of a stream's process: pipes are bounded, so that who is slow slows all before them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from stemwright.core.errors import InternalError, StemwrightError
from stemwright.service.isolation.messages import Failure, as_json
from stemwright.service.live import messages
from stemwright.service.live.messages import LiveStart

PROGRAM = (sys.executable, "-P", "-m", "stemwright.service.live.child")
# Opening a model can mean comparing its outputs with another provider's first.
_STARTING_S = 120.0
# A model that takes nothing for so long, while its results are read, hangs.
_STALL_S = 120.0
# What holds or names secrets of the service is not for a process that needs none.
_WITHHELD = ("STEMWRIGHT_", "AWS_", "PG")


class LiveProcess:
    """A process for one stream; an asynchronous context manager that kills it at its end.

    Parameters
    ----------
    start
        What it runs.
    """

    def __init__(self, start: LiveStart) -> None:
        self._start = start
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            as_json(self._start).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
            limit=messages.MAX_BYTES,
            start_new_session=True,  # Ctrl-C reaches the whole group; this one ends with its pipe
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._running
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        process.stdin.close()
        while await process.stdout.read(messages.MAX_BYTES):
            pass  # its end is noticed only behind what it still said
        await process.wait()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._running.pid

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None  # entered
        return self._process

    async def head(self) -> dict[str, Any]:
        """Return what the process will give; raises as `answers`."""
        try:
            async with asyncio.timeout(_STARTING_S):
                kind, data = await self._next()
        except TimeoutError:
            raise InternalError(
                f"the model was not open after {_STARTING_S:g} s", "see the server's log"
            ) from None
        if kind != messages.HEAD:
            raise _nonsense()
        return _object(data)

    async def feed(self, data: bytes) -> None:
        """Hand over samples; returns when nearly all of them were taken.

        Raises
        ------
        InternalError
            The model hangs.
        BrokenPipeError, ConnectionResetError
            The process has ended; what it said of that comes from `answers`.
        """
        for piece in messages.split(data):
            await self._write(messages.HEADER.pack(messages.SAMPLES, len(piece)) + piece)

    async def end(self) -> None:
        """Say that no more samples come; raises as `feed`."""
        await self._write(messages.HEADER.pack(messages.END, 0))

    async def answers(self) -> AsyncIterator[bytes | dict[str, Any]]:
        """Give samples as they come, and at last the report.

        Raises
        ------
        StemwrightError
            What went wrong there.
        """
        while True:
            kind, data = await self._next()
            if kind == messages.REPORT:
                yield _object(data)
                return
            if kind != messages.SAMPLES:
                raise _nonsense()
            yield data

    async def _write(self, data: bytes) -> None:
        stream = self._running.stdin
        assert stream is not None  # a pipe
        stream.write(data)
        try:
            async with asyncio.timeout(_STALL_S):
                await stream.drain()
        except TimeoutError:
            raise InternalError(
                f"the model took no samples for {_STALL_S:g} s", "see the server's log"
            ) from None

    async def _next(self) -> tuple[bytes, bytes]:
        stream = self._running.stdout
        assert stream is not None  # a pipe
        try:
            kind, size = messages.HEADER.unpack(await stream.readexactly(messages.HEADER.size))
            if size > (messages.MAX_BYTES if kind == messages.SAMPLES else messages.MAX_JSON_BYTES):
                raise _nonsense()
            data = await stream.readexactly(size)
        except asyncio.IncompleteReadError:
            raise await self._died() from None
        if kind == messages.FAILURE:
            raise _failure(Failure(**_object(data)))
        return kind, data

    async def _died(self) -> InternalError:
        code = await self._running.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return InternalError(f"the stream's process ended early ({how})", "see the server's log")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}


def _object(data: bytes) -> dict[str, Any]:
    found = json.loads(data)
    if not isinstance(found, dict):
        raise _nonsense()
    return found


def _nonsense() -> InternalError:
    return InternalError("the stream's process answers nonsense", "see the server's log")


def _failure(failure: Failure) -> StemwrightError:
    known = {kind.code: kind for kind in _subclasses(StemwrightError)}.get(failure.code or "")
    if known is None:
        return InternalError(f"the stream's process failed ({failure.message})", "see the server's log")
    return known(failure.message, failure.remedy)


def _subclasses(kind: type[StemwrightError]) -> list[type[StemwrightError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _subclasses(child))]
