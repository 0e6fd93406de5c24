"""Streams of samples: a real server, a small causal network with random weights, a client of websockets."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from stemwright.core.arrays import FloatArray
from stemwright.models.conv_tasnet.configs import PAPER_CAUSAL
from stemwright.models.separation.separator import Separator
from stemwright.models.sessions.opening import SessionOptions
from stemwright.service.api import server as server_module
from stemwright.service.api import sockets
from stemwright.service.api.live import _require_end
from stemwright.service.api.problems import ProblemError
from stemwright.service.live import process as process_module
from tests.service.api.site import Site, open_site, write_manifest
from tests.support.conv_tasnet import install_conv_tasnet, small
from tests.support.fake_sessions import separate_array

TIMEOUT_S = 1.5
RATE = 8000
MESSAGE = b"\x82\xfe\x40\x00" + bytes(4) + bytes(1 << 14)  # binary, masked with zeros: silence
MOST_WAITING = 12 << 20  # all that sockets and pipes of this machine may hold, and some
GROWTH = 16 << 20


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("live")
    models = folder / "models"
    install_conv_tasnet(models, small(PAPER_CAUSAL), "mono", window=800)
    install_conv_tasnet(models, small(PAPER_CAUSAL, audio_channels=2), "stereo", window=800)
    write_manifest(models, "htdemucs", ["drums", "vocals"])
    damaged = json.loads((models / "mono" / "manifest.json").read_text()) | {"name": "damaged", "files": []}
    (models / "damaged").mkdir()
    (models / "damaged" / "manifest.json").write_text(json.dumps(damaged))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("STEMWRIGHT_")]:
            patch.delenv(name)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(server_module, "_HEAD_TIMEOUT_S", 0.5)
        patch.setattr(sockets, "_LAST_S", 0.5)
        with open_site(folder, device="cpu", stream_timeout_s=TIMEOUT_S) as opened:
            yield opened


@pytest.fixture(autouse=True)
def nothing_is_left(live: Site) -> Iterator[None]:
    """After every test no process of a stream is there any more."""
    yield
    _until(lambda: not _processes() and not live.service.live.total())


def _opened(site: Site, query: str, key: str | None = None, **options: Any) -> ClientConnection:
    token = site.key() if key is None else key
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= options.pop("headers", {})
    address = site.url.replace("http://", "ws://") + f"/v1/stream?{query}"
    opened: ClientConnection = connect(address, additional_headers=headers, ping_interval=None, **options)
    return opened


def _processes() -> list[int]:
    """Processes of streams that this one has started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"stemwright.service.live.child" in (entry / "cmdline").read_bytes():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                found += [int(entry.name)] if int(parent) == os.getpid() else []
        except OSError:
            continue  # it has ended meanwhile
    return found


def _metrics(site: Site) -> bytes:
    with site.client() as client:
        return client.get("/metrics").content


