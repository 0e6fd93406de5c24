"""Files of finished jobs: ranges against slicing, conditions, names, zips, overviews and pieces."""

import io
import json
import urllib.parse
import zipfile

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from stemwright.service.api.problems import ProblemError
from stemwright.service.api.ranges import chosen_range, content_disposition
from tests.service.api.site import WAV, Site, problem

DATA = bytes(range(256)) * 40


def _job(site: Site, client: httpx.Client, name: str = "song.wav", **stems: bytes) -> str:
    job = str(client.post("/v1/jobs", files={"file": (name, WAV)}).json()["id"])
    site.finish(job, stems or {"vocals": DATA, "no_vocals": DATA[::-1]})
    return f"/v1/jobs/{job}"


@pytest.fixture
def url(site: Site, client: httpx.Client) -> str:
    return _job(site, client)


def test_a_stem_comes_whole_by_its_name_or_its_files(client: httpx.Client, url: str) -> None:
    for name in ("vocals", "vocals.wav"):
        answer = client.get(f"{url}/stems/{name}")
        assert answer.status_code == 200
        assert answer.content == DATA
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.headers["content-length"] == str(len(DATA))


def test_a_head_tells_all_but_the_bytes(client: httpx.Client, url: str) -> None:
    whole, head = client.get(f"{url}/stems/vocals"), client.head(f"{url}/stems/vocals")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-type", "content-disposition", "accept-ranges"):
        assert head.headers[name] == whole.headers[name]
    part = client.head(f"{url}/stems/vocals", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, len(DATA)),
        ("bytes=-1", len(DATA) - 1, len(DATA)),
        ("bytes=-500", len(DATA) - 500, len(DATA)),
        ("bytes=-999999", 0, len(DATA)),
        ("bytes=10-999999", 10, len(DATA)),
        (" BYTES = 5-9 ", 5, 10),
        ("bytes=0-9,10-19", 0, 20),  # several that join
        ("bytes=5-19, 0-9", 0, 20),
        ("bytes=0-9,999999-", 0, 10),
    ],
)
def test_ranges_are_slices(client: httpx.Client, url: str, header: str, start: int, end: int) -> None:
    answer = client.get(f"{url}/stems/vocals", headers={"Range": header.strip()})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize(
    "header", ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-5", "items=0-5", "bytes=0-9,20-29"]
)
def test_a_range_that_cannot_be_read_or_sent_as_one_gives_the_whole(
    client: httpx.Client, url: str, header: str
) -> None:
    answer = client.get(f"{url}/stems/vocals", headers={"Range": header})
    assert (answer.status_code, len(answer.content)) == (200, len(DATA))


@pytest.mark.parametrize("header", [f"bytes={len(DATA)}-", "bytes=999999-9999999", "bytes=-0"])
def test_a_range_outside_is_416(client: httpx.Client, url: str, header: str) -> None:
    answer = client.get(f"{url}/stems/vocals", headers={"Range": header})
    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


@given(header=st.text(alphabet="bytes=0123456789-, ", max_size=30), size=st.integers(1, 50))
def test_any_range_is_inside_the_file(header: str, size: int) -> None:
    try:
        chosen = chosen_range(header, size)
    except ProblemError as error:
        assert error.status == 416
        return
    assert chosen is None or 0 <= chosen[0] < chosen[1] <= size


