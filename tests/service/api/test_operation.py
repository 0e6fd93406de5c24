"""Health, metrics, logs, faults of ours: what operators see, and what callers do not."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from stemwright.service.jobs.schema import WORKERS
from stemwright.service.logs import JsonFormatter, redacted
from tests.service.api.site import WAV, Site, open_site, problem, write_manifest


def _worker(site: Site, name: str, **values: Any) -> None:
    row = {
        "queue": "default",
        "device": "auto",
        "provider": "cpu",
        "models": "[]",
        "seen": time.time(),
    }
    with site.service.database.writing() as connection:
        connection.execute(insert(WORKERS).values(executor_id=name, **{**row, **values}))


@pytest.fixture
def own(site: Site, tmp_path: Any) -> Iterator[Site]:
    write_manifest(tmp_path / "models", "htdemucs", ["vocals"])
    with open_site(tmp_path) as opened:
        yield opened


def _ready(site: Site) -> httpx.Response:
    return httpx.get(f"{site.url}/health/ready", timeout=10)


def test_alive_is_told_to_anybody(site: Site) -> None:
    answer = httpx.get(f"{site.url}/health/live")
    assert answer.json()["status"] == "alive"


def test_ready_means_database_storage_model_and_worker(own: Site) -> None:
    body = problem(_ready(own), 503, "unavailable")
    assert body["errors"] == [{"field": "worker", "message": "no worker is alive"}]
    _worker(own, "w1")
    assert _ready(own).json()["checks"] == {
        "database": "ok",
        "storage": "ok",
        "model": "ok",
        "worker": "1 alive, cpu",
    }
    graph = own.folder / "models" / "htdemucs" / "model.onnx"
    graph.write_bytes(b"x" * graph.stat().st_size)
    body = problem(_ready(own), 503, "unavailable")
    assert "damaged" in body["errors"][0]["message"]
    graph.unlink()
    problem(_ready(own), 503, "unavailable")


def test_a_dead_worker_does_not_count(own: Site) -> None:
    _worker(own, "w1", seen=time.time() - 100)
    problem(_ready(own), 503, "unavailable")


def test_a_worker_on_another_provider_than_asked_for_is_not_ready(own: Site) -> None:
    _worker(own, "w1", device="cuda:0", provider="cpu")
    body = problem(_ready(own), 503, "unavailable")
    assert "cuda:0 was asked for, cpu is in use" in body["detail"]
    _worker(own, "w2", device="cuda:1", provider="cuda")
    assert _ready(own).status_code == 200


def test_a_missing_model_is_not_ready(own: Site) -> None:
    _worker(own, "w1")
    (own.folder / "models" / "htdemucs").rename(own.folder / "models" / "other")
    (own.folder / "models" / "other" / "manifest.json").write_text('{"name": "other", "stems": ["a"]}')
    body = problem(_ready(own), 503, "unavailable")
    assert "not installed" in body["detail"]


def test_metrics_keep_the_conventions_and_count(own: Site) -> None:
    _worker(own, "w1")
    with own.client() as client:
        done, failed, waiting = (
            client.post("/v1/jobs", files={"file": ("secret name.wav", WAV)}).json()["id"] for _ in range(3)
        )
        own.finish(done, {"vocals": b"x"})
        own.set_job(failed, status="failed", error_code="unusable_input", finished_at=time.time())
        client.get(f"/v1/jobs/{done}")
        text = client.get("/metrics").text
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["stemwright_queue_jobs", "default", "queued"] == 1
    assert found["stemwright_queue_oldest_seconds", "default"] > 0
    assert found["stemwright_jobs_ended_total", "htdemucs", "succeeded"] == 1
    assert found["stemwright_job_failures_total", "unusable_input"] == 1
    assert found["stemwright_run_seconds_per_audio_second_sum", "htdemucs"] == 0.5
    assert found["stemwright_audio_seconds_total", "htdemucs"] == 2.0
    assert found["stemwright_workers", "auto", "cpu", "default"] == 1
    assert found["stemwright_http_received_bytes_total",] > 3 * len(WAV)
    assert found["stemwright_http_requests_total", "/v1/jobs/{job_id}", "200", "GET"] == 1
    for private in (done, waiting, "secret name", "swk_"):
        assert private not in text
    for family in text_string_to_metric_families(text):
        if family.name.startswith("stemwright"):
            assert family.documentation
    assert not [name for name, *_ in found if name.endswith(("_ms", "_count_total", "_minutes"))]


def test_counts_are_of_jobs_that_end_between_scrapes_once(own: Site) -> None:
    def ended(client: httpx.Client) -> float:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return sum(s.value for f in families for s in f.samples if s.name == "stemwright_jobs_ended_total")

    with own.client() as client:
        assert ended(client) == 0
        for number in range(1, 4):
            job = client.post("/v1/jobs", files={"file": ("song.wav", WAV)}).json()["id"]
            own.finish(job, {"vocals": b"x"})
            assert ended(client) == ended(client) == number


def test_a_fault_of_ours_tells_nothing_but_its_id(
    own: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(own.service.catalogue, "models", broken)
    with own.client() as client:
        answer = client.get("/v1/models", headers={"X-Request-ID": "chosen-by-me"})
    body = problem(answer, 500, "internal_error")
    assert "secret" not in answer.text and "Runtime" not in answer.text
    assert body["request_id"] == "chosen-by-me"
    records = [record for record in caplog.records if record.exc_info]
    assert any("a secret of the inside" in str((record.exc_info or (0, 0))[1]) for record in records)


@pytest.mark.parametrize("sent", ["", "has space", "x" * 65, "a\tb", "../../etc"])
def test_a_request_id_that_is_odd_is_replaced(site: Site, sent: str) -> None:
    answer = httpx.get(f"{site.url}/health/live", headers={"X-Request-ID": sent})
    given = answer.headers["x-request-id"]
    assert given == sent or (given.isalnum() and len(given) == 16)
    if sent != "../../etc":
        assert given != sent


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    problem(client.get("/"), 404, "not_found")
    problem(client.get("/v1/jobs/"), 404, "not_found")
    answer = client.put("/v1/jobs")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"
    assert client.put("/v1/uploads/x").headers["allow"] == "DELETE, GET, HEAD, PATCH"


def test_every_request_is_logged_once_without_secrets(own: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stemwright.access")
    key = own.key()
    with own.client(key) as client:
        client.get("/v1/jobs?cursor=private", headers={"X-Request-ID": "r1"})
    until = time.monotonic() + 5  # the line is written behind the answer
    while not (lines := _access_lines(caplog)) and time.monotonic() < until:
        time.sleep(0.02)
    (line,) = [line for line in lines if line["path"] == "/v1/jobs"]
    assert (line["method"], line["status"], line["client"]) == ("GET", 422, "127.0.0.1")
    assert line["seconds"] >= 0 and line["bytes_out"] > 0 and line["key_id"]
    text = json.dumps(lines)
    assert key not in text and "private" not in text


def _access_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == "stemwright.access"]


def test_a_log_line_is_one_line_of_json_and_hides_secrets() -> None:
    record = logging.LogRecord(
        "stemwright.x", logging.ERROR, __file__, 1, "a\nb %s", ("Bearer swk_abc \udcff",), None
    )
    record.job_id = "j1"
    line = JsonFormatter().format(record)
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed["job_id"] == "j1"
    assert "swk_abc" not in line
    hidden = redacted("postgresql://user:hunter2@db/x Authorization: Bearer abc stemwright_session=s3cret; x")
    assert not [secret for secret in ("hunter2", "abc", "s3cret") if secret in hidden]
