"""Client and commands against `stemwright serve`: the same stems as on this machine, and nothing lost."""

import http.server
import io
import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from stemwright.core.audio.source import open_source
from stemwright.core.errors import InputError, ModelNotFoundError
from stemwright.service.cli.main import run
from stemwright.service.client import Event, Job, asynchronous
from stemwright.service.errors import NotFoundError
from stemwright.service.media.peaks import Peaks, compute_peaks
from stemwright.service.webhooks.signing import verify
from tests.service.e2e.conftest import WEBHOOK_SECRET, Live
from tests.service.recordings import recording
from tests.support.tiny_models import STEMS
from tests.support.tiny_taggers import install_tiny_asked_model, install_tiny_tagger

pytestmark = pytest.mark.slow


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return recording(tmp_path / "music" / "Sóng (live).wav", 3 * 44_100 * 4)


def here(live: Live, song: Path, out: Path, *options: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Separate with the command, on this machine."""
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(live.settings.models_dir))
    assert run(["separate", str(song), "-m", "tiny", "--device", "cpu", "-o", str(out), *options]) == 0
    return out / song.stem


def test_a_job_from_its_file_to_its_stems(
    live: Live, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    monkeypatch.setattr(asynchronous, "SMALL_BYTES", 1000)  # in pieces
    with live.client() as client:
        job = client.wait(client.submit(song, format="flac").id, events.append)
        assert job.status == "succeeded", job.error
        paths = client.download(job, tmp_path / "there")
        expected = here(live, song, tmp_path / "here", "--format", "flac", monkeypatch=monkeypatch)
        assert [path.name for path in paths] == [f"{stem}.flac" for stem in STEMS]
        for path in paths:
            assert path.read_bytes() == (expected / path.name).read_bytes(), path.name
        check_events(events)
        check_media(live, job, paths[0])
        client.delete(job.id)
        with pytest.raises(NotFoundError):
            client.get(job.id)
        assert live.stored("jobs") == []
        assert live.stored("uploads") == []
    assert live.stop() == 0
    live.start()


def check_events(events: list[Event]) -> None:
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert events[-1].final
    assert {"separate", "publish"} <= {event.stage for event in events}


def check_media(live: Live, job: Job, path: Path) -> None:
    """Archive, waveform and pieces are those of the stem."""
    with httpx.Client(base_url=f"{live.url}/v1/jobs/{job.id}", timeout=60) as plain:
        archive = zipfile.ZipFile(io.BytesIO(plain.get("/archive.zip").content))
        assert archive.testzip() is None
        assert archive.read(path.name) == path.read_bytes()
        with open_source(path) as source:
            expected = compute_peaks(source)
        stem = path.stem
        peaks = Peaks.from_bytes(plain.get(f"/peaks/{stem}", params={"form": "binary"}).content)
        assert peaks.to_bytes() == expected.to_bytes()
        whole, _ = soundfile.read(path, dtype="int16")
        facts = plain.get(f"/preview/{stem}").json()
        pieces = [
            soundfile.read(io.BytesIO(plain.get(f"/preview/{stem}/{index}").content), dtype="int16")[0]
            for index in range(facts["pieces"])
        ]
        assert len(pieces) == 2
        assert np.array_equal(np.concatenate(pieces), whole)


def test_bad_recordings_and_wishes_are_told_and_leave_nothing(
    simple: Live, song: Path, tmp_path: Path
) -> None:
    live = simple
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(b"no audio at all " * 1000)
    with live.client() as client:
        job = client.wait(client.submit(bad).id)
        assert job.status == "failed"
        assert isinstance(job.error, InputError)
        assert "bad.mp3" in job.error.message
        client.delete(job.id)
        for options, word in (
            ({"model": "nope"}, "tiny"),
            ({"stems": ["piano"]}, "drums"),
            ({"format": "xyz"}, "wav"),
        ):
            with pytest.raises(Exception, match=r"(?i)model|stem|format") as caught:
                client.submit(song, **options)
            assert word in f"{caught.value} {getattr(caught.value, 'remedy', '')}"
    assert live.stored("uploads") == []
    assert live.stored("jobs") == []


def test_everything_killed_in_the_middle_is_gone_on_with(live: Live, tmp_path: Path) -> None:
    song = recording(tmp_path / "long.wav", 60 * 44_100)
    seen: list[Event] = []
    began = threading.Event()

    def watch(event: Event) -> None:
        seen.append(event)
        if event.stage == "separate":
            began.set()

    with live.client() as client:
        job_id = client.submit(song, format="flac").id
        ended: list[Job] = []
        thread = threading.Thread(target=lambda: ended.append(client.wait(job_id, watch)))
        thread.start()
        assert began.wait(60), live.log()
        live.kill()
        live.start()
        thread.join(120)
        assert ended and ended[0].status == "succeeded", live.log()
        assert [event.final for event in seen].count(True) == 1
        assert len(client.download(ended[0], tmp_path / "out")) == len(STEMS)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes webhooks."""

    heard: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.heard.append((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_webhook_tells_the_end_of_a_job(simple: Live, song: Path) -> None:
    live = simple
    Receiver.heard = []
    with http.server.HTTPServer(("127.0.0.1", 0), Receiver) as server, live.client() as client:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        job = client.submit(song, webhook_url=f"http://127.0.0.1:{server.server_port}/hook")
        live.until(lambda: Receiver.heard)
        server.shutdown()
        ((headers, body),) = Receiver.heard
        assert verify(WEBHOOK_SECRET, headers, body).startswith(job.id)
        assert json.loads(body)["type"] == "job.succeeded"
        with pytest.raises(Exception, match="not a public address"):
            client.submit(song, webhook_url="https://169.254.169.254/latest")


def test_commands_give_what_they_give_without_a_service(
    simple: Live,
    song: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    live = simple
    expected = here(live, song, tmp_path / "here", monkeypatch=monkeypatch)
    out = tmp_path / "there"
    assert run(["submit", str(song), "--server", live.url, "-o", str(out), "--json"]) == 0
    told = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert told["outcome"] == "done"
    assert_same(expected, out / song.stem)
    assert run(["submit", str(song), "--server", live.url, "-o", str(out)]) == 2
    for number in range(3):
        os.link(song, song.parent / f"{number}.wav")
    batch = ["batch", str(song.parent), "-m", "tiny", "-o", str(tmp_path / "batch"), "--server", live.url]
    assert run(batch) == 0
    assert_same(expected, tmp_path / "batch" / song.stem)
    capfd.readouterr()
    assert run([*batch, "--resume"]) == 0
    assert "4 skipped" in capfd.readouterr().out
    (tmp_path / "batch" / "1" / "drums.wav").unlink()
    assert run([*batch, "--resume"]) == 0
    assert "1 done, 3 skipped" in capfd.readouterr().out
    assert_same(expected, tmp_path / "batch" / "1")
    with live.client() as client:
        assert not list(client.jobs())


def assert_same(expected: Path, found: Path) -> None:
    for stem in STEMS:
        assert (expected / f"{stem}.wav").read_bytes() == (found / f"{stem}.wav").read_bytes()
    mine, theirs = (json.loads((folder / "result.json").read_text()) for folder in (expected, found))
    for key in ("files", "gain", "peak", "seconds", "clip_mode", "models"):
        assert mine[key] == theirs[key], key


def test_batch_that_is_killed_goes_on_with_its_jobs(
    simple: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    live = simple
    folder = tmp_path / "songs"
    for number in range(3):
        recording(folder / f"{number}.wav", 44_100, seed=number)
    command = ["batch", str(folder), "-m", "tiny", "-o", str(tmp_path / "out"), "--server", live.url]
    with monkeypatch.context() as patch:
        patch.setattr("stemwright.service.remote.fetching", _interrupt)
        assert run([*command, "--workers", "3"]) == 130
    with live.client() as client:
        before = {job.id for job in client.jobs()}
        assert before
        live.until(lambda: all(job.final for job in client.jobs()))
        assert run([*command, "--resume"]) == 0
        assert "3 done" in capfd.readouterr().out
        assert not list(client.jobs())  # the same jobs, fetched and removed, and no others


def test_batch_asks_the_service_for_sounds(
    simple: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    live = simple
    install_tiny_tagger(live.settings.models_dir, "ears")
    install_tiny_asked_model(live.settings.models_dir, "asked")
    folder = tmp_path / "songs"
    for number in range(2):
        recording(folder / f"{number}.wav", 44_100, seed=number)
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(live.settings.models_dir))
    command = ["batch", str(folder), "-m", "asked", "--query", "Dog", "--query", "cat", "--residual"]
    assert run([*command, "--device", "cpu", "-o", str(tmp_path / "here")]) == 0
    there = [*command, "--server", live.url, "-o", str(tmp_path / "there")]
    assert run(there) == 0
    for path in (tmp_path / "here").glob("*/*.wav"):
        other = tmp_path / "there" / path.relative_to(tmp_path / "here")
        assert path.read_bytes() == other.read_bytes(), path
    assert {path.stem for path in (tmp_path / "there" / "1").glob("*.wav")} == {"dog", "cat", "residual"}
    assert run([*there, "--resume"]) == 0
    assert "2 skipped" in capfd.readouterr().out
    for wrong, reason in (
        (["-m", "asked"], "asked separates what it is asked for"),
        (["-m", "asked", "--query", "no such sound at all"], "no such sound at all"),
        (["-m", "tiny", "--query", "Dog"], "takes no queries"),
    ):
        line = ["batch", str(folder), *wrong, "--server", live.url, "-o", str(tmp_path / "none")]
        assert run(line) == 2
        assert reason in capfd.readouterr().err


def _interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_folder_for_a_model_that_the_service_lacks(simple: Live, song: Path, tmp_path: Path) -> None:
    live = simple
    with live.client() as client:
        assert "tiny" in [model.name for model in client.models()]
    command = ["batch", str(song.parent), "-m", "nope", "-o", str(tmp_path / "out"), "--server", live.url]
    assert run(command) == ModelNotFoundError.exit_code
