"""POST /v1/detect: its fields become those of a job that only listens."""

from typing import Any

import httpx
import pytest

from tests.service.api.site import WAV, problem


def _ask(client: httpx.Client, data: dict[str, Any] | None = None) -> httpx.Response:
    return client.post("/v1/detect", files={"file": ("song.wav", WAV)}, data=data or {})


def test_its_fields_become_a_jobs(client: httpx.Client) -> None:
    answer = _ask(client, {"top": "3", "threshold": "0.3", "level": "2", "name": "mine"})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["spec"]["detect"] == {"top": 3, "threshold": 0.3, "level": 2}
    assert (job["name"], job["model"]) == ("mine", "yamnet")


@pytest.mark.parametrize(
    ("data", "field"), [({"top": "0"}, "top"), ({"level": "7"}, "level"), ({"stems": "vocals"}, "stems")]
)
def test_wrong_fields_are_refused_by_their_names(
    client: httpx.Client, data: dict[str, str], field: str
) -> None:
    assert problem(_ask(client, data), 422, "invalid")["errors"][0]["field"] == field


def test_a_job_cannot_be_made_to_detect_by_the_way(client: httpx.Client) -> None:
    body = {"upload_id": "x", "detect": {"top": 3}}
    assert problem(client.post("/v1/jobs", json=body), 422, "invalid")["errors"][0]["field"] == "detect"
