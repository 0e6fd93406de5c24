"""Clients that behave badly on the wire: the server answers, keeps nothing, and stays up."""

import contextlib
import http.client
import io
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from stemwright.service.api import server as server_module
from tests.service.api.site import BODY_TIMEOUT_S, MAX_UPLOAD, Site, open_site, problem

_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="song.wav"\r\n\r\n'


@pytest.fixture
def key(site: Site) -> str:
    return site.key()


@contextlib.contextmanager
def _connected(site: Site) -> Iterator[socket.socket]:
    with socket.create_connection(site.address, timeout=15) as connection:
        yield connection


def _head(key: str, *lines: str, path: str = "/v1/jobs") -> bytes:
    all_lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        "Content-Type: multipart/form-data; boundary=b",
        *lines,
    )
    return "\r\n".join(all_lines).encode() + b"\r\n\r\n"


def _answer(connection: socket.socket) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _settled(site: Site, files: set[str], uploads: set[str]) -> None:
    """Wait until nothing is left of a request."""
    until = time.monotonic() + 5
    while time.monotonic() < until and (site.stored() != files or site.uploads() != uploads):
        time.sleep(0.05)
    assert site.stored() == files
    assert site.uploads() == uploads


def test_a_chunked_body_without_a_length_is_taken(site: Site, key: str) -> None:
    with _connected(site) as connection:
        connection.sendall(_head(key, "Transfer-Encoding: chunked"))
        for data in (_PART[:20], _PART[20:], b"x" * 5000, b"\r\n--b--\r\n"):
            connection.sendall(_chunk(data))
        connection.sendall(b"0\r\n\r\n")
        assert _answer(connection).status == 202


def test_a_chunked_body_is_counted_as_it_comes(site: Site, key: str) -> None:
    files, uploads = site.stored(), site.uploads()
    with _connected(site) as connection:
        connection.sendall(_head(key, "Transfer-Encoding: chunked") + _chunk(_PART))
        for _ in range(MAX_UPLOAD // 65536 + 2):
            connection.sendall(_chunk(bytes(65536)))
        answer = _answer(connection)
        assert answer.status == 413
        assert b"too_large" in answer.read()
    _settled(site, files, uploads)


def test_a_length_beyond_the_limit_is_refused_before_the_body(site: Site, key: str) -> None:
    with _connected(site) as connection:
        connection.sendall(_head(key, f"Content-Length: {10 * MAX_UPLOAD}", "Expect: 100-continue"))
        answer = _answer(connection)
        assert answer.status == 413


def test_a_refusal_arrives_though_the_client_still_sends(site: Site) -> None:
    with _connected(site) as connection:
        connection.sendall(_head("swk_wrong", "Content-Length: 4000000"))
        for _ in range(40):
            connection.sendall(bytes(100_000))
        answer = _answer(connection)
        assert answer.status == 401
        assert b"unauthenticated" in answer.read()


def test_an_aborted_upload_leaves_nothing(site: Site, key: str) -> None:
    files, uploads = site.stored(), site.uploads()
    with _connected(site) as connection:
        connection.sendall(_head(key, "Content-Length: 500000") + _PART + bytes(100_000))
        time.sleep(0.3)
        assert site.uploads() != uploads
    _settled(site, files, uploads)


def test_a_stalled_body_is_given_up(site: Site, key: str) -> None:
    files, uploads = site.stored(), site.uploads()
    with _connected(site) as connection:
        began = time.monotonic()
        connection.sendall(_head(key, "Content-Length: 500000") + _PART + bytes(1000))
        answer = _answer(connection)
        assert answer.status == 408
        assert b"slow_client" in answer.read()
        assert BODY_TIMEOUT_S <= time.monotonic() - began < BODY_TIMEOUT_S + 5
    _settled(site, files, uploads)


def test_a_request_that_never_comes_whole_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_HEAD_TIMEOUT_S", 0.3)
    request = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for sent in (b"", b"GET /health/live HT", request):
        with _connected(site) as connection:
            connection.sendall(sent)
            assert connection.recv(10) == b""
    with _connected(site) as connection:  # the second request of a connection too
        connection.sendall(request + b"\r\n" + request)
        assert _answer(connection).status == 200
        while connection.recv(1000):
            pass


def test_requests_beyond_the_limit_are_503(site: Site) -> None:
    with open_site(site.folder / "busy", max_connections=1) as busy, busy.client() as client:
        job = client.post("/v1/jobs", files={"file": ("song.wav", b"x" * 10)}).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as following:
            lines = following.iter_lines()
            next(lines)
            answer = client.get("/health/live")
            problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0


def test_a_connection_that_is_used_is_not_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_HEAD_TIMEOUT_S", 0.3)
    with httpx.Client(base_url=site.url) as client:
        assert client.get("/health/live").status_code == 200
        time.sleep(0.6)
        assert client.get("/health/live").status_code == 200


def test_huge_headers_are_refused(site: Site, key: str) -> None:
    with _connected(site) as connection:
        connection.sendall(_head(key, "X-Big: " + "x" * 200_000))
        assert connection.recv(12)[9:10] == b"4"
    assert httpx.get(f"{site.url}/health/live").status_code == 200


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n" * 500, b"GET\r\n\r\n"]
)
def test_what_is_no_http_does_no_harm(site: Site, garbage: bytes) -> None:
    with _connected(site) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
        answer = io.BytesIO()
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(4096):
                answer.write(data)
        assert answer.getvalue()[:12] in (b"", b"HTTP/1.1 400")
    assert httpx.get(f"{site.url}/health/live").status_code == 200


def test_an_unread_answer_is_given_up_with_its_connection(site: Site, key: str) -> None:
    """A client that reads nothing of a stem and goes away costs nothing that lasts."""
    with site.client(key) as client:
        job = client.post("/v1/jobs", files={"file": ("song.wav", b"x" * 10)}).json()["id"]
        site.finish(job, {"vocals": bytes(MAX_UPLOAD)})
        for _ in range(20):
            with _connected(site) as connection:
                head = f"GET /v1/jobs/{job}/stems/vocals HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                connection.sendall(f"{head}Authorization: Bearer {key}\r\n\r\n".encode())
                connection.recv(100)
        assert client.get(f"/v1/jobs/{job}").status_code == 200


@pytest.mark.slow
def test_many_tiny_requests(site: Site, key: str) -> None:
    """500 here; 10,000 by hand."""
    with site.client(key) as client:
        for number in range(500):
            answer = client.post("/v1/jobs", content=b"{}", headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, number