def test_conditions(client: httpx.Client, url: str) -> None:
    path = f"{url}/stems/vocals"
    etag = client.get(path).headers["etag"]
    assert etag.startswith('"') and etag != client.get(f"{url}/stems/no_vocals").headers["etag"]
    for tags in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        answer = client.get(path, headers={"If-None-Match": tags})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    assert client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    part = {"Range": "bytes=0-9"}
    assert client.get(path, headers={**part, "If-Range": etag}).status_code == 206
    for changed in ('"x"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert client.get(path, headers={**part, "If-Range": changed}).status_code == 200


@pytest.mark.parametrize("name", ['a"b.wav', "Ünï 音.wav", "a;b,c.wav", "50%.wav", "plain.wav"])
def test_names_of_files_survive_the_header(site: Site, client: httpx.Client, name: str) -> None:
    url = _job(site, client, name)
    stem = name.removesuffix(".wav")
    inline = client.get(f"{url}/stems/vocals").headers["content-disposition"]
    saved = client.get(f"{url}/stems/vocals?disposition=attachment").headers["content-disposition"]
    assert inline.startswith("inline; ") and saved.startswith("attachment; ")
    assert saved.isascii()
    if "filename*=" in saved:
        sent = urllib.parse.unquote(saved.partition("filename*=UTF-8''")[2])
    else:
        sent = saved.partition('filename="')[2].removesuffix('"')
    if '"' not in name:  # clients escape it each in its own way
        assert sent == f"{stem} - vocals.wav"
    problem(client.get(f"{url}/stems/vocals?disposition=none"), 422, "invalid")


@given(name=st.text(min_size=1, max_size=100).filter(lambda text: text.isprintable()))
def test_a_disposition_is_one_header_of_ascii(name: str) -> None:
    header = content_disposition(name, "attachment")
    assert header.isascii() and header.isprintable()
    if "filename*=" in header:
        assert urllib.parse.unquote(header.partition("filename*=UTF-8''")[2]) == name


def test_an_unknown_stem_names_the_known(client: httpx.Client, url: str) -> None:
    body = problem(client.get(f"{url}/stems/piano"), 404, "stem_not_found")
    assert body["remedy"] == "it has vocals, no_vocals"
    for name in ("..%2f..%2fresult%2fresult.json", "%2e%2e", "vocals%00"):
        assert client.get(f"{url}/stems/{name}").status_code in (404, 422)


def test_a_stem_that_vanished_is_an_answer(site: Site, client: httpx.Client, url: str) -> None:
    site.service.storage.delete_tree(url.removeprefix("/v1/") + "/separate")
    problem(client.get(f"{url}/stems/vocals"), 404, "not_found")
    problem(client.get(f"{url}/archive.zip"), 404, "not_found")


def test_the_archive_is_a_whole_zip_of_the_told_size(client: httpx.Client, url: str) -> None:
    with client.stream("GET", f"{url}/archive.zip") as answer:
        assert answer.headers["content-type"] == "application/zip"
        assert answer.headers["content-disposition"] == 'attachment; filename="song.zip"'
        body = answer.read()
    assert len(body) == int(answer.headers["content-length"])
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["vocals.wav", "no_vocals.wav", "result.json"]
        assert archive.read("vocals.wav") == DATA
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert json.loads(archive.read("result.json"))["seconds"] == 2.0


def _wav(samples: np.ndarray, subtype: str = "PCM_16") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, 8000, subtype=subtype, format="WAV")
    return out.getvalue()


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.round(rng.uniform(-0.9, 0.9, (8000 * 25, 2)) * 32767) / 32768


@pytest.fixture(scope="module")
def sounding(site: Site, noise: np.ndarray) -> tuple[str, str]:
    key = site.key()
    with site.client(key) as client:
        return key, _job(site, client, vocals=_wav(noise))


@pytest.mark.slow
def test_pieces_join_to_the_stem(site: Site, sounding: tuple[str, str], noise: np.ndarray) -> None:
    key, url = sounding
    with site.client(key) as client:
        facts = client.get(f"{url}/preview/vocals").json()
        assert (facts["frames"], facts["pieces"], facts["piece_frames"]) == (200_000, 3, 80_000)
        for form in ("wav", "flac"):
            pieces = []
            for index in range(facts["pieces"]):
                answer = client.get(f"{url}/preview/vocals/{index}", params={"form": form})
                assert answer.headers["content-type"] == f"audio/{form}"
                pieces.append(soundfile.read(io.BytesIO(answer.content))[0])
            np.testing.assert_array_equal(np.concatenate(pieces), noise)
        part = client.get(f"{url}/preview/vocals/0", headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, b"RIFF")
        problem(client.get(f"{url}/preview/vocals/3"), 404, "not_found")
        problem(client.get(f"{url}/preview/vocals/-1"), 422, "invalid")
        problem(client.get(f"{url}/preview/vocals/x"), 422, "invalid")


def test_peaks_hold_the_waveform(site: Site, sounding: tuple[str, str], noise: np.ndarray) -> None:
    key, url = sounding
    with site.client(key) as client:
        answer = client.get(f"{url}/peaks/vocals", params={"bins": 1})
        body = answer.json()
        assert (body["sample_rate"], body["channels"], body["frames"]) == (8000, 2, 200_000)
        assert body["samples_per_bin"] == body["zooms"][-1]
        for channel in range(2):
            for bin_, (least, greatest) in enumerate(
                zip(body["min"][channel], body["max"][channel], strict=True)
            ):
                size = body["samples_per_bin"]
                part = noise[bin_ * size : (bin_ + 1) * size, channel]
                assert abs(least - part.min()) < 1e-4
                assert abs(greatest - part.max()) < 1e-4
        etag = answer.headers["etag"]
        again = client.get(f"{url}/peaks/vocals", params={"bins": 1}, headers={"If-None-Match": etag})
        assert again.status_code == 304
        assert client.get(f"{url}/peaks/vocals", params={"form": "binary"}).content[:4] == b"SWPK"
        problem(client.get(f"{url}/peaks/vocals", params={"bins": 0}), 422, "invalid")
        problem(client.get(f"{url}/peaks/drums"), 404, "stem_not_found")


@pytest.mark.slow
def test_the_process_beside_comes_back_when_it_dies(site: Site, sounding: tuple[str, str]) -> None:
    import os
    import signal

    key, url = sounding
    with site.client(key) as client:
        assert client.get(f"{url}/preview/vocals").status_code == 200
        pool = site.service.side._pool
        assert pool is not None
        for process in list((pool._processes or {}).values()):
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        answers = [client.get(f"{url}/preview/vocals").status_code for _ in range(3)]
        assert answers[-1] == 200
        assert set(answers) <= {200, 503}
