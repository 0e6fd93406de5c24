"""Tracks separated by a service, put in place here as those separated here are."""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from stemwright.core.appending import whole_lines
from stemwright.core.errors import CancelledError, InternalError, StemwrightError, output_error
from stemwright.models.separation.pipeline import CancelToken
from stemwright.models.separation.separator import Progress
from stemwright.service.batches import Identity
from stemwright.service.client.asynchronous import AsyncClient
from stemwright.service.client.synchronous import Client
from stemwright.service.client.views import Event, Job, strange
from stemwright.service.errors import NotFoundError
from stemwright.service.folders import Track
from stemwright.service.ledger import InputPrint
from stemwright.service.places import Place, PlacedFile
from stemwright.service.results import FileFacts, TrackResult
from stemwright.service.staging import Staging, refuse_existing

JOBS_FILE = "batch.jobs.jsonl"

_LOG = logging.getLogger(__name__)
_RESULT = pydantic.TypeAdapter(TrackResult)

Ready = Callable[[TrackResult, Staging], None]


class JobNotes:
    """Which job does which track: after a kill the batch goes on with it instead of sending the track again.

    Parameters
    ----------
    path
        A file of JSON lines; a line that a kill tore is passed over.

    Raises
    ------
    OutputError
        It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._jobs: dict[str, str] = {}
        try:
            if path.exists():
                self._jobs = {note["work"]: note["job"] for note in map(json.loads, whole_lines(path))}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise output_error(path, error if isinstance(error, OSError) else OSError(str(error))) from error

    def job(self, work: str) -> str | None:
        """Return the job that was given this work."""
        return self._jobs.get(work)

    def note(self, work: str, job_id: str) -> None:
        """Write down who does this work; on return it is on the disk."""
        line = json.dumps({"work": work, "job": job_id}).encode() + b"\n"
        with self._lock:
            try:
                with self._path.open("ab") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise output_error(self._path, error) from error
            self._jobs[work] = job_id


@dataclass(frozen=True, kw_only=True)
class RemoteWork:
    """Has tracks of a batch separated by a service.

    Parameters
    ----------
    client
        The service.
    options
        Of the jobs, as the API has them.
    identity
        What makes the stems.
    notes
        Which job does which track.
    """

    client: Client
    server: str
    options: Mapping[str, Any]
    identity: Identity
    notes: JobNotes

    def __call__(
        self,
        track: Track,
        identity: InputPrint,
        place: Place,
        *,
        progress: Callable[[Progress], None],
        cancel: CancelToken,
        ready: Ready,
    ) -> TrackResult:
        """Separate a track; a job that does it already is gone on with."""
        if not place.replace:
            refuse_existing(place.out, place.published)
        work = self._digest(track, identity)
        with Staging(place.out, place.label) as staging:
            job = run(self.client, self._finished(track, work, progress), cancel)
            files = {file: staging.path(file.path) for file in place.files}
            run(self.client, fetching(job, files), cancel)
            result = local_result(job, place)
            if place.result is not None:
                write_result(staging.path(place.result), result)
            ready(result, staging)
            staging.publish(place.published, stale=place.stale, replace=place.replace)
        forget(self.client, job)
        return result

    def _digest(self, track: Track, identity: InputPrint) -> str:
        made_of = [self.server, track.key, identity.sha256, dataclasses.asdict(self.identity)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

    def _finished(
        self, track: Track, work: str, progress: Callable[[Progress], None]
    ) -> "Callable[[AsyncClient], Any]":
        async def finish(client: AsyncClient) -> Job:
            job = await self._known(client, work)
            if job is None:
                job = await client.submit(track.source, **self.options)
                self.notes.note(work, job.id)
            return await finished(client, job, progress)

        return finish

    async def _known(self, client: AsyncClient, work: str) -> Job | None:
        """Return the job that an earlier run gave this work, if it is of use."""
        known = self.notes.job(work)
        if known is None:
            return None
        try:
            job = await client.get(known)
        except NotFoundError:
            return None  # deleted, or expired
        return job if job.status not in ("failed", "cancelled") else None


def run(client: Client, work: "Callable[[AsyncClient], Any]", cancel: CancelToken | None = None) -> Any:
    """Run a coroutine function of the client's; a cancel ends it at once.

    Raises
    ------
    CancelledError
        It was cancelled.
    """
    future = client.start(work)
    end = cancel.watch(lambda: _end(future)) if cancel is not None else None
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise CancelledError("cancelled", "") from None
    finally:
        if end is not None:
            end()


async def finished(client: AsyncClient, job: Job, progress: Callable[[Progress], None]) -> Job:
    """Follow a job to its end; return it if it has succeeded.

    Raises
    ------
    StemwrightError
        The job's own error.
    CancelledError
        Somebody cancelled the job.
    """

    def tell(event: Event) -> None:
        progress(as_progress(event))

    job = await client.wait(job.id, tell)
    if job.status == "cancelled":
        raise CancelledError(f"the job {job.id} was cancelled", "send it again")
    if job.status != "succeeded":
        raise job.error or InternalError(f"the job {job.id} failed", "see the service's log")
    return job


def as_progress(event: Event) -> Progress:
    """Tell of a job's progress as the engine tells of its own, in thousandths."""
    working = event.stage == "separate" and event.status == "running"
    done = round(1000 * event.fraction) if working else 1000 if event.stage == "publish" else 0
    return Progress(
        stage="separation" if done else "analysis",
        done_chunks=done,
        total_chunks=1000 if done else 0,
        audio_s=0.0,
        total_s=None,
        elapsed_s=0.0,
    )


def fetching(job: Job, files: Mapping[PlacedFile, Path]) -> "Callable[[AsyncClient], Any]":
    """Return what gets a job's files to their places.

    Raises
    ------
    InternalError
        The job made other stems than were expected.
    """
    made = {stem.stems: stem for stem in job.stems}
    missing = [file for file in files if file.stems not in made]
    if missing:
        there = ", ".join(stem.name for stem in job.stems)
        raise InternalError(
            f"the service made {there}, not {'+'.join(missing[0].stems)}",
            "check that client and service are of the same version",
        )

    async def fetch(client: AsyncClient) -> None:
        for file, path in files.items():
            await client.fetch(job.id, made[file.stems], path)

    return fetch


def local_result(job: Job, place: Place) -> TrackResult:
    """Return the result of a job, its files as they lie here."""
    try:
        result: TrackResult = _RESULT.validate_python(job.result)
    except pydantic.ValidationError as error:
        raise strange("the result", error) from error
    folder = place.result.parent if place.result is not None else place.files[0].path.parent
    files = tuple(
        FileFacts(path=str(file.path.relative_to(folder)), stems=file.stems) for file in place.files
    )
    return dataclasses.replace(result, files=files)


def write_result(path: Path, result: TrackResult) -> None:
    """Write `result.json`."""
    try:
        path.write_bytes(result.as_json().encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise output_error(path, error) from error


def forget(client: Client, job: Job) -> None:
    """Remove a job whose files are here; if that fails, it expires by itself."""
    try:
        client.delete(job.id)
    except StemwrightError as error:
        _LOG.warning("the job %s stays with the service: %s", job.id, error.message)


def _end(future: "concurrent.futures.Future[Any]") -> None:
    future.cancel()
