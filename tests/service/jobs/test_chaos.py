"""Workers killed at random until all jobs are done: each succeeds once, bit for bit, and leaves no orphan."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from stemwright.service.errors import BusyError
from stemwright.service.jobs.model import JobSpec, JobStatus
from stemwright.service.jobs.supervisor import Supervisor
from stemwright.service.jobs.sweeper import Sweeper
from stemwright.service.jobs.truth import open_client
from tests.service.jobs.service import Service, recording
from tests.support.paths import ROOT
from tests.support.servers import Backend

STUB = (sys.executable, "-m", "tests.support.stub_worker")
RECORDINGS = 3
STAGES = ["probe", "separate", "publish"]


@pytest.mark.slow
def test_kills_cost_no_job(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with Service.open(tmp_path, backend, max_attempts=20, dead_after_s=2.0) as service:
        kills, _, _ = _chaos(service, jobs=6, kill_every_s=(1.0, 3.0), most_kills=4)
    assert kills >= 2


@pytest.mark.long
@pytest.mark.timeout(0)  # its own limit follows from how busy the machine is
def test_thirty_jobs_survive_a_kill_every_few_seconds(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    settings = {"max_attempts": 50, "heartbeat_s": 1.0, "dead_after_s": 5.0}
    with Service.open(tmp_path, backend, **settings) as service:
        kills, seconds, slowest = _chaos(
            service, jobs=30, kill_every_s=(4.0, 8.0), most_kills=None, restart_database=True
        )
    print(f"\n{backend.name}: 30 jobs, {kills} kills, {seconds:.0f} s, pauses up to {slowest:g}-fold")  # noqa: T201 - the figure wanted


def _chaos(
    service: Service,
    *,
    jobs: int,
    kill_every_s: tuple[float, float],
    most_kills: int | None,
    restart_database: bool = False,
) -> tuple[int, float, float]:
    """Run jobs while workers are killed; return kills, seconds, and how far the pauses were stretched."""
    expected, start_s = _undisturbed(service)
    dice = random.Random(7)
    submitted = {_submit(service, number % RECORDINGS, "slow-150"): number for number in range(jobs)}
    began, kills = time.monotonic(), 0
    killed: set[int | None] = set()
    # On a busy machine a job may take longer than the time between two kills, and none would ever end: where
    # none did between two kills, the next comes later. 1 on a machine that is not.
    slowness, slowest, left = 1.0, 1.0, jobs
    restart_at = began + 10 if restart_database and service.backend.postgres is not None else None
    with Supervisor(service.settings, queues=("default", "default"), command=STUB) as supervisor:
        while unfinished := _unfinished(service, submitted):
            # each job may once have cost a worker, its restart, and the time until others miss it
            limit_s = jobs * (start_s + slowest * kill_every_s[1] + service.settings.dead_after_s)
            assert time.monotonic() - began < limit_s, f"{unfinished} are not done in {limit_s:.0f} s"
            time.sleep(slowness * dice.uniform(*kill_every_s))
            if (most_kills is None or kills < most_kills) and (ready := _ready(service, supervisor)):
                chosen = dice.choice(ready)
                os.kill(chosen, signal.SIGKILL)
                killed.add(chosen)
                kills += 1
                slowness = max(1.0, slowness / 2) if len(unfinished) < left else 2 * slowness
                slowest, left = max(slowest, slowness), len(unfinished)
            if restart_at is not None and time.monotonic() > restart_at:
                assert service.backend.postgres is not None
                service.backend.postgres.stop()
                time.sleep(2)
                service.backend.postgres.start()
                restart_at = None
        seconds = time.monotonic() - began
        # The last one killed is missed, and its folder cleared.
        service.until(lambda: killed.isdisjoint(view.pid for view in service.do(service.board.workers())))
    for job, number in submitted.items():
        view = service.job(job)
        assert view.status == JobStatus.succeeded, (view.error, service.logs())
        assert [stem.etag for stem in view.stems] == expected[number % RECORDINGS]
        assert len(service.attempts(job)) == 1
        assert _recorded(service, job) in (STAGES, STAGES[:-1])
    _no_orphans(service, set(submitted))
    return kills, seconds, slowest


def _ready(service: Service, supervisor: Supervisor) -> list[int]:
    """Processes of workers that take jobs already: one that is killed while it starts loses nothing."""
    try:
        shown = {view.pid for view in service.do(service.board.workers()) if view.models}
    except BusyError:
        return []  # the database is being restarted
    return [pid for pid in supervisor.pids if pid in shown]


def _undisturbed(service: Service) -> tuple[list[list[str]], float]:
    """Let one worker that nobody kills do a job of each recording; the jobs are removed again.

    Returns the stems of each recording, and the seconds that the worker took to start.
    """
    began = time.time()
    jobs = [_submit(service, number, "slow-0") for number in range(RECORDINGS)]
    assert service.worker("--once").wait() == 0, service.logs()
    start_s = min(service.row(job)["started_at"] for job in jobs) - began
    etags = [[stem.etag for stem in service.job(job).stems] for job in jobs]
    assert all(len(stems) == 2 for stems in etags), service.logs()
    for job in jobs:
        service.do(service.board.delete(job, owner="local"))
    return etags, start_s


def _submit(service: Service, number: int, model: str) -> str:
    upload = service.upload(recording(6, seed=number))
    spec = JobSpec(model=model)
    return service.do(service.board.submit(spec, owner="local", upload_id=upload)).job.id


def _unfinished(service: Service, jobs: dict[str, int]) -> list[str]:
    try:
        return [job for job in jobs if service.row(job)["finished_at"] is None]
    except BusyError:
        return list(jobs)  # nobody can tell while the database is being restarted


def _recorded(service: Service, job: str) -> list[str]:
    """Return the steps that the workflow has recorded, none of which failed.

    The last is not among them where a kill came between the end in the job's row, which is what counts and
    can be written but once, and the record of the step.
    """
    client = open_client(service.board.database, listen=False)
    try:
        steps = client.list_workflow_steps(job)
    finally:
        client.destroy()
    assert all(step["error"] is None for step in steps)
    return [step["function_name"] for step in steps]


def _no_orphans(service: Service, jobs: set[str]) -> None:
    """Whatever lies in the storage after one sweep belongs to a job."""
    storage = service.board.storage
    client = open_client(service.board.database, listen=False)
    try:
        sweeper = Sweeper(service.settings, database=service.board.database, client=client, storage=storage)
        sweeper.sweep_ended(since=0.0)
        sweeper.sweep_orphans()
    finally:
        client.destroy()
    assert set(storage.folders("jobs")) == jobs
    assert storage.folders("uploads") == ()
    assert [path.name for path in storage.scratch.iterdir()] == []
    for job in jobs:
        kept = {stem.key.rpartition("/")[2] for stem in service.job(job).stems}
        (attempt,) = service.attempts(job)
        assert set(storage.files(f"jobs/{job}/separate/{attempt}")) == kept
