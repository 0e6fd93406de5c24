"""What surrounds every request: its id, the access log, security headers, hosts and origins, the last resort.

Written against ASGI itself, as wrapping would buffer or delay streams.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stemwright.service.api.kinds import KINDS
from stemwright.service.api.metrics import Metrics
from stemwright.service.api.problems import problem_response, unexpected
from stemwright.service.logs import request_id, set_job_id, set_request_id

_ACCESS = logging.getLogger("stemwright.access")
_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BAD_REQUEST, _TIMEOUT = 400, 408
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
# Whoever closed before the answer was ready: no status was sent.
_CLOSED_BY_CLIENT = 499
# An answer sent before the body was read is lost where the client still sends: so some is read and dropped.
_LINGER_BYTES = 8 << 20
_LINGER_S = 1.0

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}


class RequestMiddleware:
    """Gives a request its id, its line in the access log and its counts; answers what nobody caught.

    Parameters
    ----------
    app
        What is surrounded.
    most
        Requests at a time.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        set_request_id(given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8))
        set_job_id("")
        if scope["type"] == "websocket":  # its route logs and counts it, and answers what nobody caught
            self._active += 1
            try:
                await (self._app if self._active <= self._most else _too_many)(scope, receive, send)
            finally:
                self._active -= 1
            return
        exchange = _Exchange(scope, receive, send)
        self._active += 1
        try:
            app = self._app if self._active <= self._most else _too_many
            await app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = _CLOSED_BY_CLIENT
        except Exception:
            _LOG.exception("the request failed")
            if exchange.started:
                raise  # the connection is broken off: an end would look like all of the answer
            await unexpected()(scope, receive, exchange.send)
        finally:
            self._active -= 1
            exchange.log()


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    kind = KINDS["unavailable"]
    response = problem_response(kind.status, "unavailable", "too many requests at a time", kind.remedy)
    await response(scope, receive, send)


class _Exchange:
    """One request and its answer while they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.status = 0
        self.started = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._begun = time.monotonic()
        self._bytes_in = 0
        headers = Headers(scope=scope)
        self._more_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._sends_unasked = "expect" not in headers
        self._bytes_out = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes_in += len(message.get("body", b""))
        self._more_body = bool(message.get("more_body"))
        return message

    async def _linger(self) -> None:
        """Drop a little of the rest of a body that is refused."""
        limit = self._bytes_in + _LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while self._more_body and self._bytes_in < limit:
                    await self.receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            if self.status >= _BAD_REQUEST and self.status != _TIMEOUT and self._sends_unasked:
                await self._linger()
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            headers["X-Request-ID"] = request_id()
        elif message["type"] == "http.response.body":
            self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    def log(self) -> None:
        seconds = time.monotonic() - self._begun
        route = self._route()
        metrics: Metrics | None = getattr(getattr(self._scope["app"].state, "service", None), "metrics", None)
        if metrics is not None:
            method = self._scope["method"] if route != "none" else "other"
            metrics.requests.labels(method=method, route=route, status=str(self.status)).inc()
            metrics.request_seconds.labels(route=route).observe(seconds)
            metrics.bytes_in.inc(self._bytes_in)
            metrics.bytes_out.inc(self._bytes_out)
        client = self._scope.get("client")
        fields = {
            "method": self._scope["method"],
            "path": self._scope["path"],  # without the query: it may hold what is nobody's business
            "status": self.status,
            "seconds": round(seconds, 4),
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "client": client[0] if client else "",
        }
        if key_id := (self._scope.get("state") or {}).get("key_id"):
            fields["key_id"] = key_id
        if job_id := (self._scope.get("path_params") or {}).get("job_id"):
            fields["job_id"] = job_id
        level = logging.DEBUG if self._scope["path"].startswith("/health/") else logging.INFO
        _ACCESS.log(level, "%s %s %d", fields["method"], fields["path"], self.status, extra=fields)

    def _route(self) -> str:
        return str(getattr(self._scope.get("route"), "path", "none"))


class SiteMiddleware:
    """Refuses hosts that are not ours, and changes that a page of another site asks for.

    On loopback a page anywhere could else reach the service through the visitor's browser, by a name that
    resolves to this machine or by a plain form.

    Parameters
    ----------
    app
        What is surrounded.
    hosts
        Names that Host may have, empty for any.
    origins
        Web origins beside the own one.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket"):
            if code := self._fault(Headers(scope=scope), scope):
                kind = KINDS[code]
                response = problem_response(kind.status, code, kind.detail, kind.remedy)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _fault(self, headers: Headers, scope: Scope) -> str:
        host = headers.get("host", "").lower()
        if self._hosts and _without_port(host) not in self._hosts:
            return "bad_host"
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        if origin is not None and changes and not self._is_ours(origin.lower(), host):
            return "bad_origin"
        return ""

    def _is_ours(self, origin: str, host: str) -> bool:
        return origin in self._origins or urlsplit(origin).netloc == host


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def default_hosts(host: str) -> tuple[str, ...]:
    """Return the names of a server that listens on loopback."""
    return (*_LOCAL_NAMES, f"[{host}]" if ":" in host and not host.startswith("[") else host)
