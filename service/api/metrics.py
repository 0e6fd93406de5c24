"""What /metrics tells, as Prometheus wants it: base units, one prefix, no ids or file names as labels.

Counts of jobs are of all that ended while this process ran, whichever worker did them: with several API
processes each tells all of them, so take one, or the maximum, never the sum.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from sqlalchemy import and_, or_, select

from stemwright.service.jobs.database import Database
from stemwright.service.jobs.model import QueueFacts, WorkerView
from stemwright.service.jobs.schema import JOBS

CONTENT_TYPE = CONTENT_TYPE_LATEST
_RATIO_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class _Ended:
    """A job that ended."""

    id: str
    status: str
    model: str
    error_code: str | None
    finished_at: float
    duration_s: float | None
    run_s: float | None


class Metrics:
    """The metrics of one API process."""

    def __init__(self, database: Database, version: str) -> None:
        self._database = database
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._behind = (time.time(), "")
        info = Gauge(
            "stemwright_info", "Always 1; the version is a label.", ["version"], registry=self.registry
        )
        info.labels(version=version).set(1)
        self.requests = Counter(
            "stemwright_http_requests_total",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "stemwright_http_request_seconds",
            "Time from a request's first byte to its answer's last.",
            ["route"],
            registry=self.registry,
        )
        self.bytes_in = Counter(
            "stemwright_http_received_bytes_total", "Bytes of request bodies.", registry=self.registry
        )
        self.bytes_out = Counter(
            "stemwright_http_sent_bytes_total", "Bytes of response bodies.", registry=self.registry
        )
        self.streams = Gauge(
            "stemwright_event_streams", "Event streams that are open.", registry=self.registry
        )
        self.live = Gauge(
            "stemwright_sample_streams", "Streams of samples that are open.", registry=self.registry
        )
        self.live_ended = Counter(
            "stemwright_sample_streams_ended_total",
            "Streams of samples that ended or were refused, by the code they were closed with.",
            ["code"],
            registry=self.registry,
        )
        self._ended = Counter(
            "stemwright_jobs_ended_total",
            "Jobs that ended, by how.",
            ["status", "model"],
            registry=self.registry,
        )
        self._failures = Counter(
            "stemwright_job_failures_total", "Jobs that failed, by code.", ["code"], registry=self.registry
        )
        self._audio = Counter(
            "stemwright_audio_seconds_total",
            "Audio of jobs that succeeded.",
            ["model"],
            registry=self.registry,
        )
        self._run = Counter(
            "stemwright_run_seconds_total",
            "Run time of jobs that succeeded.",
            ["model"],
            registry=self.registry,
        )
        self._ratio = Histogram(
            "stemwright_run_seconds_per_audio_second",
            "Run time over duration of each job that succeeded.",
            ["model"],
            buckets=_RATIO_BUCKETS,
            registry=self.registry,
        )

    def render(self, queues: Iterable[QueueFacts], workers: Iterable[WorkerView]) -> bytes:
        """Return the text of /metrics; blocks while it reads what ended since the last call."""
        for job in self._newly_ended():
            self._count(job)
        standing = CollectorRegistry()
        standing.register(_Standing(tuple(queues), tuple(workers)))
        return generate_latest(self.registry) + generate_latest(standing)

    def _count(self, job: _Ended) -> None:
        self._ended.labels(status=job.status, model=job.model).inc()
        if job.status == "failed":
            self._failures.labels(code=job.error_code or "unknown").inc()
        if job.status == "succeeded" and job.duration_s and job.run_s is not None:
            self._audio.labels(model=job.model).inc(job.duration_s)
            self._run.labels(model=job.model).inc(job.run_s)
            self._ratio.labels(model=job.model).observe(job.run_s / job.duration_s)

    def _newly_ended(self) -> Iterable[_Ended]:
        """Yield jobs that ended behind the last one seen, by time and id."""
        while True:
            at, last = self._behind
            columns = [JOBS.c[name] for name in _Ended.__dataclass_fields__]
            behind = or_(JOBS.c.finished_at > at, and_(JOBS.c.finished_at == at, JOBS.c.id > last))
            chosen = (
                select(*columns).where(behind).order_by(JOBS.c.finished_at, JOBS.c.id).limit(_ROWS_AT_ONCE)
            )
            with self._database.reading() as connection:
                rows = [_Ended(**row) for row in connection.execute(chosen).mappings()]
            for job in rows:
                self._behind = (job.finished_at, job.id)
                yield job
            if len(rows) < _ROWS_AT_ONCE:
                return


@dataclass(frozen=True)
class _Standing:
    """Collects how queues and workers stand right now."""

    queues: tuple[QueueFacts, ...]
    workers: tuple[WorkerView, ...]

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        jobs = Metric("stemwright_queue_jobs", "Unfinished jobs, by queue and status.", "gauge")
        age = Metric(
            "stemwright_queue_oldest_seconds", "Age of the oldest job that waits, by queue.", "gauge"
        )
        for facts in self.queues:
            jobs.add_sample(jobs.name, {"queue": facts.queue, "status": "queued"}, facts.queued)
            jobs.add_sample(jobs.name, {"queue": facts.queue, "status": "running"}, facts.running)
            age.add_sample(age.name, {"queue": facts.queue}, facts.oldest_queued_s)
        counts: dict[tuple[str, str, str], list[int]] = {}
        for worker in self.workers:
            if worker.alive:
                key = (worker.queue, worker.device, worker.provider or "none")
                found = counts.setdefault(key, [0, 0])
                found[0] += 1
                found[1] += worker.job is not None
        alive = Metric("stemwright_workers", "Live workers, by queue, device and provider in use.", "gauge")
        busy = Metric("stemwright_workers_busy", "Live workers that have a job.", "gauge")
        for (queue, device, provider), (all_of_them, with_job) in sorted(counts.items()):
            labels = {"queue": queue, "device": device, "provider": provider}
            alive.add_sample(alive.name, labels, all_of_them)
            busy.add_sample(busy.name, labels, with_job)
        return [jobs, age, alive, busy]
