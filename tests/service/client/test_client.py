"""The client against a service that breaks off, is busy, or errs, one request at a time."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stemwright.core.errors import (
    InputError,
    InternalError,
    OptionError,
    OutOfMemoryError,
    StemwrightError,
    UserError,
)
from stemwright.service.client import AsyncClient, Client, Event, Job, asynchronous, uploading
from stemwright.service.client import connection as connections
from stemwright.service.client.server_events import server_events
from stemwright.service.errors import BusyError, NotFoundError, TooManyError

AUDIO = bytes(range(256)) * 40
SHA = hashlib.sha256(AUDIO).hexdigest()
STEM = {
    "name": "vocals",
    "stems": ["vocals"],
    "file": "vocals.wav",
    "size": len(AUDIO),
    "etag": SHA,
    "mime": "x",
}
JOB: dict[str, Any] = {
    "id": "j1", "name": "a.wav", "status": "queued", "fraction": 0.0, "model": "tiny", "newer_field": 1,
}  # fmt: skip
DONE = {**JOB, "status": "succeeded", "fraction": 1.0, "stems": [STEM], "result": {"x": 1}}

Answer = httpx.Response | Exception | Callable[[httpx.Request], Any]


def problem(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    data = {"status": status, "code": code, "detail": f"it is {code}", "remedy": "mend it", **more}
    return httpx.Response(status, json=data, headers=headers)


def event(number: int, *, final: bool = False, **more: Any) -> str:
    data = {
        "id": str(number),
        "status": "running",
        "stage": "separate",
        "fraction": number / 10,
        "final": final,
    }
    kind = "final" if final else "progress"
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps({**data, **more})}\n\n"


class Broken(httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        raise httpx.ReadError("connection reset")


class Service(httpx.AsyncBaseTransport):
    """Gives the answers in their order; remembers the requests with their bodies."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if callable(answer) and not isinstance(answer, httpx.Response):
            answer = answer(request)
            if isinstance(answer, Awaitable):
                answer = await answer
        if isinstance(answer, Exception):
            raise answer
        if request.method != "PATCH":  # whose bodies are read by their answers
            await request.aread()
        assert isinstance(answer, httpx.Response)
        return answer

    @property
    def lines(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(connections, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(asynchronous, "_POLL_S", 0.01)
    yield


def client(service: Service, **settings: Any) -> AsyncClient:
    return AsyncClient("http://there", transport=service, **{"patience_s": 1.0, **settings})


def run(work: Any) -> Any:
    return asyncio.run(work)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "söng ü.wav"
    path.write_bytes(AUDIO)
    return path


def test_small_file_goes_with_the_request(song: Path) -> None:
    service = Service(httpx.Response(202, json=JOB))
    sent: list[tuple[int, int]] = []
    job = run(
        client(service, key="k").submit(
            song,
            model="tiny",
            stems=["a", "b"],
            residual=True,
            shifts=2,
            overlap=None,
            sent=lambda *n: sent.append(n),
        )
    )
    (request,) = service.requests
    assert job == Job.read(JOB)
    assert request.headers["authorization"] == "Bearer k"
    assert len(request.headers["idempotency-key"]) == 36
    body = request.content
    assert AUDIO in body
    assert body.count(b'name="stems"') == 2
    assert b'name="residual"\r\n\r\ntrue' in body
    assert b"overlap" not in body
    assert sent == [(len(AUDIO), len(AUDIO))]


def test_request_for_a_job_is_repeated_under_the_same_key(song: Path) -> None:
    service = Service(
        httpx.ConnectError("refused"),
        problem(503, "busy", {"Retry-After": "0"}),
        httpx.ReadError("reset"),
        httpx.Response(202, json=JOB),
    )
    assert run(client(service).submit(song)).id == "j1"
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1


def test_large_file_goes_on_where_the_connection_broke(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynchronous, "SMALL_BYTES", 100)
    monkeypatch.setattr(uploading, "PIECE_BYTES", 3000)
    monkeypatch.setattr(uploading, "BLOCK_BYTES", 1000)
    received = bytearray()

    def take(limit: int = 10**9) -> Callable[[httpx.Request], Any]:
        async def answer(request: httpx.Request) -> Any:
            assert int(request.headers["upload-offset"]) == len(received)
            budget = limit
            async for block in request.stream:  # type: ignore[union-attr]
                received.extend(block[:budget])
                budget -= len(block)
                if budget <= 0:
                    return httpx.WriteError("reset")
            return httpx.Response(200, json={"received": len(received)})

        return answer

    def offset(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Upload-Offset": str(len(received))})

    service = Service(
        httpx.Response(201, json={"id": "u1"}),
        take(),
        take(2500),
        offset,
        problem(409, "upload_in_use"),
        offset,
        take(),
        problem(503, "busy", {"Retry-After": "0"}),
        offset,
        take(),
        httpx.Response(202, json=JOB),
    )
    sent: list[int] = []
    assert run(client(service).submit(song, format="flac", sent=lambda done, _: sent.append(done))).id == "j1"
    assert bytes(received) == AUDIO
    assert sent[-1] == len(AUDIO)
    begun, *_, last = service.requests
    assert json.loads(begun.content) == {"filename": song.name, "size": len(AUDIO)}
    assert json.loads(last.content) == {"format": "flac", "upload_id": "u1"}


def test_upload_that_is_refused_is_not_tried_again(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynchronous, "SMALL_BYTES", 100)
    service = Service(httpx.Response(201, json={"id": "u1"}), problem(413, "too_large"))
    with pytest.raises(UserError, match="too_large"):
        run(client(service).submit(song))


@pytest.mark.parametrize(("content", "message"), [(None, "cannot read"), (b"", "is empty")])
def test_file_that_cannot_be_sent_needs_no_service(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        run(client(Service()).submit(path))
    with pytest.raises(InputError, match="is a folder"):
        run(client(Service()).submit(tmp_path))


@pytest.mark.parametrize(
    ("status", "code", "kind", "exit_code"),
    [
        (404, "not_found", NotFoundError, 2),
        (422, "unusable_input", InputError, 2),
        (422, "bad_option", OptionError, 2),
        (507, "out_of_memory", OutOfMemoryError, 1),
        (401, "unauthenticated", UserError, 2),
        (500, "internal_error", InternalError, 1),
        (501, "newer_code", StemwrightError, 1),
    ],
)
def test_problems_are_the_errors_they_were(
    status: int, code: str, kind: type[StemwrightError], exit_code: int
) -> None:
    fields = [{"field": "stems", "message": "no such stem"}]
    with pytest.raises(kind, match=f"it is {code}; stems: no such stem") as caught:
        run(client(Service(problem(status, code, errors=fields))).get("j1"))
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert caught.value.remedy == "mend it"


def test_answers_of_something_else_are_told_as_such() -> None:
    with pytest.raises(StemwrightError, match="answers 418"):
        run(client(Service(httpx.Response(418, text="<html>"))).get("j1"))
    with pytest.raises(InternalError, match="not understood"):
        run(client(Service(httpx.Response(200, text="<html>"))).get("j1"))
    with pytest.raises(InternalError, match="not understood"):
        run(client(Service(httpx.Response(200, json={"id": "j1"}))).get("j1"))
    evil = {**DONE, "stems": [{**STEM, "file": "../../evil"}]}
    with pytest.raises(InternalError, match="no file name"):
        run(client(Service(httpx.Response(200, json=evil))).get("j1"))


def test_patience_ends() -> None:
    service = Service(*[httpx.ConnectError("refused")] * 50)
    with pytest.raises(BusyError, match="http://there does not answer: refused"):
        run(client(service, patience_s=0.05).get("j1"))
    late = Service(problem(429, "too_many", {"Retry-After": "3600"}))
    with pytest.raises(TooManyError):
        run(client(late).get("j1"))


@pytest.mark.parametrize("server", ["", "there", "ftp://there", "http://", "http://[::1", "localhost:8000"])
def test_addresses_that_are_none_are_told(server: str) -> None:
    with pytest.raises(OptionError, match="is no URL"):
        AsyncClient(server)


def follow(service: Service) -> list[Event]:
    async def collect() -> list[Event]:
        return [event async for event in client(service).follow("j1")]

    return list(run(collect()))


def test_broken_stream_is_taken_up_behind_the_last_event() -> None:
    head = b"retry: 2000\n\n: still there\n\n"
    service = Service(
        httpx.Response(200, stream=Broken(head, event(1).encode(), event(2).encode()[:-5])),
        httpx.ConnectError("refused"),
        problem(503, "unavailable", {"Retry-After": "0"}),
        httpx.Response(200, text=event(2)),
        httpx.Response(200, text=event(3) + event(4, final=True, status="succeeded")),
    )
    events = follow(service)
    assert [told.id for told in events] == ["1", "2", "3", "4"]
    assert events[-1].final
    assert [request.headers.get("last-event-id") for request in service.requests] == [
        None,
        "1",
        "1",
        "1",
        "2",
    ]


def test_job_that_is_deleted_meanwhile_ends_the_stream() -> None:
    gone = 'event: gone\ndata: {"code": "not_found", "message": "it was deleted"}\n\n'
    with pytest.raises(NotFoundError, match="it was deleted"):
        follow(Service(httpx.Response(200, text=event(1) + gone)))


def test_more_streams_than_allowed_are_replaced_by_asking() -> None:
    busy = problem(429, "too_many_streams", {"Retry-After": "10"})
    service = Service(busy, httpx.Response(200, json=JOB), busy, httpx.Response(200, json=DONE))
    assert [told.status for told in follow(service)] == ["queued", "succeeded"]


def test_wait_returns_the_job_whatever_became_of_it() -> None:
    failed = {**JOB, "status": "failed", "error": {"code": "unusable_input", "message": "no", "remedy": "r"}}
    service = Service(
        httpx.Response(200, text=event(1, final=True, status="failed")), httpx.Response(200, json=failed)
    )
    told: list[Event] = []
    job = run(client(service).wait("j1", told.append))
    assert job.status == "failed"
    assert isinstance(job.error, InputError)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: a\ndata: b\n\n", [("message", "a\nb", "")]),
        ("id: 7\nevent: x\ndata:y\n\n: c\n\ndata: z\n\n", [("x", "y", "7"), ("message", "z", "7")]),
        ("event: only\n\ndata: cut", []),
        ("id: 1\0\ndata: d\n\n", [("message", "d", "")]),
    ],
)
def test_event_streams_are_read_as_the_standard_says(text: str, expected: list[tuple[str, str, str]]) -> None:
    async def lines() -> AsyncIterator[str]:
        for line in text.split("\n"):
            yield line

    async def collect() -> list[tuple[str, str, str]]:
        return [(told.kind, told.data, told.id) async for told in server_events(lines())]

    assert run(collect()) == expected


def ranged(request: httpx.Request) -> httpx.Response:
    start = int(request.headers["range"].removeprefix("bytes=").rstrip("-"))
    assert request.headers["if-range"] == f'"{SHA}"'
    return httpx.Response(206, content=AUDIO[start:])


def test_download_goes_on_where_it_broke_and_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "out" / "vocals.wav"

    def not_yet(request: httpx.Request) -> httpx.Response:
        assert not target.exists()
        return ranged(request)

    service = Service(
        httpx.Response(200, stream=Broken(AUDIO[:3000])), problem(503, "busy", {"Retry-After": "0"}), not_yet
    )
    paths = run(client(service).download(Job.read(DONE), tmp_path / "out"))
    assert paths == [target]
    assert target.read_bytes() == AUDIO
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vocals.wav"]


def test_download_of_an_earlier_run_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / f".{SHA[:32]}.part").write_bytes(AUDIO[:5000])
    run(client(Service(ranged)).download(Job.read(DONE), tmp_path))
    assert (tmp_path / "vocals.wav").read_bytes() == AUDIO


def test_damaged_download_is_begun_anew_once_and_never_put_in_place(tmp_path: Path) -> None:
    bad = b"x" * len(AUDIO)
    service = Service(httpx.Response(200, content=bad), httpx.Response(200, content=AUDIO))
    run(client(service).download(Job.read(DONE), tmp_path))
    assert (tmp_path / "vocals.wav").read_bytes() == AUDIO
    (tmp_path / "vocals.wav").unlink()
    service = Service(httpx.Response(200, content=bad), httpx.Response(200, content=bad))
    with pytest.raises(InternalError, match="did not arrive"):
        run(client(service).download(Job.read(DONE), tmp_path))
    assert not list(tmp_path.iterdir())


def test_service_that_ignores_ranges_is_read_from_the_beginning(tmp_path: Path) -> None:
    (tmp_path / f".{SHA[:32]}.part").write_bytes(b"old" * 100)
    run(client(Service(httpx.Response(200, content=AUDIO))).download(Job.read(DONE), tmp_path))
    assert (tmp_path / "vocals.wav").read_bytes() == AUDIO


def test_lists_go_through_all_pages() -> None:
    service = Service(
        httpx.Response(200, json={"items": [JOB, DONE], "cursor": "c=1"}),
        httpx.Response(200, json={"items": [JOB], "cursor": None}),
    )

    async def collect() -> list[Job]:
        return [job async for job in client(service).jobs(["queued", "running"])]

    assert len(run(collect())) == 3
    assert service.lines == [
        "GET /v1/jobs?status=queued&status=running",
        "GET /v1/jobs?status=queued&status=running&cursor=c%3D1",
    ]


def test_other_calls_have_their_addresses() -> None:
    service = Service(
        *[httpx.Response(200, json=JOB)] * 2,
        httpx.Response(204),
        httpx.Response(200, json={"items": [{"name": "tiny", "stems": ["a"], "sha256": "f"}]}),
    )

    async def all_of_them() -> Any:
        there = client(service)
        await there.cancel("j1")
        await there.retry("j1")
        await there.delete("j1")
        return await there.models()

    (model,) = run(all_of_them())
    assert (model.name, model.stems, model.sha256) == ("tiny", ("a",), "f")
    assert service.lines == [
        "POST /v1/jobs/j1/cancel", "POST /v1/jobs/j1/retry", "DELETE /v1/jobs/j1", "GET /v1/models",
    ]  # fmt: skip


def test_plain_client_does_the_same_where_a_loop_runs_already(song: Path, tmp_path: Path) -> None:
    service = Service(
        httpx.Response(202, json=JOB),
        httpx.Response(200, text=event(1) + event(2, final=True)),
        httpx.Response(200, json=DONE),
        httpx.Response(200, content=AUDIO),
        httpx.Response(200, text=event(1)),
    )

    async def inside() -> None:
        with Client("http://there", transport=service) as there:
            job = there.wait(there.submit(song).id)
            assert there.download(job, tmp_path / "out")[0].read_bytes() == AUDIO
            for told in there.follow("j1"):
                assert told.id == "1"
                break
        there.close()

    asyncio.run(inside())


def test_plain_client_passes_errors_on() -> None:
    with Client("http://there", transport=Service(problem(404, "not_found"))) as there:
        with pytest.raises(NotFoundError):
            there.get("j1")
