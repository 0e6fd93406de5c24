"""WebSockets: the protocol below them, what an error is on them, and sending that does not wait for ever."""

import asyncio
import contextlib
import http
from collections.abc import Awaitable
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from stemwright.service.api.problems import Problem

MAX_MESSAGE_BYTES = 1 << 20
"""Longest message; a longer one ends the connection with 1009. Chosen here."""
NORMAL, RESTARTING, INTERNAL, TRY_LATER = 1000, 1012, 1011, 1013

_APPLICATION_CODES = 4000  # RFC 6455, 7.4.2: the range for private use
# What was sent last, and the closing handshake, may take so long; then the connection is broken off.
_LAST_S = 10.0


class PatientWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose connection ends, even if its client never reads what was sent to it."""

    async def run_asgi(self) -> None:
        """Run the application, and see to the connection's end."""
        try:
            await super().run_asgi()
        finally:
            # closing waits until all was sent, which may be never
            self.loop.call_later(_LAST_S, self.transport.abort)


class SlowClientError(Exception):
    """The client does not read."""


class Socket:
    """An accepted WebSocket whose messages go out within a time or not at all.

    Parameters
    ----------
    websocket
        The socket.
    timeout_s
        Time in which a client has to take what is sent.
    """

    def __init__(self, websocket: WebSocket, timeout_s: float) -> None:
        self._websocket = websocket
        self._timeout_s = timeout_s
        self.bytes_in = self.bytes_out = 0

    async def receive(self) -> bytes | str:
        """Return the next message; raises WebSocketDisconnect at the end."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1005)
        data = message.get("bytes")
        found: bytes | str = message["text"] if data is None else data
        self.bytes_in += len(found)
        return found

    async def send(self, data: bytes) -> None:
        """Send samples; raises SlowClientError, or WebSocketDisconnect where nobody is there any more."""
        await self._in_time(self._websocket.send_bytes(data))
        self.bytes_out += len(data)

    async def tell(self, content: dict[str, Any]) -> None:
        """Send JSON; raises as `send`."""
        await self._in_time(self._websocket.send_json(content))

    async def close(self, code: int, reason: str = "") -> None:
        """Close, as far as the client still takes part in it."""
        with contextlib.suppress(SlowClientError, WebSocketDisconnect, RuntimeError):
            await self._in_time(self._websocket.close(code, reason))

    async def refuse(self, problem: Problem) -> int:
        """Tell a problem and close; return the code."""
        code = close_code(problem.status)
        with contextlib.suppress(SlowClientError, WebSocketDisconnect):
            await self.tell({"problem": problem.model_dump()})
            await self.close(code, problem.code)
        return code

    async def _in_time(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await sending
        except TimeoutError:
            self._timeout_s = min(self._timeout_s, 1.0)  # whatever is tried after that
            raise SlowClientError from None


def close_code(status: int) -> int:
    """Return the code that closes a socket for a problem of that HTTP status."""
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        return TRY_LATER
    return _APPLICATION_CODES + status if status < http.HTTPStatus.INTERNAL_SERVER_ERROR else INTERNAL
