"""What the API does with jobs, without a worker: on SQLite here, on PostgreSQL among the slow tests."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect, update
from sqlalchemy.schema import DropTable

from stemwright.core.errors import InternalError, OptionError, StemwrightError
from stemwright.service.errors import (
    BusyError,
    ConflictError,
    GoneError,
    NotFoundError,
    ReplayError,
    TooManyError,
)
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.model import JobSpec, JobStatus, ProgressEvent, ScoreWish, Submitted
from stemwright.service.jobs.schema import (
    JOB_UPLOADS,
    JOBS,
    METADATA,
    MIGRATIONS,
    UPLOADS,
    VERSION,
    WORKERS,
    migrate,
)
from stemwright.service.jobs.sweeper import Sweeper
from stemwright.service.jobs.truth import open_client, reconcile
from tests.service.jobs.service import Service
from tests.support.servers import Backend

OWNER = "local"


@pytest.fixture(params=["sqlite+folder", pytest.param("postgres+s3", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "sqlite+folder":
        yield Backend(name=request.param, settings={})
        return
    server = request.getfixturevalue("postgres")
    url = server.database()
    yield Backend(name=request.param, settings={"database_url": url}, postgres=server)
    server.drop(url)


@pytest.fixture
def service(backend: Backend, tmp_path: Path) -> Iterator[Service]:
    limits = {"max_queued_per_key": 4, "max_queued": 6, "max_audio_minutes_per_key": 10.0}
    with Service.open(tmp_path, backend, **limits) as opened:
        yield opened


def _submit(
    service: Service,
    *,
    upload: str | None = None,
    owner: str = OWNER,
    key: str | None = None,
    body: str | None = None,
    seconds: float | None = None,
    spec: JobSpec | None = None,
) -> Submitted:
    upload = upload or service.upload(b"x", owner=owner)
    return service.do(
        service.board.submit(
            spec or JobSpec(),
            owner=owner,
            upload_id=upload,
            idempotency_key=key,
            body_hash=body,
            duration_s=seconds,
        )
    )


def _set(service: Service, job: str, **values: object) -> None:
    with service.board.database.writing() as connection:
        connection.execute(update(JOBS).where(JOBS.c.id == job).values(**values))


def test_a_job_is_queued_with_what_was_asked(service: Service) -> None:
    spec = JobSpec(stems=("vocals",), format="flac", bit_depth="24", priority=2)
    made = _submit(service, spec=spec, seconds=90.0)
    assert made.created
    view = service.job(made.job.id)
    assert (view.status, view.name, view.model) == (JobStatus.queued, "song.wav", "slow-0")
    assert view.spec == spec.model_copy(update={"model": "slow-0"})
    assert (view.position, view.duration_s, view.attempt, view.stems) == (0, 90.0, 0, ())


def test_the_place_in_the_queue_follows_priority_then_time(service: Service) -> None:
    jobs = [_submit(service, spec=JobSpec(priority=p)).job.id for p in (5, 5, 1)]
    assert [service.job(job).position for job in jobs] == [1, 2, 0]


def test_a_replay_gives_the_same_job_and_another_body_a_conflict(service: Service) -> None:
    upload = service.upload(b"x")
    first = _submit(service, upload=upload, key="k", body="h")
    again = _submit(service, upload=upload, key="k", body="h")
    assert (again.job.id, again.created) == (first.job.id, False)
    with pytest.raises(ReplayError):
        _submit(service, upload=upload, key="k", body="other")
    assert _submit(service, owner="another", key="k", body="other").created


def test_the_same_request_at_the_same_time_makes_one_job(service: Service) -> None:
    upload = service.upload(b"x")
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(_submit, service, upload=upload, key="k", body="h") for _ in range(16)]
        answers = [one.result() for one in made]
    assert len({answer.job.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1


def test_limits_hold_also_at_the_same_time(service: Service) -> None:
    uploads = [service.upload(b"x") for _ in range(12)]

    def attempt(upload: str) -> StemwrightError | None:
        try:
            _submit(service, upload=upload)
        except StemwrightError as error:
            return error
        return None

    with ThreadPoolExecutor(6) as pool:
        errors = list(pool.map(attempt, uploads))
    assert errors.count(None) == 4
    refused = [error for error in errors if error is not None]
    assert all(isinstance(error, TooManyError) and error.retry_after_s > 0 for error in refused)
    _submit(service, owner="b")
    _submit(service, owner="b")
    with pytest.raises(BusyError) as busy:
        _submit(service, owner="c")
    assert busy.value.retry_after_s > 0


def test_minutes_of_audio_are_limited(service: Service) -> None:
    _submit(service, seconds=400.0)
    with pytest.raises(TooManyError, match="minutes"):
        _submit(service, seconds=201.0)
    _submit(service, seconds=199.0)


def test_an_upload_must_be_there_be_complete_and_be_the_owner_s(service: Service) -> None:
    foreign = service.upload(b"x", owner="another")
    for upload in ("nothing", foreign):
        with pytest.raises(NotFoundError):
            _submit(service, upload=upload)
    with pytest.raises(ConflictError):
        _submit(service, upload=service.upload(b"x", complete=False))
    with pytest.raises(NotFoundError):
        _submit(service, spec=JobSpec(query_audio=foreign))


def test_others_jobs_are_not_found(service: Service) -> None:
    job = _submit(service).job.id
    board = service.board
    for work in (board.get, board.cancel, board.delete, board.retry):
        with pytest.raises(NotFoundError):
            service.do(work(job, owner="another"))
    with pytest.raises(NotFoundError):
        _events(service, job, owner="another")
    assert service.do(board.list(owner="another")).items == ()


def test_pages_are_stable_while_jobs_come(service: Service) -> None:
    jobs = [_submit(service).job.id for _ in range(3)]
    with service.board.database.writing() as connection:  # ties of time are told apart by id
        connection.execute(update(JOBS).values(created_at=1000.0))
    first = service.do(service.board.list(owner=OWNER, limit=2))
    _submit(service)
    second = service.do(service.board.list(owner=OWNER, limit=2, cursor=first.cursor))
    assert {item.id for item in (*first.items, *second.items)} == set(jobs)
    assert second.cursor is None
    queued = service.do(service.board.list(owner=OWNER, status=[JobStatus.queued]))
    assert len(queued.items) == 4
    assert service.do(service.board.list(owner=OWNER, status=[JobStatus.failed])).items == ()
    for cursor in ("?", "eyJ9", "W10", ""):
        with pytest.raises(OptionError):
            service.do(service.board.list(owner=OWNER, cursor=cursor))


def test_a_queued_job_is_cancelled_and_stays_so(service: Service) -> None:
    job = _submit(service).job.id
    for _ in range(2):
        view = service.do(service.board.cancel(job, owner=OWNER))
        assert (view.status, view.finished is not None) == (JobStatus.cancelled, True)
    assert [(event.status, event.final) for event in _events(service, job)] == [(JobStatus.cancelled, True)]
    assert _events(service, job, after="3-end")[0].final
    with pytest.raises(OptionError):
        _events(service, job, after="x")


def test_a_cancelled_job_can_be_retried_while_its_recording_is_there(service: Service) -> None:
    job = _submit(service).job.id
    with pytest.raises(ConflictError):
        service.do(service.board.retry(job, owner=OWNER))
    service.do(service.board.cancel(job, owner=OWNER))
    view = service.do(service.board.retry(job, owner=OWNER))
    assert (view.status, view.finished, view.expires) == (JobStatus.queued, None, None)
    service.do(service.board.cancel(job, owner=OWNER))
    with service.board.database.writing() as connection:
        connection.execute(UPLOADS.delete())
    with pytest.raises(GoneError):
        service.do(service.board.retry(job, owner=OWNER))


def test_a_deleted_job_takes_its_files_along(service: Service) -> None:
    upload = service.upload(b"x")
    job, sharing = _submit(service, upload=upload).job.id, _submit(service, upload=upload).job.id
    service.board.storage.write_bytes(f"jobs/{job}/separate/r/0.wav", b"x")
    service.do(service.board.delete(job, owner=OWNER))
    assert service.board.storage.folders("jobs") == ()
    assert service.board.storage.folders("uploads") == (upload,)  # the other job needs it
    service.do(service.board.delete(sharing, owner=OWNER))
    assert service.board.storage.folders("uploads") == ()
    with pytest.raises(NotFoundError):
        service.job(job)


def test_jobs_whose_workflow_has_ended_are_told_so(service: Service) -> None:
    lost, cancelled, fine = (_submit(service).job.id for _ in range(3))
    _set(service, lost, status="running", stage="separate", fraction=0.42, attempt=3, updated_at=1.0)
    _set(service, cancelled, updated_at=1.0)
    client = open_client(service.board.database, listen=False)
    try:
        client.cancel_workflow(cancelled)
        table = "workflow_status" if service.board.database.is_sqlite else "dbos.workflow_status"
        with service.board.database.writing() as connection:
            connection.exec_driver_sql(
                f"UPDATE {table} SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' WHERE workflow_uuid = '{lost}'"
            )
        changed = reconcile(client, service.board.database, JOBS.c.id != "", results_ttl_s=60, settled_s=5)
    finally:
        client.destroy()
    assert changed == 2
    error = service.job(lost).error
    assert error is not None
    assert error.code == "worker_lost"
    assert "3 workers" in error.message and "separate at 42%" in error.message
    assert service.job(cancelled).status == JobStatus.cancelled
    assert service.job(fine).status == JobStatus.queued


def test_queues_and_workers_are_described(service: Service) -> None:
    job = _submit(service).job.id
    _set(service, job, created_at=time.time() - 100)
    _set(service, _submit(service).job.id, status="running")
    (facts,) = service.do(service.board.queue_facts())
    assert (facts.queue, facts.queued, facts.running) == ("default", 1, 1)
    assert facts.oldest_queued_s == pytest.approx(100, abs=5)
    database = service.board.database
    with database.writing() as connection:
        for name, age in (("alive", 0.5), ("dead", 50.0)):
            row = {"executor_id": name, "queue": "default", "device": "cpu", "models": '["a"]'}
            connection.execute(WORKERS.insert().values(**row, seen=database.now - age))
    views = {view.id: view for view in service.do(service.board.workers())}
    assert (views["alive"].alive, views["dead"].alive) == (True, False)
    assert views["dead"].seen_s == pytest.approx(50, abs=1)
    assert views["alive"].models == ("a",)


def test_what_has_expired_is_swept_and_what_is_needed_stays(service: Service) -> None:
    expired, kept = _submit(service).job.id, _submit(service).job.id
    service.do(service.board.cancel(expired, owner=OWNER))
    _set(service, expired, expires_at=1.0, kept="good")
    unused, needed = service.upload(b"x"), service.row(kept)["upload_id"]
    with service.board.database.writing() as connection:
        connection.execute(update(UPLOADS).values(expires_at=1.0))
    storage = service.board.storage
    for key in (f"jobs/{expired}/separate/good/0", "jobs/orphan/separate/r/0", "uploads/orphan/0"):
        storage.write_bytes(key, b"x")
    client = open_client(service.board.database, listen=False)
    try:
        sweeper = Sweeper(service.settings, database=service.board.database, client=client, storage=storage)
        assert sweeper.sweep_expired() == 2  # a job, its upload with it, and an upload
        assert sweeper.sweep_orphans() == 2
        late = _submit(service).job.id
        service.do(service.board.cancel(late, owner=OWNER))
        _set(service, late, kept="good")
        for run in ("good", "bad"):
            storage.write_bytes(f"jobs/{late}/separate/{run}/0", b"x")
        assert sweeper.sweep_ended(since=time.time() - 60) == 1
    finally:
        client.destroy()
    assert storage.folders("jobs") == (late,)
    assert storage.folders(f"jobs/{late}/separate") == ("good",)
    assert needed in storage.folders("uploads")
    assert unused not in storage.folders("uploads")


def test_processes_that_start_together_make_the_tables_once(backend: Backend, tmp_path: Path) -> None:
    url = backend.settings.get("database_url") or f"sqlite:///{tmp_path}/new/folder/x.sqlite"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [url] * 4))
    database = Database.open(url)
    try:
        with database.writing() as connection:
            tables = set(inspect(connection).get_table_names())
            assert set(METADATA.tables) <= tables
            assert connection.execute(VERSION.select()).scalars().all() == [len(MIGRATIONS)]
            for name, table in METADATA.tables.items():
                found = {column["name"] for column in inspect(connection).get_columns(name)}
                assert found == set(table.c.keys())
            connection.execute(VERSION.update().values(version=len(MIGRATIONS) + 1))
        with pytest.raises(InternalError, match=f"version {len(MIGRATIONS) + 1}"):
            migrate(url)
    finally:
        database.close()


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    migrate(url)
    database = Database.open(url)
    try:
        with database.writing() as connection:
            connection.execute(DropTable(JOB_UPLOADS))
            connection.execute(VERSION.update().values(version=1))
        migrate(url)
        with database.writing() as connection:
            assert "sw_job_upload" in inspect(connection).get_table_names()
    finally:
        database.close()


def test_what_a_job_is_scored_against_is_held_as_long_as_its_recording(service: Service) -> None:
    true, found, recording = (service.upload(b"x") for _ in range(3))
    wish = ScoreWish(references={"vocals": true}, estimates={"vocals": found})
    scoring = _submit(service, upload=true, spec=JobSpec(score=wish)).job.id
    spec = JobSpec(evaluate=True, references={"vocals": true})
    separating = _submit(service, upload=recording, spec=spec).job.id
    with service.board.database.writing() as connection:
        connection.execute(update(UPLOADS).values(expires_at=1.0))
    client = open_client(service.board.database, listen=False)
    try:
        storage = service.board.storage
        sweeper = Sweeper(service.settings, database=service.board.database, client=client, storage=storage)
        assert sweeper.sweep_expired() == 0
        service.do(service.board.delete(scoring, owner=OWNER))
        assert set(storage.folders("uploads")) == {true, recording}
        service.do(service.board.cancel(separating, owner=OWNER))
        assert sweeper.sweep_expired() == 2
    finally:
        client.destroy()
    with pytest.raises(GoneError):
        service.do(service.board.retry(separating, owner=OWNER))


def test_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(BusyError):
        migrate("postgresql://nobody@127.0.0.1:1/none")
    (tmp_path / "file").write_text("")
    with pytest.raises(BusyError):
        migrate(f"sqlite:///{tmp_path}/file/x.sqlite")


@pytest.mark.parametrize(
    "asked",
    [
        {"lyrics": True},
        {"evaluate": True, "format": "mp3"},
        {"references": {"vocals": "x"}},
        {"evaluate": True, "metrics": ("sdrr",)},
        {"two_stems": "vocals", "residual": True},
        {"stems": ()},
        {"stems": ("a", "a")},
        {"auto": True, "query": ("dog",)},
        {"level": 2},
        {"query": ("dog",), "stems": ("a",)},
        {"format": "mp3", "bit_depth": "24"},
        {"format": "flac", "bitrate": 128},
        {"format": "flac", "bit_depth": "32f"},
        {"format": "flac", "clip_mode": "float"},
    ],
)
def test_contradictions_are_refused_with_a_remedy(asked: dict[str, object]) -> None:
    with pytest.raises(OptionError) as refused:
        JobSpec.model_validate(asked)
    assert refused.value.message and refused.value.remedy


def _events(
    service: Service, job: str, *, owner: str = OWNER, after: str | None = None
) -> list[ProgressEvent]:
    async def gather() -> list[ProgressEvent]:
        return [event async for event in service.board.events(job, owner=owner, after=after)]

    return service.do(gather())


def test_a_full_disk_takes_no_job(tmp_path: Path) -> None:
    backend = Backend(name="sqlite+folder", settings={"min_free_bytes": 1 << 60})
    with Service.open(tmp_path, backend) as service:
        with pytest.raises(BusyError, match="disk"):
            _submit(service)
        assert service.do(service.board.list(owner=OWNER)).items == ()
