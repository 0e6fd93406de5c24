"""The HTTP server of one process: a listening socket, limits on connections, an end in order."""

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from stemwright.core.errors import OptionError
from stemwright.service.api.context import Service
from stemwright.service.api.sockets import MAX_MESSAGE_BYTES, PatientWebSocket
from stemwright.service.settings import Settings

_LOG = logging.getLogger(__name__)
_BACKLOG = 512
_KEEP_ALIVE_S = 30
# The head of a request has to come within this, or its connection is closed.
_HEAD_TIMEOUT_S = 20.0
_MAX_HEAD_BYTES = 32 << 10
# Requests beyond the limit are still answered, by a problem; connections beyond this are not.
_SPARE_CONNECTIONS = 100


class PatientProtocol(H11Protocol):
    """HTTP that gives up on connections on which the head of a request never comes whole."""

    def connection_made(self, transport: Any) -> None:
        """Begin, and wait for the head of a request only so long."""
        super().connection_made(transport)
        self._head_timer: asyncio.TimerHandle | None = None
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take data; as long as they make no request, time runs on."""
        super().data_received(data)
        if self._busy or self.transport.get_protocol() is not self:  # it is a WebSocket's from here on
            self._stop_waiting()
        else:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        """Go on with what has come meanwhile; if that is a part of a head, time runs on."""
        super().on_response_complete()
        if not self._busy and self.conn.trailing_data[0]:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_TIMEOUT_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._busy and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """A server that tells its streams when it is to end, so that they do not hold it up.

    Parameters
    ----------
    app
        The application.
    settings
        Limits.
    ready
        Called when requests are taken.
    ending
        Started when none are taken any more, and waited for: what ends at the same time.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        *,
        ready: Callable[[], None] | None = None,
        ending: threading.Thread | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                ws=PatientWebSocket,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # samples hardly shrink, and time is short
                ws_ping_timeout=None,  # answers wait behind samples while the model is busy
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(settings.grace_s)),
                limit_concurrency=settings.max_connections + _SPARE_CONNECTIONS,
                h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies) or None,
                root_path=settings.root_path,
            )
        )
        self._app = app
        self._ready = ready
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        if self.started and self._ready is not None:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, end what would last, let the rest finish."""
        service = getattr(self._app.state, "service", None)
        if isinstance(service, Service):
            service.closing.set()
        if self._ending is not None:
            self._ending.start()
        await super().shutdown(sockets)
        if self._ending is not None:
            await asyncio.to_thread(self._ending.join)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    OptionError
        The port is taken, or the address is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OptionError(f"{host} is no address: {error.strerror}", "use 127.0.0.1 or 0.0.0.0") from error
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host.strip("[]") == "::" else 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise OptionError(
                f"port {port} of {host} is taken by another program",
                "stop that, or choose another --port; 0 takes a free one",
            ) from error
        if error.errno == errno.EACCES:
            raise OptionError(
                f"port {port} of {host} needs more rights", "choose a --port above 1023"
            ) from error
        raise OptionError(
            f"cannot listen on {host}, port {port}: {error.strerror}", "choose another --host"
        ) from error
    sock.setblocking(False)
    return sock


def url_of(sock: socket.socket) -> str:
    """Return the address to call."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
