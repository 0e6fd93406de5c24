"""Jobs through workers' processes: to the stems, and through the deaths of workers."""

import asyncio
import io
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.arrays import FloatArray
from stemwright.service.jobs.model import JobSpec, JobStatus, ProgressEvent
from stemwright.service.jobs.truth import open_client
from tests.service.jobs.service import CHUNK, Service, recording
from tests.support.servers import Backend
from tests.support.stub_worker import GAINS

pytestmark = pytest.mark.slow


def test_a_job_succeeds_and_leaves_only_its_result(service: Service) -> None:
    job = service.submit("slow-20", chunks=5, format="wav", bit_depth="32f")
    assert service.worker("--once").wait() == 0
    view = service.job(job)
    assert view.status == JobStatus.succeeded, service.logs()
    assert (view.stage, view.fraction, view.attempt) == ("publish", 1.0, 1)
    assert view.duration_s == pytest.approx(5 * CHUNK / 44100)
    assert view.result is not None
    assert view.result["input"]["frames"] == 5 * CHUNK
    source = _samples(recording(5))
    for stem, gain in zip(view.stems, GAINS, strict=True):
        data = service.board.storage.read_bytes(stem.key)
        assert len(data) == stem.size
        np.testing.assert_allclose(_samples(data), source * gain, atol=2e-7)
    assert service.board.storage.folders("uploads") == ()
    assert service.attempts(job) == (view.stems[0].key.split("/")[3],)
    assert list((service.settings.data_dir / "storage" / ".aside").glob("*")) == []


def test_a_fault_fails_the_job_and_not_the_worker(service: Service) -> None:
    broken, bad = service.submit("broken-10"), _submit_noise(service)
    good = service.submit("slow-10")
    assert service.worker("--once").wait() == 0
    failed, unusable = service.job(broken), service.job(bad)
    assert failed.error is not None and unusable.error is not None
    assert (failed.status, failed.error.code) == (JobStatus.failed, "internal_error"), service.logs()
    assert "a fault that nobody foresaw" in failed.error.message
    assert (unusable.status, unusable.error.code) == (JobStatus.failed, "unusable_input")
    assert service.job(good).status == JobStatus.succeeded
    assert service.attempts(broken) == ()
    log = [json.loads(line) for line in (service.folder / "worker-0.log").read_text().splitlines()]
    told = {job: [line for line in log if line.get("job_id") == job] for job in (broken, bad, good)}
    (ours,), (theirs,), (fine,) = told.values()
    assert "a fault that nobody foresaw" in ours["traceback"]
    assert unusable.error.remedy and unusable.error.remedy in theirs["message"]
    assert [line for line in log if "traceback" in line] == [ours]
    assert "succeeded" in fine["message"]


def test_a_killed_worker_s_job_goes_on_behind_the_last_finished_stage(service: Service) -> None:
    for _ in range(2):
        service.ready_worker()
    job = service.submit("slow-300", chunks=10)
    service.wait_for_stage(job, "separate", fraction=0.1)
    service.process_of(job).kill()
    killed = time.monotonic()
    service.until(lambda: service.row(job)["attempt"] == 2)
    assert time.monotonic() - killed < 30.0  # 2 s of silence, and what a busy machine adds
    view = service.wait(job)
    assert view.status == JobStatus.succeeded, service.logs()
    assert _executors_of_steps(service, job) == {"probe": 1, "separate": 2, "publish": 2}
    assert len(service.attempts(job)) == 1


def test_a_worker_that_was_only_asleep_is_fenced_off(service: Service) -> None:
    workers = [service.ready_worker(), service.ready_worker()]
    job = service.submit("slow-300", chunks=10)
    service.wait_for_stage(job, "separate", fraction=0.1)
    zombie = service.process_of(job)
    (other,) = [worker for worker in workers if worker is not zombie]
    zombie.send_signal(signal.SIGSTOP)
    service.until(lambda: service.row(job)["attempt"] == 2)
    zombie.send_signal(signal.SIGCONT)
    view = service.wait(job)
    assert (view.status, view.attempt) == (JobStatus.succeeded, 2), service.logs()
    assert len(service.attempts(job)) == 1
    after = service.submit("slow-10")  # both still work
    other.terminate()
    assert other.wait(60) == 0
    assert service.wait(after).status == JobStatus.succeeded, service.logs()


def test_a_job_that_kills_its_workers_fails_at_the_third(service: Service) -> None:
    poison = service.submit("poison-100", chunks=6)
    for _ in range(3):
        worker = service.worker()
        assert worker.wait(60) == -signal.SIGKILL, service.logs()
    innocent = service.submit("slow-10")
    service.worker()
    view = service.wait(poison)
    assert view.error is not None
    assert (view.status, view.error.code, view.attempt) == (JobStatus.failed, "worker_lost", 3)
    assert "3 workers" in view.error.message and "separate" in view.error.message
    assert service.wait(innocent).status == JobStatus.succeeded


def test_sigterm_finishes_a_short_job(service: Service) -> None:
    worker = service.ready_worker()
    job = service.submit("slow-300", chunks=6)
    service.wait_for_stage(job, "separate")
    worker.terminate()
    assert worker.wait(60) == 0
    assert service.job(job).status == JobStatus.succeeded, service.logs()
    assert service.do(service.board.workers()) == ()


