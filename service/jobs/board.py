"""The board: what the API does with jobs. No model, no ML library, no workflow code."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Self, TypeVar

from sqlalchemy import Connection, RowMapping, select
from sqlalchemy.exc import SQLAlchemyError

from stemwright.service.errors import BusyError, NotFoundError
from stemwright.service.jobs.database import Database, translated
from stemwright.service.jobs.ending import cancel_job, delete_job, retry_job
from stemwright.service.jobs.model import (
    JobSpec,
    JobStatus,
    JobView,
    Page,
    ProgressEvent,
    QueueFacts,
    Submitted,
    WorkerView,
)
from stemwright.service.jobs.reading import find_job, job_row, list_jobs, queue_facts, worker_views
from stemwright.service.jobs.schema import JOBS, migrate
from stemwright.service.jobs.submitting import Submission, submit
from stemwright.service.jobs.truth import STREAM, open_client, reconcile, register_queue
from stemwright.service.jobs.views import job_view, offset_after, state_event, worker_event
from stemwright.service.settings import Settings
from stemwright.service.storage import Storage

if TYPE_CHECKING:
    from dbos import DBOSClient

T = TypeVar("T")
LOCAL_OWNER = "local"
"""Owner of what comes without a key, where none is required."""
DEFAULT_QUEUE = "default"

_EVENT_POLL_S = 0.5


class JobBoard:
    """Jobs, as the API sees them; a context manager.

    Every method with an `owner` sees that owner's jobs only: others' are not found.

    Parameters
    ----------
    settings
        Limits and times.
    database, client, storage
        Where jobs stand, their workflows, and their files.
    """

    def __init__(
        self, settings: Settings, *, database: Database, client: "DBOSClient", storage: Storage
    ) -> None:
        self.settings = settings
        self.database = database
        self.storage = storage
        self._client = client

    @classmethod
    def open(cls, settings: Settings, *, storage: Storage | None = None) -> Self:
        """Connect; the tables are made or brought up to date first.

        Parameters
        ----------
        settings
            Where to connect to, limits and times.
        storage
            Where files lie; None for what the settings name.

        Raises
        ------
        BusyError
            The database or the storage cannot be reached.
        """
        migrate(settings.database)
        database = Database.open(settings.database)
        try:
            client = open_client(database, listen=True)
            for queue in {DEFAULT_QUEUE, *settings.queues, *settings.queue_of_model.values()}:
                register_queue(client, queue, poll_s=settings.poll_s)
            return cls(
                settings,
                database=database,
                client=client,
                storage=storage or Storage.from_settings(settings),
            )
        except BaseException:
            database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._client.destroy()
        self.database.close()

    async def submit(
        self,
        spec: JobSpec,
        *,
        owner: str,
        upload_id: str,
        duration_s: float | None = None,
        idempotency_key: str | None = None,
        body_hash: str | None = None,
    ) -> Submitted:
        """Take a job, durably: once this returns, it will be worked on.

        Parameters
        ----------
        spec
            What to do.
        owner
            Id of the API key, or LOCAL_OWNER.
        upload_id
            A complete upload of the same owner (row in `sw_upload`).
        duration_s
            Length of the recording if it was probed already, for the limit of audio minutes.
        idempotency_key, body_hash
            A request of the same key and hash is answered with the job that it made before.

        Raises
        ------
        NotFoundError
            There is no such upload.
        ConflictError
            The upload is not complete.
        ReplayError
            The idempotency key came with another body before.
        TooManyError, BusyError
            Limits of the owner, of the service, or of the disk.
        """
        model = spec.model or self.settings.default_model
        wanted = Submission(
            spec=spec.model_copy(update={"model": model}),
            owner=owner,
            queue=self.settings.queue_of_model.get(model, DEFAULT_QUEUE),
            upload_id=upload_id,
            duration_s=duration_s,
            idempotency_key=idempotency_key,
            body_hash=body_hash,
        )
        row, created = await asyncio.to_thread(
            lambda: submit(self.database, self._client, self.settings, self.storage, wanted)
        )
        return Submitted(job=job_view(row), created=created)

    async def get(self, job_id: str, *, owner: str) -> JobView:
        """Return a job.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        return await self._read(lambda connection: find_job(connection, job_id, owner))

    async def list(
        self,
        *,
        owner: str,
        status: Sequence[JobStatus] = (),
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """Return jobs, newest first; `status` () for all.

        Raises
        ------
        OptionError
            A cursor that is none.
        """
        return await self._read(
            lambda connection: list_jobs(connection, owner=owner, status=status, cursor=cursor, limit=limit)
        )

    async def cancel(self, job_id: str, *, owner: str) -> JobView:
        """Cancel a job; one that has ended stays as it is. A running one stops within a chunk.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        await asyncio.to_thread(lambda: cancel_job(self.database, self._client, self.settings, job_id, owner))
        return await self.get(job_id, owner=owner)

    async def delete(self, job_id: str, *, owner: str) -> None:
        """Remove a job and its files; a running one is cancelled first.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        await asyncio.to_thread(
            lambda: delete_job(self.database, self._client, self.settings, self.storage, job_id, owner)
        )

    async def retry(self, job_id: str, *, owner: str) -> JobView:
        """Queue a job that failed or was cancelled again, from its first unfinished stage.

        Raises
        ------
        NotFoundError
            There is none of that id.
        ConflictError
            It has not ended, or has succeeded.
        GoneError
            Its upload has expired.
        TooManyError, BusyError
            As for `submit`.
        """
        await asyncio.to_thread(lambda: retry_job(self.database, self._client, self.settings, job_id, owner))
        return await self.get(job_id, owner=owner)

    async def events(
        self, job_id: str, *, owner: str, after: str | None = None
    ) -> AsyncGenerator[ProgressEvent, None]:
        """Follow a job: what it has told after the event of that id, then what comes, then the final state.

        The final state comes always, and is the last. A database that goes away is waited for.

        Raises
        ------
        NotFoundError
            There is none of that id, or it was deleted meanwhile.
        OptionError
            An id of an event that is none.
        """
        offset = offset_after(after)
        row = await self._row(job_id, owner)
        if after is None and not JobStatus(row["status"]).final:
            yield state_event(row, 0)
        while True:
            try:
                async with contextlib.aclosing(self._told(job_id, offset)) as told:
                    async for event in told:
                        offset += 1
                        yield event
                row = await self._row(job_id, owner)
                if JobStatus(row["status"]).final:
                    yield state_event(row, offset)
                    return
                await asyncio.to_thread(self._reconcile, job_id)
            except BusyError:
                pass  # it comes back, and the stream goes on where it was
            await asyncio.sleep(_EVENT_POLL_S)

    async def queue_facts(self) -> tuple[QueueFacts, ...]:
        """Return how the queues stand, those without jobs left out."""
        return await self._read(
            lambda connection: queue_facts(
                connection, connection.execute(select(self.database.now)).scalar_one()
            )
        )

    async def workers(self) -> tuple[WorkerView, ...]:
        """Return the workers that have shown themselves lately."""
        return await self._read(
            lambda connection: worker_views(connection, self.database, self.settings.dead_after_s)
        )

    async def check(self) -> None:
        """Ask the database for a sign of life.

        Raises
        ------
        BusyError
            It gives none.
        """
        await asyncio.to_thread(self.database.ping)

    async def _told(self, job_id: str, offset: int) -> AsyncGenerator[ProgressEvent, None]:
        """Yield what the workers have told, until the workflow has ended."""
        from dbos import error as dbos_error

        stream = self._client.read_stream_async(
            job_id, STREAM, offset=offset, polling_interval_sec=_EVENT_POLL_S
        )
        try:
            async with contextlib.aclosing(stream) as values:
                async for told in values:
                    offset += 1
                    yield worker_event(told, offset)
        except dbos_error.DBOSNonExistentWorkflowError:
            raise NotFoundError("the job was deleted", "") from None
        except SQLAlchemyError as error:
            with translated():
                raise error

    async def _row(self, job_id: str, owner: str) -> RowMapping:
        return await self._read(lambda connection: job_row(connection, job_id, owner))

    async def _read(self, ask: Callable[[Connection], T]) -> T:
        def work() -> T:
            with self.database.reading() as connection:
                return ask(connection)

        return await asyncio.to_thread(work)

    def _reconcile(self, job_id: str) -> None:
        with translated():
            reconcile(
                self._client,
                self.database,
                JOBS.c.id == job_id,
                results_ttl_s=self.settings.results_ttl_s,
                settled_s=self.settings.dead_after_s,
            )
