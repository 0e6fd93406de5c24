"""The stage `evaluate`, done by a worker's process: its numbers are those of the stems and the true ones."""

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from stemwright.eval.signal_metrics import sdr, si_sdr
from stemwright.service.jobs.model import JobSpec, JobStatus, ScoreWish
from stemwright.service.storage import upload_part_key
from tests.service.jobs.service import CHUNK, Service
from tests.support.paths import shared
from tests.support.servers import Backend

pytestmark = pytest.mark.slow
Samples = npt.NDArray[np.float64]
METRICS = ("sdr", "si-sdr")


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Service]:
    with Service.open(tmp_path, Backend(name="sqlite+folder", settings={})) as opened:
        yield opened


def _wav(samples: Samples) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, 44100, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def _read(data: bytes) -> Samples:
    samples: Samples = soundfile.read(io.BytesIO(data), dtype="float64", always_2d=True)[0]
    return samples.T


def _song(seed: int = 0) -> dict[str, Samples]:
    generator = np.random.default_rng(seed)
    return {name: 0.1 * generator.standard_normal((30 * CHUNK, 2)) for name in ("vocals", "other")}


def test_stems_are_scored_where_they_were_made_and_afterwards(sqlite: Service) -> None:
    service, song = sqlite, _song()
    true = {name: service.upload(_wav(samples)) for name, samples in song.items()}
    recording = service.upload(_wav(sum(song.values(), np.zeros((30 * CHUNK, 2)))))
    spec = JobSpec(
        model="slow-0", evaluate=True, references=true, metrics=METRICS, residual=True, bit_depth="32f"
    )
    separating = service.do(service.board.submit(spec, owner="local", upload_id=recording)).job.id
    service.ready_worker()
    view = service.wait(separating)
    assert view.status is JobStatus.succeeded, view.error
    assert view.result is not None
    evaluation = view.result["evaluation"]
    assert [metric["name"] for metric in evaluation["metrics"]] == list(METRICS)
    assert evaluation["notes"] == ["residual is not scored: there is no reference"]
    for name, samples in song.items():
        found, reference = _read(service.stem(view, name)), samples.T.astype(np.float32).astype(float)
        values = evaluation["stems"][name]["values"]
        assert values["SDR_song"] == pytest.approx(sdr(reference, found), abs=1e-6)
        assert values["SI-SDR"] == pytest.approx(si_sdr(reference, found), abs=1e-6)
    assert service.board.storage.folders("uploads") == ()  # recording and true stems go together

    again = {name: service.upload(_wav(samples)) for name, samples in song.items()}
    wish = ScoreWish(references=again, job_id=separating, metrics=METRICS)
    scoring = service.do(
        service.board.submit(JobSpec(model="evaluation", score=wish), owner="local", upload_id=wish.first)
    ).job.id
    scored = service.wait(scoring)
    assert scored.status is JobStatus.succeeded, scored.error
    assert scored.result is not None and scored.stems == ()
    assert {name: stem["values"] for name, stem in scored.result["stems"].items()} == {
        name: stem["values"] for name, stem in evaluation["stems"].items()
    }
    assert "the mixture is the sum of the references" in scored.result["notes"]


def test_a_stem_file_of_musdb_carries_its_true_stems(sqlite: Service) -> None:
    service = sqlite
    (path,) = shared("data", "fixtures", "musdb_7s_sample").glob("train/*.stem.mp4")
    upload = service.upload(path.read_bytes())
    estimates = {"vocals": service.upload(_wav(np.zeros((300_032, 2)) + 1e-3))}
    service.ready_worker()
    spec = JobSpec(model="slow-0", evaluate=True, metrics=("sdr",))
    job = service.do(service.board.submit(spec, owner="local", upload_id=upload)).job.id
    view = service.wait(job)
    assert view.status is JobStatus.succeeded and view.result is not None, view.error
    assert set(view.result["evaluation"]["stems"]) == {"vocals", "other"}
    assert "drums is not scored: there is no estimate" in view.result["evaluation"]["notes"]

    wish = ScoreWish(stem_mp4=service.upload(path.read_bytes()), estimates=estimates, metrics=("sdri",))
    job = service.do(
        service.board.submit(JobSpec(model="evaluation", score=wish), owner="local", upload_id=wish.first)
    ).job.id
    view = service.wait(job)
    assert view.status is JobStatus.succeeded and view.result is not None, view.error
    assert list(view.result["stems"]) == ["vocals"]


