"""One delivery over real sockets: to the checked address, once, within its time."""

import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stemwright.service.webhooks import sending
from stemwright.service.webhooks.addresses import WebhookRules
from stemwright.service.webhooks.sending import Attempt, send
from tests.support import needs

LOCAL = WebhookRules(http=True, networks=(ipaddress.ip_network("127.0.0.1/32"),))
BODY = b'{"type":"job.succeeded"}'


@dataclass
class Receiver:
    """Takes connections on loopback, and answers each by `answer`."""

    answer: Callable[[socket.socket], None]
    context: ssl.SSLContext | None = None
    heard: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            try:
                if self.context is not None:
                    connection = self.context.wrap_socket(connection, server_side=True)
                self.heard.append(read_request(connection))
                self.answer(connection)
            except OSError:
                self.heard.append(b"")
            finally:
                connection.close()

    def close(self) -> None:
        self._server.close()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"ength:" in line)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def status(code: int, more: str = "") -> Callable[[socket.socket], None]:
    return answering(f"HTTP/1.1 {code} X\r\n{more}Content-Length: 0\r\n\r\n".encode())


def dripping(data: bytes, size: int) -> Callable[[socket.socket], None]:
    """Send pieces with a pause behind each, for three seconds."""

    def answer(connection: socket.socket) -> None:
        for start in range(0, max(1, len(data)), size):
            connection.sendall(data[start : start + size])
            time.sleep(3 * size / max(1, len(data)))

    return answer


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Receiver:
        made.append(Receiver(answer, context))
        return made[-1]

    yield make
    for one in made:
        one.close()


def post(receiver: Receiver, *, host: str = "127.0.0.1", timeout_s: float = 5.0) -> Attempt:
    url = f"http://{host}:{receiver.port}/hook?x=1"
    return send(
        url, BODY, {"webhook-id": "1"}, rules=LOCAL, timeout_s=timeout_s, lookup=lambda *_: ["127.0.0.1"]
    )


def test_request_is_whole_and_its_success_is_told(receiver: Callable[..., Receiver]) -> None:
    there = receiver(status(204))
    assert post(there, host="hooks.example.org") == Attempt(delivered=True, note="HTTP 204")
    head, _, body = there.heard[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /hook?x=1 HTTP/1.1"
    assert f"Host: hooks.example.org:{there.port}".encode() in lines
    assert b"webhook-id: 1" in lines
    assert b"Content-Type: application/json" in lines
    assert body == BODY


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_not_followed(receiver: Callable[..., Receiver], code: int) -> None:
    elsewhere = receiver(status(200))
    there = receiver(status(code, f"Location: http://127.0.0.1:{elsewhere.port}/\r\n"))
    attempt = post(there)
    assert not attempt.delivered
    assert not attempt.hopeless
    assert "redirect" in attempt.note
    assert not elsewhere.heard


@pytest.mark.parametrize(("code", "hopeless"), [(410, True), (400, False), (429, False), (503, False)])
def test_refusals_are_tried_again_unless_the_receiver_is_gone(
    receiver: Callable[..., Receiver], code: int, hopeless: bool
) -> None:
    assert post(receiver(status(code))) == Attempt(delivered=False, hopeless=hopeless, note=f"HTTP {code}")


def test_name_is_resolved_once_and_the_connection_goes_to_the_checked_address(
    receiver: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer, were it asked for, would be another address."""
    there, inside = receiver(status(200)), receiver(status(200))
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    asked: list[str] = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    def no_second_lookup(host: str, *rest: object, **more: object) -> object:
        assert host == "127.0.0.1", "a name was resolved behind the check"
        return original(host, *rest, **more)  # type: ignore[arg-type]

    original = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", no_second_lookup)
    url = f"http://rebinding.example.org:{there.port}/"
    assert send(url, BODY, {}, rules=LOCAL, lookup=lookup).delivered
    assert asked == ["rebinding.example.org"]
    again = send(url, BODY, {}, rules=LOCAL, lookup=lookup)
    assert again.hopeless
    assert "not a public address" in again.note
    assert not inside.heard


def test_name_of_a_private_address_gets_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_dial", None)
    attempt = send(
        "https://intranet.example.org/", BODY, {}, rules=WebhookRules(), lookup=lambda *_: ["10.0.0.1"]
    )
    assert attempt.hopeless


@pytest.mark.parametrize(
    "answer",
    [
        dripping(b"", 1),
        dripping(b"HTTP/1.1 2", 10),
        dripping(b"H" * 15, 1),
    ],
    ids=["silent", "half", "drops"],
)
def test_slow_receivers_are_given_up_in_time(
    receiver: Callable[..., Receiver], answer: Callable[[socket.socket], None]
) -> None:
    began = time.monotonic()
    assert not post(receiver(answer), timeout_s=0.6).delivered
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"",
    ],
)
def test_answers_that_are_none_are_failures(receiver: Callable[..., Receiver], data: bytes) -> None:
    attempt = post(receiver(answering(data)))
    assert not attempt.delivered
    assert len(attempt.note) <= 300


def test_endless_answer_is_not_read_to_its_end(receiver: Callable[..., Receiver]) -> None:
    sent: list[int] = []

    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
        while True:
            sent.append(connection.send(bytes(65536)))

    assert post(receiver(endless)).delivered
    time.sleep(0.2)
    assert sum(sent) < 16 << 20


def test_nobody_there_is_a_failure_to_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    attempt = send(f"http://127.0.0.1:{port}/", BODY, {}, rules=LOCAL)
    assert attempt == Attempt(delivered=False, note=attempt.note)
    assert "refused" in attempt.note.lower()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *(
                needs.program("openssl"),
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-nodes", "-days", "2", "-subj", "/CN=hooks.example.org"),
            *("-addext", "subjectAltName=DNS:hooks.example.org"),
            *("-keyout", path, "-out", path.with_suffix(".crt")),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.mark.parametrize(
    ("host", "trusted", "delivered"),
    [
        ("hooks.example.org", True, True),
        ("other.example.org", True, False),
        ("hooks.example.org", False, False),
    ],
)
def test_https_checks_the_certificate_against_the_name_not_the_address(
    receiver: Callable[..., Receiver], certificate: Path, host: str, trusted: bool, delivered: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    there = receiver(status(200), context)
    trust = ssl.create_default_context(cafile=certificate) if trusted else None
    attempt = send(
        f"https://{host}:{there.port}/", BODY, {}, rules=LOCAL, lookup=lambda *_: ["127.0.0.1"], trust=trust
    )
    assert attempt.delivered is delivered
    assert delivered or "certificate" in attempt.note.lower()


def test_handshake_that_stalls_is_given_up_in_time(receiver: Callable[..., Receiver]) -> None:
    there = receiver(lambda connection: time.sleep(3))
    began = time.monotonic()
    attempt = send(
        f"https://hooks.example.org:{there.port}/",
        BODY,
        {},
        rules=LOCAL,
        timeout_s=0.5,
        lookup=lambda *_: ["127.0.0.1"],
    )
    assert not attempt.delivered
    assert time.monotonic() - began < 1.5
