"""POST /v1/jobs: what is taken, and every way to be refused without a trace."""

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.service.api.site import MAX_UPLOAD, WAV, Site, problem


def _submit(client: httpx.Client, data: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
    files = options.pop("files", {"file": ("song.wav", WAV)})
    return client.post("/v1/jobs", files=files, data=data or {}, **options)


def _upload(client: httpx.Client, data: bytes = WAV, size: int | None = None) -> str:
    begun = client.post("/v1/uploads", json={"filename": "song.wav", "size": size or len(data)})
    assert begun.status_code == 201
    sent = client.patch(
        begun.headers["location"],
        content=data,
        headers={"Upload-Offset": "0", "Content-Type": "application/octet-stream"},
    )
    assert sent.status_code == 200, sent.text
    return str(begun.json()["id"])


def test_a_file_becomes_a_job(site: Site, client: httpx.Client) -> None:
    options = {
        "stems": ["vocals,drums"],
        "format": "flac",
        "bit_depth": "24",
        "shifts": "2",
        "residual": "true",
    }
    answer = _submit(client, options)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["status"] == "queued"
    assert job["name"] == "song.wav"
    assert job["model"] == "htdemucs"
    spec = job["spec"]
    assert spec["stems"] == ["vocals", "drums"]
    assert (spec["format"], spec["bit_depth"], spec["shifts"], spec["residual"]) == ("flac", "24", 2, True)
    assert client.get(answer.headers["location"]).json()["id"] == job["id"]
    with site.service.database.reading() as connection:
        from sqlalchemy import text

        upload = connection.execute(text("SELECT upload_id FROM sw_job WHERE id = :id"), {"id": job["id"]})
        key = f"uploads/{upload.scalar_one()}/{0:016d}"
    assert site.service.storage.read_bytes(key) == WAV


def test_fields_may_be_repeated_or_empty(client: httpx.Client) -> None:
    job = _submit(client, {"stems": ["vocals", "bass"], "model": "", "two_stems": ""}).json()
    assert job["spec"]["stems"] == ["vocals", "bass"]
    assert job["spec"]["two_stems"] is None


@pytest.mark.parametrize("form", ["json", "urlencoded", "multipart"])
def test_an_upload_becomes_a_job(client: httpx.Client, form: str) -> None:
    upload = _upload(client)
    wanted = {"upload_id": upload, "two_stems": "vocals"}
    answer = {
        "json": lambda: client.post("/v1/jobs", json=wanted),
        "urlencoded": lambda: client.post("/v1/jobs", data=wanted),
        "multipart": lambda: client.post("/v1/jobs", files={k: (None, v) for k, v in wanted.items()}),
    }[form]()
    assert answer.status_code == 202, answer.text
    assert answer.json()["spec"]["two_stems"] == "vocals"


def test_a_replay_gives_the_same_job_and_another_body_conflicts(site: Site, client: httpx.Client) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = _submit(client, {"two_stems": "vocals"}, headers=key)
    files = site.stored()
    again = _submit(client, {"two_stems": "vocals"}, headers=key)
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    problem(_submit(client, {"two_stems": "drums"}, headers=key), 409, "idempotency_key_reused")
    other_file = {"file": ("song.wav", WAV + b"x")}
    problem(
        _submit(client, {"two_stems": "vocals"}, files=other_file, headers=key), 409, "idempotency_key_reused"
    )
    assert site.stored() == files  # what the refused and replayed requests brought is gone


def test_a_key_is_the_owners_own(client: httpx.Client, other: httpx.Client) -> None:
    key = {"Idempotency-Key": "the same for both"}
    mine, theirs = _submit(client, headers=key), _submit(other, headers=key)
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "-\x7f"])
def test_a_malformed_idempotency_key_is_refused(client: httpx.Client, key: str) -> None:
    body = problem(_submit(client, headers={"Idempotency-Key": key}), 422, "invalid")
    assert body["errors"][0]["field"] == "Idempotency-Key"


