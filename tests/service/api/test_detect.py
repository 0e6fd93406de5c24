"""POST /v1/detect: its fields become a job's, and what a worker hears is the answer."""

import json
import threading
import time
from typing import Any

import httpx
import pytest

from tests.service.api.site import WAV, Site, open_site, problem

HEARD = {
    "tagger": "yamnet",
    "duration_s": 2.0,
    "window_s": 2.0,
    "threshold": 0.3,
    "classes": [
        {
            "mid": "/m/04rlf",
            "name": "Music",
            "index": 137,
            "peak": 0.9,
            "mean": 0.9,
            "active": [[0.0, 2.0]],
            "probabilities": [0.9],
        }
    ],
}


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


def test_what_is_heard_in_time_is_the_answer(site: Site) -> None:
    with open_site(site.folder / "hearing", wait_limit_s=20.0) as opened, opened.client() as client:

        def work() -> None:
            with opened.client(key) as watching:
                while not (jobs := watching.get("/v1/jobs").json()["items"]):
                    time.sleep(0.05)
            opened.finish(jobs[0]["id"], {})
            opened.set_job(jobs[0]["id"], result=json.dumps(HEARD))

        key = client.headers["authorization"].split()[1]
        thread = threading.Thread(target=work)
        thread.start()
        answer = _ask(client)
        thread.join()
    if answer.status_code == 200:  # nothing but the row tells that it ended here, so it may also be a 202
        assert answer.json() == HEARD
        assert answer.headers["content-location"].startswith("/v1/jobs/")
