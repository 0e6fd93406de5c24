"""Looking at jobs, and changing them: each key sees its own."""

import httpx
import pytest

from tests.service.api.site import WAV, Site, problem


def _job(client: httpx.Client, **data: str) -> str:
    answer = client.post("/v1/jobs", files={"file": ("song.wav", WAV)}, data=data)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_jobs_are_listed_newest_first_page_by_page(site: Site, client: httpx.Client) -> None:
    jobs = [_job(client) for _ in range(7)]
    site.set_job(jobs[2], status="failed", error_code="unusable_input", error_message="no audio")
    found: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/jobs", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= 3
        found += [job["id"] for job in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == jobs[::-1]
    failed = client.get("/v1/jobs", params={"status": "failed"}).json()["items"]
    assert [job["id"] for job in failed] == [jobs[2]]
    assert failed[0]["error"] == {"code": "unusable_input", "message": "no audio", "remedy": ""}
    both = client.get("/v1/jobs?status=failed&status=queued").json()["items"]
    assert len(both) == 7


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("status=gone", "invalid"),
        ("limit=0", "invalid"),
        ("limit=1000", "invalid"),
        ("limit=x", "invalid"),
        ("cursor=x", "bad_option"),
        ("cursor=" + "a" * 600, "invalid"),
    ],
)
def test_wrong_questions_are_refused(client: httpx.Client, query: str, code: str) -> None:
    problem(client.get(f"/v1/jobs?{query}"), 422, code)


_ROUTES = [
    ("GET", ""),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("DELETE", ""),
    ("GET", "/events"),
    ("GET", "/stems/vocals"),
    ("GET", "/archive.zip"),
    ("GET", "/peaks/vocals"),
    ("GET", "/preview/vocals"),
    ("GET", "/preview/vocals/0"),
]


@pytest.mark.parametrize(("method", "path"), _ROUTES)
def test_foreign_and_unknown_jobs_are_not_found(
    client: httpx.Client, other: httpx.Client, method: str, path: str
) -> None:
    mine = _job(client)
    foreign = other.request(method, f"/v1/jobs/{mine}{path}")
    unknown = other.request(method, f"/v1/jobs/{'0' * 32}{path}")
    a, b = problem(foreign, 404, "not_found"), problem(unknown, 404, "not_found")
    assert (a["detail"], a["remedy"]) == (b["detail"], b["remedy"])  # nothing tells that it is there
    assert client.get(f"/v1/jobs/{mine}").json()["status"] == "queued"


@pytest.mark.parametrize("job", ["..", "%2e%2e", "a%2fb", "a b", "x" * 65, "%00"])
def test_what_is_no_id_is_refused(client: httpx.Client, job: str) -> None:
    assert client.get(f"/v1/jobs/{job}").status_code in (404, 422)


def test_a_cancelled_job_can_be_retried_and_deleted(site: Site, client: httpx.Client) -> None:
    job = _job(client)
    assert client.post(f"/v1/jobs/{job}/cancel").json()["status"] == "cancelled"
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200  # again is right too
    again = client.post(f"/v1/jobs/{job}/retry")
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    assert again.headers["location"] == f"/v1/jobs/{job}"
    problem(client.post(f"/v1/jobs/{job}/retry"), 409, "conflict")
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    problem(client.get(f"/v1/jobs/{job}"), 404, "not_found")


def test_a_deleted_job_leaves_no_file(site: Site, client: httpx.Client) -> None:
    before = site.stored()
    job = _job(client)
    site.finish(job, {"vocals": b"abc"})
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    assert site.stored() == before


def test_what_has_not_ended_has_no_results(client: httpx.Client) -> None:
    job = _job(client)
    for path in ("stems/vocals", "archive.zip", "peaks/vocals", "preview/vocals", "preview/vocals/0"):
        problem(client.get(f"/v1/jobs/{job}/{path}"), 409, "not_finished")
