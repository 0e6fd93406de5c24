"""One stream of samples: what its client sends goes to its process, and what that gives to the client."""

import asyncio
import logging
import math
import time
from typing import NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from stemwright.core.errors import StemwrightError
from stemwright.service.api.kinds import KINDS
from stemwright.service.api.problems import Problem, ProblemError, problem_of
from stemwright.service.api.sockets import NORMAL, RESTARTING, SlowClientError, Socket
from stemwright.service.live.process import LiveProcess

_LOG = logging.getLogger(__name__)
_INTERNAL_STATUS = 500


class _Said(BaseModel):
    """A text message of a client."""

    model_config = ConfigDict(extra="forbid", strict=True)

    end: bool


class LiveStream:
    """A stream between a socket and a process.

    Parameters
    ----------
    socket
        Accepted.
    process
        Started.
    silence_s
        Time after which a client that neither sends nor is sent anything is given up.
    """

    def __init__(self, socket: Socket, process: LiveProcess, silence_s: float) -> None:
        self._socket = socket
        self._process = process
        self._silence_s = silence_s
        self._moved = math.inf  # when something last went to or fro; not before the model is open

    async def run(self, closing: asyncio.Event) -> int:
        """Pass everything on until the stream's end; return the code it was closed with.

        Raises
        ------
        WebSocketDisconnect
            The client went away.
        SlowClientError, ProblemError, StemwrightError
            What is to be told to it.
        """
        tasks = [asyncio.ensure_future(work) for work in (self._answer(), self._listen(), _end_with(closing))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        code = next(task for task in tasks if task in done).result()
        await self._socket.close(code)
        return code

    async def _answer(self) -> int:
        await self._socket.tell({"stream": await self._process.head()})
        self._moved = time.monotonic()
        async for answer in self._process.answers():
            if isinstance(answer, bytes):
                await self._socket.send(answer)
            else:
                await self._socket.tell({"report": answer})
            self._moved = time.monotonic()
        return NORMAL

    async def _listen(self) -> NoReturn:
        try:
            while True:
                message = await self._next()
                if isinstance(message, str):
                    break
                await self._process.feed(message)
                self._moved = max(self._moved, time.monotonic())
            _require_end(message)
            await self._process.end()
        except (BrokenPipeError, ConnectionResetError):
            await asyncio.Event().wait()  # the process has ended, and the other task learns why
        await self._socket.receive()  # nothing is to come but the client's going away
        raise ProblemError("bad_message", "a message came behind the end of the stream")

    async def _next(self) -> bytes | str:
        """Return the next message, or give the client up."""
        receiving = asyncio.ensure_future(self._socket.receive())
        try:
            while not receiving.done():
                left = self._moved + self._silence_s - time.monotonic()
                if left <= 0:
                    raise ProblemError(
                        "slow_client",
                        f"nothing came for {self._silence_s:g} s",
                        "send silence as samples, or open the stream again when there is sound",
                    )
                await asyncio.wait({receiving}, timeout=min(left, self._silence_s))
            return receiving.result()
        finally:
            receiving.cancel()


async def _end_with(closing: asyncio.Event) -> int:
    await closing.wait()
    return RESTARTING


def _require_end(text: str) -> None:
    try:
        if _Said.model_validate_json(text).end:
            return
    except ValidationError:
        pass
    raise ProblemError("bad_message")


def problem_for(error: Exception) -> Problem:
    """Return what is told of an error that ends a stream; faults of ours are logged and not told."""
    if isinstance(error, ProblemError):
        return problem_of(error.status, error.code, error.detail, error.remedy, fields=error.fields)
    if isinstance(error, SlowClientError):
        kind = KINDS["slow_client"]
        return problem_of(
            kind.status, "slow_client", "what was sent was not read in time", "read while you send"
        )
    if isinstance(error, StemwrightError) and error.http_status != _INTERNAL_STATUS:
        return problem_of(error.http_status, error.code, error.message, error.remedy)
    _LOG.error("the stream failed: %s", error, exc_info=error)
    kind = KINDS["internal_error"]
    return problem_of(kind.status, "internal_error", kind.detail, kind.remedy)
