"""Requests that wait for their job, with a worker that does it: separate, detect, health and metrics."""

import io
import json
import zipfile

import httpx
import pytest
import soundfile

from stemwright.service.cli.main import run
from tests.service.e2e.conftest import Live
from tests.support.paths import EXAMPLES
from tests.support.tiny_models import STEMS

pytestmark = pytest.mark.slow

_EXCERPT = EXAMPLES / "excerpt.opus"


def test_small_files_are_answered_in_one_exchange(simple: Live, capfd: pytest.CaptureFixture[str]) -> None:
    files = {"file": (_EXCERPT.name, _EXCERPT.read_bytes())}
    with httpx.Client(base_url=simple.url, timeout=60) as client:
        everything = client.post("/v1/separate", files=files)
        assert everything.status_code == 200, everything.text
        assert everything.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(everything.content)) as archive:
            assert archive.namelist() == [*(f"{stem}.wav" for stem in STEMS), "result.json"]
            drums = archive.read("drums.wav")
            seconds = json.loads(archive.read("result.json"))["seconds"]
        one = client.post("/v1/separate", files=files, data={"stems": "drums"}, headers={"Prefer": "wait=50"})
        assert one.headers["content-type"] == "audio/wav"
        assert one.headers["preference-applied"] == "wait=50"
        assert "excerpt - drums.wav" in one.headers["content-disposition"]
        assert one.content == drums
        assert soundfile.info(io.BytesIO(drums)).duration == pytest.approx(seconds)

        heard = client.post("/v1/detect", files=files, data={"top": "3"})
        assert heard.status_code == 200, heard.text
        assert run(["detect", str(_EXCERPT), "--top", "3", "--device", "cpu", "--json"]) == 0
        expected = json.loads(capfd.readouterr().out)
        assert heard.json() == {name: value for name, value in expected.items() if name != "input"}
        assert heard.json()["classes"][0]["name"] == "Music"

        bad = client.post("/v1/detect", files={"file": ("notes.txt", b"no audio at all")})
        assert (bad.status_code, bad.json()["code"]) == (422, "unusable_input")

        assert client.get("/health/ready").json()["checks"]["worker"] == "1 alive, cpu"
        lines = client.get("/metrics").text.splitlines()
        assert 'stemwright_jobs_ended_total{model="tiny",status="succeeded"} 2.0' in lines
        assert 'stemwright_job_failures_total{code="unusable_input"} 1.0' in lines
