"""Server-sent events: in order, resumable, alive, and always with the end."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from stemwright.service.api.routes import events as module
from tests.service.api.site import WAV, Site, open_site, problem


def _job(client: httpx.Client) -> str:
    return str(client.post("/v1/jobs", files={"file": ("song.wav", WAV)}).json()["id"])


@contextlib.contextmanager
def _later(seconds: float, call: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """Call something from a thread meanwhile, and wait for it."""
    timer = threading.Timer(seconds, call, arguments)
    timer.start()
    yield
    timer.join()


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Read events as a browser does."""
    event: dict[str, Any] = {}
    for line in lines:
        if line.startswith(":"):
            yield {"comment": line}
        elif line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif event:
            if "data" in event:
                event["data"] = json.loads(event["data"])
                yield event
            event = {}


def test_an_ended_job_tells_its_end_at_once(site: Site, client: httpx.Client) -> None:
    job = _job(client)
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "no-cache" in answer.headers["cache-control"]
        found = list(_events(answer.iter_lines()))
    assert found[-1]["event"] == "final"
    assert found[-1]["data"]["status"] == "cancelled"
    assert found[-1]["data"]["final"] is True
    with client.stream("GET", f"/v1/jobs/{job}/events", headers={"Last-Event-ID": found[-1]["id"]}) as answer:
        assert next(_events(answer.iter_lines()))["event"] == "final"  # sent always
    with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": found[-1]["id"]}) as answer:
        assert next(_events(answer.iter_lines()))["event"] == "final"


@pytest.mark.slow
def test_an_open_stream_is_kept_alive_until_the_end(
    site: Site, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.2)
    job = _job(client)
    with (
        _later(1.0, client.post, f"/v1/jobs/{job}/cancel"),
        client.stream("GET", f"/v1/jobs/{job}/events") as answer,
    ):
        found = list(_events(answer.iter_lines()))
    kinds = [event.get("event", "comment") for event in found]
    assert kinds[0] == "progress"
    assert kinds[-1] == "final"
    assert kinds.count("comment") >= 2


def test_a_deleted_job_ends_its_streams(site: Site, client: httpx.Client) -> None:
    job = _job(client)
    with (
        _later(0.5, client.delete, f"/v1/jobs/{job}"),
        client.stream("GET", f"/v1/jobs/{job}/events") as answer,
    ):
        found = list(_events(answer.iter_lines()))
    last = found[-1]  # a deletion cancels first, and that may be seen
    told = (last["event"], last["data"].get("code", last["data"].get("status")))
    assert told in {("gone", "not_found"), ("final", "cancelled")}


@pytest.mark.parametrize("event", ["x", "-1", "1" * 30, "1-fin"])
def test_a_wrong_event_id_is_refused(client: httpx.Client, event: str) -> None:
    job = _job(client)
    problem(client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": event}), 422, "invalid")


def test_too_many_streams_of_a_key_are_429_and_each_end_makes_room(site: Site) -> None:
    with open_site(site.folder / "streams", max_event_streams=2) as few, few.client() as client:
        job = _job(client)
        url = f"/v1/jobs/{job}/events"
        with client.stream("GET", url) as one, client.stream("GET", url) as two:
            begun = [stream.iter_lines() for stream in (one, two)]
            assert [next(lines) for lines in begun] == ["retry: 2000", "retry: 2000"]
            answer = client.get(url)
            problem(answer, 429, "too_many_streams")
            assert "retry-after" in answer.headers
            with few.client() as neighbour:
                problem(neighbour.get(url), 404, "not_found")
        until = time.monotonic() + 5
        while few.service.streams.total() and time.monotonic() < until:
            time.sleep(0.05)
        assert few.service.streams.total() == 0
        assert not few.service.streams


def test_streams_end_when_the_server_does(site: Site) -> None:
    with open_site(site.folder / "ending") as ending, ending.client() as client:
        job = _job(client)
        with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            began = time.monotonic()
            ending.server.should_exit = True
            list(lines)  # ends in order, not by a broken connection
            assert time.monotonic() - began < 1.0


def test_a_waiting_request_becomes_a_job_when_the_server_ends(site: Site) -> None:
    with open_site(site.folder / "waiting", wait_limit_s=30.0, grace_s=5.0) as ending:
        with _later(0.7, setattr, ending.server, "should_exit", True), ending.client() as client:
            answer = client.post("/v1/separate", files={"file": ("song.wav", WAV)})
        assert answer.status_code == 202