_BAD_OPTIONS = [
    ({"stems": "piano"}, "bad_option", "drums, bass, other, vocals"),
    ({"two_stems": "piano"}, "bad_option", "drums, bass, other, vocals"),
    ({"model": "nope"}, "bad_option", "htdemucs, sounds, speakers"),
    ({"model": "../htdemucs"}, "bad_option", "htdemucs, sounds, speakers"),
    ({"format": "aiff"}, "invalid", ""),
    ({"bit_depth": "12"}, "invalid", ""),
    ({"format": "mp3", "bit_depth": "16"}, "bad_option", ""),
    ({"query": "dog"}, "bad_option", "use sounds"),
    ({"auto": "true"}, "bad_option", "use sounds"),
    ({"query": "dgo bakr xyz", "model": "sounds"}, "bad_option", "the nearest are"),
    ({"stems": "vocals", "two_stems": "vocals"}, "bad_option", ""),
    ({"stems": "vocals,vocals"}, "bad_option", ""),
    ({"stems": "vocals,,drums"}, "invalid", ""),
    ({"shifts": "-1"}, "invalid", ""),
    ({"shifts": "many"}, "invalid", ""),
    ({"shifts": ["1", "2"]}, "invalid", ""),
    ({"residual": "maybe"}, "invalid", ""),
    ({"overlap": "1.0"}, "invalid", ""),
    ({"overlap": "nan"}, "invalid", ""),
    ({"modell": "htdemucs"}, "invalid", ""),
    ({"lyrics": "true"}, "bad_option", ""),
    ({"name": "x" * 600}, "invalid", ""),
]


@pytest.mark.parametrize(("options", "code", "remedy"), _BAD_OPTIONS)
def test_wrong_options_are_refused_and_leave_nothing(
    site: Site, client: httpx.Client, options: dict[str, Any], code: str, remedy: str
) -> None:
    files, uploads = site.stored(), site.uploads()
    body = problem(_submit(client, options), 422, code)
    assert remedy in body["remedy"]
    if code == "invalid":
        assert body["errors"][0]["field"].split(".")[0] in options
    assert site.stored() == files
    assert site.uploads() == uploads


_BAD_FILES: list[tuple[dict[str, Any], dict[str, Any], int, str, str]] = [
    ({"fiel": ("song.wav", WAV)}, {}, 422, "invalid", "fiel"),
    ({"file": ("empty.wav", b"")}, {}, 422, "invalid", "file"),
    ({"file": (None, "no file at all")}, {}, 422, "invalid", "file"),
    ({"other": (None, "x")}, {}, 422, "invalid", "file"),
    ({"file": ("song.wav", WAV)}, {"upload_id": "abc"}, 422, "invalid", "upload_id"),
    ({"file": ("big.wav", bytes(MAX_UPLOAD + 1))}, {}, 413, "too_large", ""),
]


@pytest.mark.parametrize(("files", "data", "status", "code", "field"), _BAD_FILES)
def test_wrong_files_are_refused_and_leave_nothing(
    site: Site,
    client: httpx.Client,
    files: dict[str, Any],
    data: dict[str, Any],
    status: int,
    code: str,
    field: str,
) -> None:
    before, uploads = site.stored(), site.uploads()
    body = problem(_submit(client, data, files=files), status, code)
    if field:
        assert body["errors"][0]["field"] == field
    assert site.stored() == before
    assert site.uploads() == uploads


def test_two_files_are_refused(site: Site, client: httpx.Client) -> None:
    before = site.stored()
    two = [("file", ("a.wav", WAV)), ("file", ("b.wav", WAV))]
    body = problem(client.post("/v1/jobs", files=two), 422, "invalid")
    assert body["errors"] == [{"field": "file", "message": "came twice"}]
    assert site.stored() == before


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\song.wav", "song.wav"),
        ("a\x00b\x07c.wav", "abc.wav"),
        ("..", "upload"),
        ("", "upload"),
        ("\u202egnp.wav", "gnp.wav"),
        ("Ünïcødé 音楽.flac", "Ünïcødé 音楽.flac"),
        ("x" * 400 + ".flac", "x" * 250 + ".flac"),
    ],
)
def test_names_never_become_paths(site: Site, client: httpx.Client, name: str, shown: str) -> None:
    disposition = f'form-data; name="file"; filename="{name}"'.encode().replace(b"\\", b"\\\\")
    body = b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + WAV + b"\r\n--b--\r\n"
    answer = client.post(
        "/v1/jobs", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code == 202, answer.text
    assert answer.json()["name"] == shown
    assert all(path.split("/")[0] in ("uploads", "jobs", ".aside") for path in site.stored())


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "bad_request"),
        (b"[1]", "application/json", 422, "invalid"),
        (b"\xff\xfe", "application/json", 400, "bad_request"),
        (b"[" * 100_000, "application/json", 400, "bad_request"),
        (b'{"upload_id": 5}', "application/json", 422, "invalid"),
        (b'{"upload_id": "nope"}', "application/json", 404, "not_found"),
        (b"{}", "application/json", 422, "invalid"),
        (b'{"upload_id": "nope", "stems": "vocals"}', "application/json", 422, "invalid"),
        (b" " * (1 << 20) + b"{}", "application/json", 413, "too_large"),
        (b"x", "text/plain", 415, "unsupported_media_type"),
        (b"x", "", 415, "unsupported_media_type"),
        (b"x", "multipart/form-data", 400, "bad_multipart"),
        (b"x", "multipart/form-data; boundary=b", 400, "bad_multipart"),
        (b"--b\r\n", "multipart/form-data; boundary=b", 400, "bad_multipart"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 422, "invalid"),
        (b"--b\r\nX: y\r\n\r\nz\r\n--b--\r\n", "multipart/form-data; boundary=b", 400, "bad_multipart"),
        (b"--b\r\n" + b"X: y\r\n" * 50, "multipart/form-data; boundary=b", 400, "bad_multipart"),
        (b"--b\r\nX: " + b"y" * 9000, "multipart/form-data; boundary=b", 400, "bad_multipart"),
        (b"x", "multipart/form-data; boundary=" + "b" * 300, 400, "bad_multipart"),
    ],
)
def test_bodies_that_are_none_are_refused(
    site: Site, client: httpx.Client, content: bytes, kind: str, status: int, code: str
) -> None:
    before = site.stored()
    headers = {"Content-Type": kind} if kind else {}
    problem(client.post("/v1/jobs", content=content, headers=headers), status, code)
    assert site.stored() == before