def test_what_cannot_be_scored_fails_before_it_is_separated(sqlite: Service) -> None:
    service, song = sqlite, _song()
    recording = _wav(song["vocals"])
    narrow = io.BytesIO()
    soundfile.write(narrow, song["vocals"], 22050, format="WAV")
    cases = {
        "holds no true stems": JobSpec(model="slow-0", evaluate=True),
        "has 22050 Hz": JobSpec(
            model="slow-0", evaluate=True, references={"vocals": service.upload(narrow.getvalue())}
        ),
        "is not audio": JobSpec(
            model="slow-0", evaluate=True, references={"vocals": service.upload(b"x" * 500)}
        ),
    }
    service.ready_worker()
    for message, spec in cases.items():
        job = service.do(
            service.board.submit(spec, owner="local", upload_id=service.upload(recording))
        ).job.id
        view = service.wait(job)
        assert (view.status, view.stage) == (JobStatus.failed, "probe")
        assert view.error is not None and view.error.code == "unusable_input"
        assert message in view.error.message or message == "is not audio", view.error


def test_a_retry_scores_again_what_is_separated_already(sqlite: Service) -> None:
    service, song = sqlite, _song()
    true = {"vocals": service.upload(_wav(np.concatenate([song["vocals"]] * 3)))}  # too long, by its samples
    spec = JobSpec(model="slow-0", evaluate=True, references=true, metrics=METRICS)
    upload = service.upload(_wav(song["vocals"]))
    job = service.do(service.board.submit(spec, owner="local", upload_id=upload)).job.id
    service.ready_worker()
    view = service.wait(job)
    assert (view.status, view.stage) == (JobStatus.failed, "evaluate")
    assert view.error is not None and "s longer than" in view.error.message
    made = service.attempts(job)
    assert len(made) == 1
    key = upload_part_key(true["vocals"], 0)
    service.board.storage.write_bytes(key, _wav(song["vocals"]))
    service.do(service.board.retry(job, owner="local"))
    view = service.wait(job)
    assert (view.status, view.attempt) == (JobStatus.succeeded, 2), view.error
    assert service.attempts(job) == made
    assert view.result is not None and set(view.result["evaluation"]["stems"]) == {"vocals"}
    assert len(_read(service.stem(view, "vocals"))) == 2


def test_a_worker_that_dies_while_it_scores_leaves_its_stems_to_the_next(sqlite: Service) -> None:
    service = sqlite
    generator = np.random.default_rng(3)
    song = {name: 0.1 * generator.standard_normal((44100 * 60, 2)) for name in ("vocals", "other")}
    true = {name: service.upload(_wav(samples)) for name, samples in song.items()}
    recording = service.upload(_wav(song["vocals"] + song["other"]))
    spec = JobSpec(model="slow-0", evaluate=True, references=true, metrics=("bsseval",))
    job = service.do(service.board.submit(spec, owner="local", upload_id=recording)).job.id
    service.ready_worker()
    service.wait_for_stage(job, "evaluate", fraction=0.81)
    made = service.attempts(job)
    os.kill(service.process_of(job).pid, signal.SIGKILL)
    service.ready_worker()
    view = service.wait(job)
    assert view.status is JobStatus.succeeded and view.result is not None, view.error
    assert view.attempt == 2
    assert service.attempts(job) == made
    assert len(view.result["evaluation"]["stems"]["vocals"]["frames"]["SDR"]) == 60
