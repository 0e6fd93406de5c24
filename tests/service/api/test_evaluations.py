"""POST /v1/evaluations and `evaluate`: their fields become those of jobs; uploads are checked and held."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from stemwright.service.client import Client
from stemwright.service.errors import ConflictError
from stemwright.service.jobs.schema import JOB_UPLOADS
from tests.service.api.site import WAV, Site, problem


def _upload(client: httpx.Client) -> str:
    begun = client.post("/v1/uploads", json={"filename": "vocals.wav", "size": len(WAV)})
    assert begun.status_code == 201, begun.text
    upload = str(begun.json()["id"])
    headers = {"Upload-Offset": "0", "Content-Type": "application/octet-stream"}
    sent = client.patch(f"/v1/uploads/{upload}", content=WAV, headers=headers)
    assert sent.status_code in (200, 204), sent.text
    return upload


def test_uploads_become_a_job_that_scores(client: httpx.Client, site: Site) -> None:
    true, found = _upload(client), _upload(client)
    body: dict[str, Any] = {
        "references": {"vocals": true},
        "estimates": {"vocals": found},
        "metrics": ["sdr"],
        "name": "mine",
    }
    answer = client.post("/v1/evaluations", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["name"], job["model"], job["status"]) == ("mine", "evaluation", "queued")
    assert job["spec"]["score"]["estimates"] == {"vocals": found}
    with site.service.database.reading() as connection:
        held = connection.execute(
            select(JOB_UPLOADS.c.upload_id).where(JOB_UPLOADS.c.job_id == job["id"])
        ).scalars()
        assert set(held) == {true, found}


def test_the_same_request_makes_one_job(client: httpx.Client) -> None:
    body = {"references": {"vocals": _upload(client)}, "estimates": {"vocals": _upload(client)}}
    first, second = (
        client.post("/v1/evaluations", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotent-replayed"] == "true"
    other = {**body, "metrics": ["sdr"]}
    problem(
        client.post("/v1/evaluations", json=other, headers={"Idempotency-Key": "k"}),
        409,
        "idempotency_key_reused",
    )


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"estimates": {"vocals": "x"}}, "true stems are to be named in one way"),
        ({"references": {"vocals": "x"}}, "estimates are to be named in one way"),
        (
            {"references": {"vocals": "x"}, "stem_mp4": "y", "estimates": {"vocals": "x"}},
            "true stems are to be named in one way",
        ),
        ({"stem_mp4": "x", "mixture": "y", "job_id": "z"}, "has its mixture inside"),
        ({"stem_mp4": "x", "job_id": "z", "metrics": ["sisdr"]}, "there is no metric sisdr"),
    ],
)
def test_what_contradicts_itself_is_refused(client: httpx.Client, body: Any, detail: str) -> None:
    assert detail in problem(client.post("/v1/evaluations", json=body), 422, "bad_option")["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"references": {"vocals": "../x"}, "job_id": "z"}, "references.vocals"),
        ({"stem_mp4": "x", "job_id": "z", "stems": ["vocals"]}, "stems"),
        ({"references": {}, "job_id": "z"}, "references"),
    ],
)
def test_wrong_fields_are_named(client: httpx.Client, body: Any, field: str) -> None:
    assert problem(client.post("/v1/evaluations", json=body), 422, "invalid")["errors"][0]["field"] == field


def test_strangers_uploads_and_jobs_are_not_found(client: httpx.Client, site: Site) -> None:
    mine = _upload(client)
    with site.client() as stranger:
        body = {"references": {"vocals": mine}, "estimates": {"vocals": mine}}
        problem(stranger.post("/v1/evaluations", json=body), 404, "not_found")
    body = {"references": {"vocals": mine}, "job_id": "nobodys"}  # type: ignore[dict-item]
    problem(client.post("/v1/evaluations", json=body), 404, "not_found")


def test_only_a_job_that_has_succeeded_has_stems_to_score(client: httpx.Client) -> None:
    mine = _upload(client)
    job = client.post("/v1/jobs", json={"upload_id": mine}).json()["id"]
    body = {"references": {"vocals": mine}, "job_id": job}
    problem(client.post("/v1/evaluations", json=body), 409, "conflict")


def test_a_job_that_separates_can_be_evaluated(client: httpx.Client) -> None:
    recording, true = _upload(client), _upload(client)
    body = {"upload_id": recording, "evaluate": True, "references": {"vocals": true}, "metrics": ["si-sdr"]}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["spec"]["references"] == {"vocals": true}


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"evaluate": True, "format": "mp3"}, "codec"),
        ({"references": {"vocals": "x"}}, "go with evaluate only"),
        ({"metrics": ["sdr"]}, "go with evaluate only"),
        ({"evaluate": True, "metrics": ["sdrr"]}, "there is no metric sdrr"),
    ],
)
def test_options_of_evaluation_that_make_no_sense(client: httpx.Client, options: Any, detail: str) -> None:
    answer = client.post("/v1/jobs", json={"upload_id": "x", **options})
    assert detail in problem(answer, 422, "bad_option")["detail"]


def test_a_job_cannot_be_made_to_score_by_the_way(client: httpx.Client) -> None:
    body = {"upload_id": "x", "score": {"stem_mp4": "x", "job_id": "y"}}
    assert problem(client.post("/v1/jobs", json=body), 422, "invalid")["errors"][0]["field"] == "score"


def test_the_document_tells_what_an_evaluation_is(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {"Evaluation", "ScoreMetric", "ScoredStem"} <= set(schemas)
    assert "$defs" not in json.dumps(schemas["Evaluation"])
    body = document["paths"]["/v1/evaluations"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["examples"]) == {"uploads", "job"}


def test_the_client_sends_what_is_to_be_scored(client: httpx.Client, site: Site, tmp_path: Path) -> None:
    for name in ("true.wav", "found.wav", "song.wav", "a.stem.mp4"):
        (tmp_path / name).write_bytes(WAV)
    with Client(site.url, key=client.headers["authorization"].removeprefix("Bearer ")) as ours:
        true, found = {"vocals": tmp_path / "true.wav"}, {"vocals": tmp_path / "found.wav"}
        scoring = ours.evaluate(true, found, mixture=tmp_path / "song.wav", metrics=["sdri"])
        spec = client.get(f"/v1/jobs/{scoring.id}").json()["spec"]["score"]
        assert set(spec["references"]) == set(spec["estimates"]) == {"vocals"}
        assert spec["mixture"] and spec["metrics"] == ["sdri"] and spec["job_id"] is None

        job = ours.submit(tmp_path / "song.wav", evaluate=True, references=true)
        spec = client.get(f"/v1/jobs/{job.id}").json()["spec"]
        assert spec["evaluate"] and set(spec["references"]) == {"vocals"}
        with pytest.raises(ConflictError):  # it has not succeeded yet
            ours.evaluate(tmp_path / "a.stem.mp4", job)
