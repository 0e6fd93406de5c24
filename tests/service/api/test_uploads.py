"""Uploads in pieces: resumed at the right offset, whatever broke them off."""

import asyncio
import contextlib
import socket
import threading
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemwright.service.api import parts
from stemwright.service.api.uploads import clean_name
from tests.service.api.site import MAX_UPLOAD, Site, problem

_BYTES = {"Content-Type": "application/octet-stream"}


def _begin(client: httpx.Client, size: int) -> str:
    answer = client.post("/v1/uploads", json={"filename": "song.wav", "size": size})
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-offset"] == "0"
    return str(answer.headers["location"])


def _patch(client: httpx.Client, url: str, offset: int, data: bytes) -> httpx.Response:
    return client.patch(url, content=data, headers={**_BYTES, "Upload-Offset": str(offset)})


def _stored(site: Site, url: str, tmp: str = "joined") -> bytes:
    target = site.folder / tmp
    site.service.storage.fetch_upload(url.rpartition("/")[2], target)
    return target.read_bytes()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=6))
def test_pieces_join_to_the_whole(site: Site, client: httpx.Client, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    url, offset = _begin(client, len(whole)), 0
    for piece in pieces:
        assert client.head(url).headers["upload-offset"] == str(offset)
        answer = _patch(client, url, offset, piece)
        assert answer.status_code == 200
        offset += len(piece)
        assert answer.headers["upload-offset"] == str(offset)
        assert answer.json()["complete"] == (offset == len(whole))
    assert _stored(site, url) == whole


def test_a_wrong_offset_tells_the_right_one(client: httpx.Client) -> None:
    url = _begin(client, 10)
    _patch(client, url, 0, b"abc")
    for offset in (0, 2, 4, 10):
        answer = _patch(client, url, offset, b"x")
        problem(answer, 409, "wrong_offset")
        assert answer.headers["upload-offset"] == "3"
    assert client.get(url).json()["received"] == 3


def test_more_than_announced_is_refused(client: httpx.Client) -> None:
    url = _begin(client, 3)
    problem(_patch(client, url, 0, b"abcd"), 413, "too_large")
    assert _patch(client, url, 0, b"abc").status_code == 200
    problem(_patch(client, url, 3, b"d"), 409, "upload_complete")


def test_more_than_announced_is_refused_without_a_length_too(site: Site, client: httpx.Client) -> None:
    url = _begin(client, 3)
    answer = client.patch(url, content=iter([b"ab", b"cd"]), headers={**_BYTES, "Upload-Offset": "0"})
    problem(answer, 413, "too_large")
    assert _stored(site, url) == b"abc"  # what belonged there is kept


def test_sizes_beyond_the_limit_are_refused_at_once(client: httpx.Client) -> None:
    problem(client.post("/v1/uploads", json={"size": MAX_UPLOAD + 1}), 413, "too_large")
    for size in (0, -1, "many", 1.5, None):
        problem(client.post("/v1/uploads", json={"size": size}), 422, "invalid")
    problem(client.post("/v1/uploads", json={"size": 5, "path": "/etc"}), 422, "invalid")


def test_a_beginning_that_is_none_is_refused(client: httpx.Client) -> None:
    kind = {"Content-Type": "application/json"}
    problem(client.post("/v1/uploads", content=b"{", headers=kind), 400, "bad_request")
    problem(client.post("/v1/uploads", content=b"[]", headers=kind), 422, "invalid")
    problem(client.post("/v1/uploads", content=b" " * 70_000 + b"{}", headers=kind), 413, "too_large")
    problem(client.post("/v1/uploads", data={"size": "5"}), 415, "unsupported_media_type")


def test_bad_headers_are_refused(client: httpx.Client) -> None:
    url = _begin(client, 10)
    problem(client.patch(url, content=b"x", headers=_BYTES), 422, "invalid")
    for offset in ("-1", "x", "1e3", "9" * 40):
        problem(client.patch(url, content=b"x", headers={**_BYTES, "Upload-Offset": offset}), 422, "invalid")
    problem(
        client.patch(url, content=b"x", headers={"Content-Type": "text/plain", "Upload-Offset": "0"}),
        415,
        "unsupported_media_type",
    )


def test_foreign_and_unknown_uploads_are_not_found(client: httpx.Client, other: httpx.Client) -> None:
    url = _begin(client, 10)
    for missing, who in ((url, other), ("/v1/uploads/nope", client)):
        problem(who.get(missing), 404, "not_found")
        assert who.head(missing).status_code == 404
        problem(_patch(who, missing, 0, b"x"), 404, "not_found")
        problem(who.delete(missing), 404, "not_found")


def test_a_deleted_upload_leaves_nothing(site: Site, client: httpx.Client) -> None:
    before = site.stored()
    url = _begin(client, 10)
    _patch(client, url, 0, b"abc")
    assert client.delete(url).status_code == 204
    assert site.stored() == before
    problem(client.get(url), 404, "not_found")


def test_an_upload_that_a_job_needs_stays(client: httpx.Client) -> None:
    url = _begin(client, 3)
    _patch(client, url, 0, b"abc")
    assert client.post("/v1/jobs", json={"upload_id": url.rpartition("/")[2]}).status_code == 202
    problem(client.delete(url), 409, "upload_in_use")


def test_what_came_before_the_connection_broke_is_kept(site: Site) -> None:
    key = site.key()
    with site.client(key) as client:
        url = _begin(client, 100_000)
        with socket.create_connection(site.address) as connection:
            head = (
                f"PATCH {url} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
                "Upload-Offset: 0\r\nContent-Type: application/octet-stream\r\nContent-Length: 100000\r\n\r\n"
            )
            connection.sendall(head.encode() + b"a" * 40_000)
            time.sleep(0.3)
        until = time.monotonic() + 5
        while (offset := int(client.head(url).headers["upload-offset"])) == 0 and time.monotonic() < until:
            time.sleep(0.05)
        assert offset == 40_000
        assert _patch(client, url, offset, b"b" * 60_000).json()["complete"]
        assert _stored(site, url) == b"a" * 40_000 + b"b" * 60_000


def test_a_large_piece_is_stored_in_parts_as_it_comes(
    site: Site, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 50_000)
    data = bytes(range(250)) * 3200
    url = _begin(client, len(data))
    blocks = [data[at : at + 7000] for at in range(0, len(data), 7000)]
    answer = client.patch(url, content=iter(blocks), headers={**_BYTES, "Upload-Offset": "0"})
    assert answer.json()["complete"]
    prefix = "uploads/" + url.rpartition("/")[2]
    sizes = site.service.storage.files(prefix)
    assert len(sizes) > 3 and sum(sizes.values()) == len(data)
    assert _stored(site, url) == data


def test_two_writers_at_a_time_are_one_too_many(site: Site) -> None:
    key = site.key()
    with site.client(key) as client:
        url = _begin(client, 20)
        going = threading.Event()

        def slowly() -> object:
            yield b"0123456789"
            going.wait(5)
            yield b"abcdefghij"

        def send() -> None:
            with site.client(key) as first:
                first.patch(url, content=slowly(), headers={**_BYTES, "Upload-Offset": "0"})  # type: ignore[arg-type]

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(0.3)
        problem(_patch(client, url, 0, b"x" * 20), 409, "upload_in_use")
        going.set()
        thread.join()
        assert client.get(url).json()["complete"]
        assert _stored(site, url) == b"0123456789abcdefghij"


@pytest.mark.slow
def test_memory_stays_flat_however_large_the_upload(site: Site) -> None:
    """200 MB through the parser: no more than a few blocks are held. (By hand: 2 GB, below 300 MB.)"""
    import resource

    from tests.service.api.site import open_site

    block = bytes(1 << 20)

    def body() -> object:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.wav"\r\n\r\n'
        for _ in range(200):
            yield block
        yield b"\r\n--b--\r\n"

    with open_site(site.folder / "large", max_upload_bytes=1 << 30) as large, large.client() as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = client.post(
            "/v1/jobs",
            content=body(),  # type: ignore[arg-type]
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert answer.status_code == 202
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024


@given(name=st.text(max_size=600))
def test_a_clean_name_is_safe_whatever_was_sent(name: str) -> None:
    clean = clean_name(name)
    assert clean and len(clean) <= 255
    assert clean.isprintable()
    assert not set(clean) & set("/\\\0")
    assert clean not in (".", "..")
    assert clean_name(clean) == clean


def test_blocks_are_asked_for_with_patience() -> None:
    """The helper's own contract: a stalled stream ends in a problem, an ended one does not."""
    from fastapi import Request

    from stemwright.service.api.bodies import blocks
    from stemwright.service.api.problems import ProblemError

    async def stalled() -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    async def read() -> None:
        request = Request({"type": "http", "headers": []}, stalled)
        async with contextlib.aclosing(blocks(request, 0.05)) as stream:  # type: ignore[type-var]
            async for _ in stream:
                raise AssertionError

    with pytest.raises(ProblemError) as caught:
        asyncio.run(read())
    assert caught.value.code == "slow_client"
