"""A service without its API: the board, uploads, and workers that can be killed."""

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile
from sqlalchemy import select

from stemwright.service.jobs.board import LOCAL_OWNER, JobBoard
from stemwright.service.jobs.model import JobSpec, JobStatus, JobView
from stemwright.service.jobs.schema import JOBS, UPLOADS
from stemwright.service.jobs.supervisor import settings_environment
from stemwright.service.settings import Settings
from stemwright.service.storage import upload_part_key
from tests.support.paths import ROOT
from tests.support.servers import Backend

CHUNK = 4096
T = TypeVar("T")


def recording(chunks: int = 4, seed: int = 0) -> bytes:
    """Return a WAV file of so many chunks of the stub models."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (chunks * CHUNK, 2)).astype(np.float32)
    stream = io.BytesIO()
    soundfile.write(stream, samples, 44100, format="WAV", subtype="PCM_16")
    return stream.getvalue()


@dataclass(kw_only=True)
class Service:
    """Board and workers on one back end."""

    settings: Settings
    board: JobBoard
    backend: Backend
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, backend: Backend, **overrides: Any) -> Iterator["Service"]:
        values: dict[str, Any] = {
            "data_dir": folder / "service",
            "default_model": "slow-0",
            "poll_s": 0.1,
            "heartbeat_s": 0.4,
            "dead_after_s": 2.0,
            "grace_s": 60.0,
            **backend.settings,
            **overrides,
        }
        settings = Settings(**values)
        board = JobBoard.open(settings)
        service = cls(settings=settings, board=board, backend=backend, folder=folder)
        try:
            yield service
        finally:
            for process in service.processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                process.wait()
            board.close()

    def upload(self, data: bytes | None = None, *, owner: str = LOCAL_OWNER, complete: bool = True) -> str:
        data = recording() if data is None else data
        upload = uuid.uuid4().hex
        self.board.storage.write_bytes(upload_part_key(upload, 0), data)
        with self.board.database.writing() as connection:
            connection.execute(
                UPLOADS.insert().values(
                    id=upload,
                    owner=owner,
                    filename="song.wav",
                    size=len(data),
                    received=len(data),
                    complete=complete,
                    created_at=time.time(),
                    expires_at=time.time() + 3600,
                )
            )
        return upload

    def submit(self, model: str = "slow-0", *, chunks: int = 4, owner: str = LOCAL_OWNER, **spec: Any) -> str:
        upload = self.upload(recording(chunks), owner=owner)
        submitted = self.do(self.board.submit(JobSpec(model=model, **spec), owner=owner, upload_id=upload))
        return submitted.job.id

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def job(self, job_id: str, owner: str = LOCAL_OWNER) -> JobView:
        return self.do(self.board.get(job_id, owner=owner))

    def row(self, job_id: str) -> Any:
        with self.board.database.reading() as connection:
            return connection.execute(select(JOBS).where(JOBS.c.id == job_id)).mappings().one()

    def worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker; its log is in the folder."""
        log = (self.folder / f"worker-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stub_worker", *arguments],
            cwd=ROOT,
            env={**os.environ, **settings_environment(self.settings)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        self.processes.append(process)
        return process

    def ready_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker; return it when it has shown itself."""
        before = {view.id for view in self.do(self.board.workers())}
        process = self.worker()
        self.until(lambda: {view.id for view in self.do(self.board.workers()) if view.models} - before)
        return process

    def process_of(self, job_id: str) -> subprocess.Popen[bytes]:
        """Return the worker that a running job is with."""
        executor = self.row(job_id)["executor"]
        (pid,) = [view.pid for view in self.do(self.board.workers()) if view.id == executor]
        (process,) = [process for process in self.processes if process.pid == pid]
        return process

    def wait(self, job_id: str, *, timeout_s: float = 120.0, owner: str = LOCAL_OWNER) -> JobView:
        """Wait until a job has ended."""
        self.until(lambda: self.job(job_id, owner).status.final, timeout_s)
        return self.job(job_id, owner)

    def wait_for_stage(self, job_id: str, stage: str, *, fraction: float = 0.0) -> None:
        self.until(
            lambda: (
                (row := self.row(job_id))["stage"] == stage
                and row["status"] == JobStatus.running
                and row["fraction"] > fraction
            )
        )

    def until(self, ask: Callable[[], T], timeout_s: float = 120.0) -> T:
        until = time.monotonic() + timeout_s
        while not (found := ask()):
            assert time.monotonic() < until, f"not in {timeout_s:g} s\n{self.logs()}"
            time.sleep(0.05)
        return found

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-4000:]}"
            for path in sorted(self.folder.glob("worker-*.log"))
        )

    def stem(self, view: JobView, name: str) -> bytes:
        (stem,) = [stem for stem in view.stems if stem.name == name]
        return self.board.storage.read_bytes(stem.key)

    def attempts(self, job_id: str) -> tuple[str, ...]:
        """Attempts that have files in the storage."""
        return self.board.storage.folders(f"jobs/{job_id}/separate")
