"""How jobs scale with workers, and what a long queue costs, on a stub model of known duration.

    python benchmarks/scale_service.py                          SQLite and a folder
    python benchmarks/scale_service.py --database postgresql    PostgreSQL of this machine, and a folder

For 1, 2 and 4 workers: jobs an hour of a model that sleeps for `--job-s`, and the time a job takes beyond it.
Then `--queued` jobs are submitted at once: how fast they are taken, and, with all of them waiting, how long a
look at a job, a page of the list, another submission and the queue's facts take, and a job of another owner.
Our own statements of a submission are counted too.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sqlalchemy import event, func, select

from stemwright.service.jobs.model import JobSpec
from stemwright.service.jobs.schema import JOBS
from tests.service.jobs.service import Service
from tests.support.servers import Backend, postgres_server

CHUNKS = 4


@contextlib.contextmanager
def backend(kind: str) -> Iterator[Backend]:
    """Run the database."""
    if kind == "sqlite":
        yield Backend(name=kind, settings={})
        return
    with postgres_server() as server:
        yield Backend(name=kind, settings={"database_url": server.database()})


def timed(work: Any) -> float:
    """Return the seconds that something takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def finished(service: Service) -> int:
    """Return how many jobs have succeeded."""
    with service.board.database.reading() as connection:
        return int(
            connection.execute(
                select(func.count()).select_from(JOBS).where(JOBS.c.status == "succeeded")
            ).scalar_one()
        )


def processor_s(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def throughput(kind: str, workers: int, job_s: float) -> None:
    """Measure jobs an hour."""
    model = f"slow-{round(1000 * job_s / CHUNKS)}"
    count = 8 * workers
    with tempfile.TemporaryDirectory() as folder, backend(kind) as place:
        with Service.open(Path(folder), place, default_model=model, max_queued_per_key=10**6) as service:
            for _ in range(workers):
                service.worker()
            warm = [service.submit(model, chunks=CHUNKS) for _ in range(workers)]
            for job in warm:
                service.wait(job, timeout_s=180)
            pids = [process.pid for process in service.processes]
            busy = sum(map(processor_s, pids))
            done, began = finished(service), time.monotonic()
            for _ in range(count):
                service.submit(model, chunks=CHUNKS)
            service.until(lambda: finished(service) == done + count, 600)
            seconds = time.monotonic() - began
            busy = sum(map(processor_s, pids)) - busy
            print(
                f"{kind}, {workers} workers: {count} jobs of {job_s:g} s in {seconds:.1f} s,"
                f" {3600 * count / seconds:.0f} an hour, {seconds * workers / count - job_s:.2f} s beyond"
                f" each, {busy / count:.2f} s of a processor each; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def long_queue(kind: str, queued: int) -> None:
    """Measure what waiting jobs cost."""
    with tempfile.TemporaryDirectory() as folder, backend(kind) as place:
        limits = {"max_queued_per_key": 10**6, "max_queued": 10**6}
        with Service.open(Path(folder), place, **limits) as service:
            statements: list[str] = []
            engine = service.board.database.engine
            event.listen(engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
            upload = service.upload()
            jobs: list[str] = []

            async def submit_all() -> None:
                for _ in range(queued):
                    taken = await service.board.submit(JobSpec(), owner="local", upload_id=upload)
                    jobs.append(taken.job.id)

            seconds = timed(lambda: asyncio.run(submit_all()))
            rate = f"{seconds:.1f} s, {queued / seconds:.0f} a second"
            print(f"{kind}: {queued} jobs submitted one by one in {rate}; load {os.getloadavg()[0]:.1f}")
            print(f"  {len(statements) / queued:.1f} statements of ours a submission")
            board = service.board
            looks = {
                "a look at the newest job": lambda: board.get(jobs[-1], owner="local"),
                "a page of 50": lambda: board.list(owner="local", limit=50),
                "the facts of the queues": lambda: board.queue_facts(),
                "another submission": lambda: board.submit(JobSpec(), owner="local", upload_id=upload),
            }
            for label, look in looks.items():
                times = [timed(lambda look=look: service.do(look())) for _ in range(20)]  # type: ignore[misc]
                middle, most = 1000 * statistics.median(times), 1000 * max(times)
                print(f"  {label}: median {middle:.0f} ms, most {most:.0f} ms")
            service.worker()
            service.until(lambda: finished(service) >= 3, 180)
            other = service.upload(owner="other")
            began = time.monotonic()
            taken = service.do(board.submit(JobSpec(), owner="other", upload_id=other))
            service.wait(taken.job.id, owner="other", timeout_s=180)
            print(
                f"  a job of another owner, behind them all, was done after {time.monotonic() - began:.1f} s"
            )
            done, began = finished(service), time.monotonic()
            service.until(lambda: finished(service) >= done + 20, 300)
            seconds = (time.monotonic() - began) / (finished(service) - done)
            print(
                f"  a worker does an empty job every {seconds:.2f} s; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--job-s", type=float, default=2.0)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--queued", type=int, default=10_000)
    options = parser.parse_args()
    for workers in options.workers:
        throughput(options.database, workers, options.job_s)
    if options.queued:
        long_queue(options.database, options.queued)


if __name__ == "__main__":
    main()