def test_too_many_or_too_large_fields_are_refused(client: httpx.Client) -> None:
    many = {f"field{n}": (None, "x") for n in range(200)}
    problem(client.post("/v1/jobs", files=many), 400, "bad_multipart")
    problem(client.post("/v1/jobs", files={"name": (None, "x" * 70_000)}), 413, "too_large")


def test_an_unfinished_or_foreign_upload_makes_no_job(client: httpx.Client, other: httpx.Client) -> None:
    begun = client.post("/v1/uploads", json={"filename": "song.wav", "size": 10}).json()["id"]
    problem(client.post("/v1/jobs", json={"upload_id": begun}), 409, "conflict")
    problem(other.post("/v1/jobs", json={"upload_id": _upload(client)}), 404, "not_found")


def test_an_example_of_the_sound_comes_beside_the_recording(site: Site, client: httpx.Client) -> None:
    files = {"file": ("song.wav", WAV), "query_audio": ("bark.wav", WAV[::-1])}
    answer = _submit(client, {"model": "sounds", "query": "dog bark, /m/04rlf"}, files=files)
    assert answer.status_code == 202, answer.text
    spec = answer.json()["spec"]
    assert spec["query"] == ["dog bark", "/m/04rlf"]
    example = f"uploads/{spec['query_audio']}/{0:016d}"
    assert site.service.storage.read_bytes(example) == WAV[::-1]
    job = answer.headers["location"]
    files_of_both = {path for path in site.stored() if path.startswith("uploads/")}
    assert client.delete(job).status_code == 204
    assert len(files_of_both - site.stored()) == 2  # both go with it
    sent = _upload(client, WAV[::-1])
    by_id = _submit(client, {"model": "sounds", "query_audio": sent})
    assert by_id.json()["spec"]["query_audio"] == sent
    problem(_submit(client, {"model": "sounds", "query_audio": "nope"}), 404, "not_found")


def test_limits_of_a_key_are_429(site: Site) -> None:
    from tests.service.api.site import open_site

    with open_site(site.folder / "limited", max_queued_per_key=2) as limited, limited.client() as client:
        assert [_submit(client).status_code for _ in range(2)] == [202, 202]
        answer = _submit(client)
        problem(answer, 429, "too_many")
        assert int(answer.headers["retry-after"]) >= 1
        with limited.client() as neighbour:
            assert _submit(neighbour).status_code == 202


def test_a_full_disk_is_503(site: Site) -> None:
    from tests.service.api.site import open_site

    with open_site(site.folder / "full", min_free_bytes=1 << 60) as full, full.client() as client:
        answer = _submit(client)
        problem(answer, 503, "busy")
        assert "retry-after" in answer.headers
        problem(client.post("/v1/uploads", json={"size": 5}), 503, "busy")


def test_a_small_file_becomes_a_job_if_nobody_is_ready(client: httpx.Client) -> None:
    files = {"file": ("song.wav", WAV)}
    answer = client.post("/v1/separate", files=files, headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=0.3"  # the service's own limit
    assert client.get(answer.headers["location"]).json()["status"] == "queued"
    assert json.loads(answer.content)["status"] == "queued"
