"""A local double of a file host, with the faults that real ones have."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hosted:
    """A file on the host, and how the host misbehaves with it.

    Attributes
    ----------
    drops
        For each of the first requests, the number of body bytes after which the connection breaks.
    refusals, refusal_headers
        Statuses that the first requests get instead of the file, and the headers of these answers.
    ranges
        Whether Range is honoured.
    etag
        Sent as it stands; None: the quoted SHA-256 of the data; empty: none is sent.
    length
        Whether Content-Length is sent.
    headers
        Further headers.
    redirect
        Address that a request is sent on to instead.
    silence
        The body is held back until this is set.
    """

    data: bytes = b""
    drops: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    refusal_headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    etag: str | None = None
    length: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str = ""
    silence: threading.Event | None = None

    def current_etag(self) -> str:
        return f'"{hashlib.sha256(self.data).hexdigest()}"' if self.etag is None else self.etag


@dataclass(frozen=True)
class Request:
    """A request that the host saw."""

    path: str
    range: str
    if_range: str


class ModelHost:
    """Serves `files` by path at `url` and notes the `requests`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, Hosted] = {}
        self.requests: list[Request] = []

    def serve(self, path: str, hosted: Hosted) -> str:
        """Put a file on the host; returns its address."""
        self.files[path] = hosted
        return self.url + path


@contextmanager
def model_host() -> Iterator[ModelHost]:
    """Run a host on a free local port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    host = ModelHost(f"http://127.0.0.1:{server.server_address[1]}")
    server.model_host = host  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up, which the tests make them do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        host: ModelHost = self.server.model_host  # type: ignore[attr-defined]
        asked = Request(self.path, self.headers.get("Range", ""), self.headers.get("If-Range", ""))
        host.requests.append(asked)
        hosted = host.files.get(self.path)
        if hosted is None:
            self._refuse(404)
        elif hosted.refusals:
            self._refuse(hosted.refusals.pop(0), hosted.refusal_headers)
        elif hosted.redirect:
            self._refuse(302, {"Location": hosted.redirect, **hosted.headers})
        else:
            self._send(hosted, asked)

    def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, hosted: Hosted, asked: Request) -> None:
        etag, start = hosted.current_etag(), 0
        if hosted.ranges and asked.range and asked.if_range == etag:
            start = int(asked.range.removeprefix("bytes=").removesuffix("-"))
        if start > len(hosted.data) or (asked.range and start == len(hosted.data)):
            self._refuse(416)
            return
        body = hosted.data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(hosted.data) - 1}/{len(hosted.data)}")
        if etag:
            self.send_header("ETag", etag)
        for name, value in hosted.headers.items():
            self.send_header(name, value)
        self.send_header(*(("Content-Length", str(len(body))) if hosted.length else ("Connection", "close")))
        self.end_headers()
        if hosted.silence is not None:
            hosted.silence.wait(5.0)
        if hosted.drops:
            body = body[: hosted.drops.pop(0)]
            self.close_connection = True
        self.wfile.write(body)