def _until(reached: Callable[[], bool], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def _head(stream: ClientConnection) -> dict[str, Any]:
    head: dict[str, Any] = json.loads(stream.recv(timeout=20))["stream"]
    return head


def _rest(stream: ClientConnection) -> tuple[bytes, dict[str, Any]]:
    """Return the samples up to the report, and that; the stream has been closed in order behind it."""
    parts = []
    while isinstance(message := stream.recv(timeout=20), bytes):
        parts.append(message)
    with pytest.raises(ConnectionClosed) as closed:
        stream.recv(timeout=10)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    return b"".join(parts), json.loads(message)["report"]


def _refused(stream: ClientConnection, close: int, code: str) -> dict[str, Any]:
    """Check that what comes next is this problem, and the end with that code."""
    while isinstance(message := stream.recv(timeout=20), bytes) or "stream" in json.loads(message):
        pass
    problem: dict[str, Any] = json.loads(message)["problem"]
    with pytest.raises(ConnectionClosed) as closed:
        stream.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert (problem["code"], closed.value.rcvd.code, closed.value.rcvd.reason) == (code, close, code)
    assert problem["request_id"] == stream.response.headers["x-request-id"]  # type: ignore[union-attr]
    return problem


def _sound(channels: int, frames: int) -> FloatArray:
    return (np.random.default_rng(5).standard_normal((channels, frames)) * 0.1).astype(np.float32)


@pytest.mark.parametrize(("model", "channels", "form"), [("mono", 1, "s16le"), ("stereo", 2, "f32le")])
def test_a_stream_gives_what_the_whole_recording_gives(
    live: Site, model: str, channels: int, form: str, tmp_path: Path
) -> None:
    sound = _sound(channels, 3 * RATE + 137)
    if form == "s16le":
        sound = (np.round(sound * 32768) / 32768).astype(np.float32)
    folder = live.folder / "models" / model
    with Separator.open(folder, options=SessionOptions(device="cpu", cache_dir=tmp_path)) as separator:
        stems = separate_array(separator, sound, RATE)
    expected = np.concatenate(list(stems.values()))
    data = sound.T.astype("<f4").tobytes()
    if form == "s16le":
        data = (sound.T * 32768).astype("<i2").tobytes()
    sizes = np.random.default_rng(0).integers(1, 9000, 10_000)
    with _opened(live, f"model={model}&format={form}&piece=5&rate={RATE}&channels={channels}") as stream:
        head = _head(stream)
        assert head["stems"] == list(stems)
        assert (head["sample_rate"], head["channels"], head["format"]) == (RATE, channels, form)
        assert head["output_channels"] == len(stems) * channels
        assert head["latency_s"] == head["model_latency_s"] == 0.002
        place = 0
        for size in sizes:
            stream.send(data[place : place + size])
            place += size
            if place >= len(data):
                break
        stream.send('{"end": true}')
        found, report = _rest(stream)
    assert report["seconds"] == sound.shape[1] / RATE
    assert 0 < report["p50_ms"] <= report["p99_ms"]
    assert 0 < report["real_time_factor"]
    if form == "s16le":
        whole = np.clip(np.rint(expected.T.astype(np.float64) * 32768), -32768, 32767)
        assert np.abs(np.frombuffer(found, "<i2").reshape(whole.shape) - whole).max() <= 1
    else:
        got = np.frombuffer(found, "<f4").reshape(-1, expected.shape[0])
        np.testing.assert_allclose(got.T, expected, atol=1e-5 * np.abs(expected).max())


def test_stems_are_chosen_and_samples_come_while_more_are_awaited(live: Site) -> None:
    with _opened(live, "model=mono&stems=speaker2&piece=10") as stream:
        assert _head(stream)["stems"] == ["speaker2"]
        time.sleep(0.8)  # longer than the head of a request may take: a socket is none any more
        stream.send(bytes(2 * 80))
        assert len(stream.recv(timeout=10)) == 2 * (80 - 8)
        stream.send('{"end": true}')
        assert len(_rest(stream)[0]) == 2 * 8


@pytest.mark.parametrize(
    ("query", "close", "code", "told"),
    [
        ("model=htdemucs", 4422, "bad_option", "hears sound that is still to come"),
        ("model=nothing", 4422, "bad_option", "there is no model"),
        ("model=../models/mono", 4422, "bad_option", "there is no model"),
        ("model=mono&stems=drums", 4422, "bad_option", "has no stem"),
        ("model=mono&rate=1", 4422, "invalid", "rate"),
        ("model=mono&channels=9", 4422, "invalid", "channels"),
        ("model=mono&format=mp3", 4422, "invalid", "format"),
        ("model=mono&model=mono", 4422, "invalid", ""),
        ("model=mono&rat=8000", 4422, "invalid", "rat"),
        ("rate=8000", 4422, "invalid", "model"),
        ("model=damaged", 4422, "bad_model_file", ""),
    ],
)
def test_what_cannot_be_streamed_is_refused(live: Site, query: str, close: int, code: str, told: str) -> None:
    with _opened(live, query) as stream:
        problem = _refused(stream, close, code)
    assert told in problem["detail"]
    if query == "model=htdemucs":
        assert problem["remedy"].startswith("use ") and "mono or stereo" in problem["remedy"]


def test_nobody_gets_in_without_a_key(live: Site) -> None:
    for key in ("", "swk_wrong"):
        with _opened(live, "model=mono", key) as stream:
            _refused(stream, 4401, "unauthenticated")


def test_a_page_with_a_session_gets_in_and_one_of_another_site_does_not(live: Site) -> None:
    with live.client("") as browser:
        browser.post("/v1/session", json={"key": live.key()}).raise_for_status()
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    with _opened(live, "model=mono", "", origin=live.url, headers=cookie) as stream:
        _head(stream)
    with _opened(live, "model=mono", "", headers=cookie) as stream:
        _refused(stream, 4403, "bad_origin")
    with pytest.raises(InvalidStatus) as refused:
        _opened(live, "model=mono", "", origin="https://elsewhere.example", headers=cookie)
    assert refused.value.response.status_code == 403


def test_a_text_that_says_nothing_is_refused(live: Site) -> None:
    with _opened(live, "model=mono") as stream:
        stream.send('{"end": 1}')
        _refused(stream, 4400, "bad_message")


@pytest.mark.parametrize("text", ["{", "[]", '{"end": false}', '{"end": true, "x": 1}', '{"begin": true}'])
def test_only_one_text_ends_a_stream(text: str) -> None:
    _require_end('{"end": true}')
    with pytest.raises(ProblemError, match="cannot be read"):
        _require_end(text)


def test_samples_that_are_no_numbers_end_the_stream(live: Site) -> None:
    with _opened(live, "model=mono&format=f32le") as stream:
        stream.send(np.full(1000, np.nan, "<f4").tobytes())
        _refused(stream, 4422, "unusable_input")


def test_a_message_that_is_too_long_ends_the_stream(live: Site) -> None:
    with _opened(live, "model=mono") as stream:
        _head(stream)
        stream.send(bytes(sockets.MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


def test_there_are_only_so_many_at_a_time(live: Site) -> None:
    key = live.key()
    with _opened(live, "model=mono", key) as one, _opened(live, "model=mono", key) as two:
        _head(one), _head(two)
        assert len(_processes()) == 2
        assert b"stemwright_sample_streams 2.0" in _metrics(live)
        with _opened(live, "model=mono") as third:
            _refused(third, 1013, "busy")
        one.send('{"end": true}')
        _rest(one)
        _until(lambda: live.service.live.total() == 1)
        with _opened(live, "model=mono") as third:
            _head(third)


def test_silence_of_the_client_ends_the_stream(live: Site) -> None:
    with _opened(live, "model=mono") as stream:
        _head(stream)
        assert "nothing came" in _refused(stream, 4408, "slow_client")["detail"]


def test_a_client_that_does_not_read_is_slowed_down_and_closed(live: Site) -> None:
    """It can hand over no more than what sockets and pipes hold; nothing of it gathers in the server."""
    sent = 0
    with contextlib.closing(_handshaken(live, "model=mono&format=f32le")) as own:
        own.settimeout(20)
        assert b'{"stream":' in own.recv(4096)
        own.settimeout(0.5)
        (child,) = _processes()
        before, grown = {pid: _memory(pid) for pid in (os.getpid(), child)}, 0
        with contextlib.suppress(TimeoutError, ConnectionError):  # from here on nobody reads
            while sent < 2 * MOST_WAITING and Path(f"/proc/{child}").exists():
                own.sendall(MESSAGE)
                sent += len(MESSAGE)
                grown = max(grown, *(_memory(pid) - size for pid, size in before.items()))
        assert sent < MOST_WAITING
        assert grown < GROWTH
        _until(lambda: not _processes(), TIMEOUT_S + 3)
    assert b'streams_ended_total{code="4408"}' in _metrics(live)


def _handshaken(site: Site, query: str) -> socket.socket:
    """Open a socket by hand, with small buffers, which nothing reads by itself."""
    own = socket.socket()
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        own.setsockopt(socket.SOL_SOCKET, buffer, 1 << 16)
    own.settimeout(20)
    own.connect(site.address)
    lines = (
        f"GET /v1/stream?{query} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {site.key()}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    own.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += own.recv(1)
    assert head.startswith(b"HTTP/1.1 101")
    return own


def _memory(pid: int) -> int:
    """Resident memory of a process in bytes, 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("when", ["opening", "streaming"])
def test_a_broken_connection_leaves_nothing(live: Site, when: str) -> None:
    own = _handshaken(live, "model=mono&format=f32le")
    if when == "streaming":
        assert own.recv(4096)
        for _ in range(64):
            own.sendall(MESSAGE)
    _until(lambda: len(_processes()) == 1)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no closing
    own.close()
    _until(lambda: not _processes())


def test_a_process_that_dies_is_told_of(live: Site) -> None:
    with _opened(live, "model=mono") as stream:
        _head(stream)
        (child,) = _processes()
        os.kill(child, 9)
        _refused(stream, 1011, "internal_error")


PARENT = """
import asyncio, sys
from stemwright.service.live.messages import LiveStart
from stemwright.service.live.process import LiveProcess

async def main():
    start = LiveStart(
        model="mono", models_dir=sys.argv[1], sample_rate=None, channels=None, encoding="s16le", stems=None,
        piece_s=0.02, device="cpu", precision="auto", log_level="info", log_format="json", request_id="",
    )
    async with LiveProcess(start) as process:
        await process.head()
        print(process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_killed_server_takes_its_processes_along(live: Site) -> None:
    models = str(live.folder / "models")
    with subprocess.Popen([sys.executable, "-c", PARENT, models], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    _until(lambda: not _memory(child))


def test_no_secret_of_the_service_reaches_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEMWRIGHT_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in process_module._environment().values()
    assert "PATH" in process_module._environment()


def test_a_stream_ends_with_its_server(live: Site, tmp_path: Path) -> None:
    with open_site(
        tmp_path, models=live.folder / "models", device="cpu", require_keys=False, grace_s=3.0
    ) as own:
        with _opened(own, "model=mono", "") as stream:  # on loopback nobody needs a key
            _head(stream)
            own.server.should_exit = True
            with pytest.raises(ConnectionClosed) as closed:
                stream.recv(timeout=10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        _until(lambda: not _processes())