def test_sigterm_hands_a_long_job_back(backend: Backend, tmp_path: Path) -> None:
    with Service.open(tmp_path, backend, grace_s=1.0, dead_after_s=600.0) as service:
        job = service.submit("slow-400", chunks=200)
        for _ in range(2):
            service.ready_worker()
        service.wait_for_stage(job, "separate", fraction=0.02)
        worker = service.process_of(job)
        worker.terminate()
        # It is taken over long before its worker would count as dead.
        service.until(lambda: service.row(job)["attempt"] == 2)
        assert worker.wait(30) == 0
        service.do(service.board.cancel(job, owner="local"))
        assert len(service.do(service.board.workers())) == 1


def test_a_running_job_is_cancelled_within_a_chunk(service: Service) -> None:
    job = service.submit("slow-200", chunks=100)
    service.worker()
    service.wait_for_stage(job, "separate", fraction=0.02)
    assert service.do(service.board.cancel(job, owner="local")).status == JobStatus.cancelled
    after = service.submit("slow-0")  # the cancelled one would go on for 20 s
    cancelled = time.monotonic()
    service.until(lambda: service.row(after)["attempt"] == 1)
    assert time.monotonic() - cancelled < 10.0
    assert service.wait(after).status == JobStatus.succeeded, service.logs()
    assert service.job(job).status == JobStatus.cancelled
    assert service.attempts(job) == ()


def test_a_cancelled_job_is_retried_behind_its_last_finished_stage(service: Service) -> None:
    job = service.submit("slow-150", chunks=10)
    service.worker()
    service.wait_for_stage(job, "separate", fraction=0.1)
    service.do(service.board.cancel(job, owner="local"))
    assert service.do(service.board.retry(job, owner="local")).status == JobStatus.queued
    view = service.wait(job)
    assert (view.status, view.attempt) == (JobStatus.succeeded, 2), service.logs()
    assert _executors_of_steps(service, job) == {"probe": 1, "separate": 2, "publish": 2}


def test_a_running_job_is_deleted_with_all_its_files(service: Service) -> None:
    job = service.submit("slow-200", chunks=30)
    service.worker()
    service.wait_for_stage(job, "separate", fraction=0.05)
    service.do(service.board.delete(job, owner="local"))
    after = service.submit("slow-0")
    assert service.wait(after).status == JobStatus.succeeded, service.logs()
    assert service.board.storage.folders("jobs") == (after,)
    service.until(lambda: service.board.storage.folders("uploads") == ())


def test_workers_leave_jobs_of_other_versions_alone(service: Service) -> None:
    client = open_client(service.board.database, listen=False)
    try:
        other = service.submit("slow-0")
        with service.board.database.writing() as connection:
            connection.exec_driver_sql(
                f"UPDATE {'' if service.board.database.is_sqlite else 'dbos.'}workflow_status"
                f" SET application_version = 'jobs-0' WHERE workflow_uuid = '{other}'"
            )
        mine = service.submit("slow-0")
        service.worker()
        assert service.wait(mine).status == JobStatus.succeeded, service.logs()
        assert service.job(other).status == JobStatus.queued
    finally:
        client.destroy()


def test_owners_take_turns(service: Service) -> None:
    many = [service.submit(owner="many") for _ in range(16)]
    one = service.submit(owner="one")
    service.board.storage.delete_tree("uploads")  # so that each job ends at once
    assert service.worker("--once").wait() == 0
    ended = service.job(one, "one").finished
    last = max(found for job in many if (found := service.job(job, "many").finished) is not None)
    assert ended is not None
    assert ended < last  # behind all sixteen by turns at random: once in 65 536


def _submit_noise(service: Service) -> str:
    upload = service.upload(b"this is no recording" * 50)
    submitted = service.do(service.board.submit(JobSpec(model="slow-0"), owner="local", upload_id=upload))
    return submitted.job.id


def _executors_of_steps(service: Service, job: str) -> dict[str, int]:
    """Number of the attempt that did each stage, by what it told."""

    async def told() -> list[tuple[str | None, int]]:
        return [(event.stage, event.attempt) async for event in service.board.events(job, owner="local")]

    return {stage: attempt for stage, attempt in service.do(told()) if stage is not None}


def _samples(data: bytes) -> FloatArray:
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 44100
    return np.asarray(samples)


def test_the_database_restarts_and_nobody_loses_anything(service: Service) -> None:
    server = service.backend.postgres
    if server is None:
        return  # SQLite is a file: there is nothing to restart
    service.ready_worker()
    job = service.submit("slow-500", chunks=12)
    service.wait_for_stage(job, "separate", fraction=0.1)

    async def follow() -> list[ProgressEvent]:
        return [event async for event in service.board.events(job, owner="local")]

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(asyncio.run, follow())
        time.sleep(1.0)
        server.stop()
        time.sleep(2.0)
        server.start()
        events = following.result(90)
    assert events[-1].final
    assert events[-1].status == JobStatus.succeeded, service.logs()
    numbers = [int(event.id.removesuffix("-end")) for event in events]
    assert numbers[:-1] == list(range(len(events) - 1))  # each once, in order
    assert service.job(job).attempt == 1
