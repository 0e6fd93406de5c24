"""The board: what the API does with jobs. No model, no ML library, no workflow code."""

from collections.abc import AsyncIterator, Sequence
from typing import Self

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
from stemwright.service.settings import Settings

LOCAL_OWNER = "local"
"""Owner of what comes without a key, where none is required."""


class JobBoard:
    """Jobs, as the API sees them; a context manager.

    Every method with an `owner` sees that owner's jobs only: others' are not found.
    """

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connect; the tables are made or brought up to date first.

        Raises
        ------
        BusyError
            The database cannot be reached.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Disconnect."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def get(self, job_id: str, *, owner: str) -> JobView:
        """Return a job.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        raise NotImplementedError

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
        raise NotImplementedError

    async def cancel(self, job_id: str, *, owner: str) -> JobView:
        """Cancel a job; one that has ended stays as it is. A running one stops within a chunk.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        raise NotImplementedError

    async def delete(self, job_id: str, *, owner: str) -> None:
        """Remove a job and its files; a running one is cancelled first.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        raise NotImplementedError

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
        raise NotImplementedError

    def events(self, job_id: str, *, owner: str, after: str | None = None) -> AsyncIterator[ProgressEvent]:
        """Follow a job: what it has told after the event of that id, then what comes, then the final state.

        The final state comes always, and is the last.

        Raises
        ------
        NotFoundError
            There is none of that id, or it was deleted meanwhile.
        OptionError
            An id of an event that is none.
        """
        raise NotImplementedError

    async def queue_facts(self) -> tuple[QueueFacts, ...]:
        """Return how the queues stand, those without jobs left out."""
        raise NotImplementedError

    async def workers(self) -> tuple[WorkerView, ...]:
        """Return the workers that have shown themselves lately."""
        raise NotImplementedError

    async def check(self) -> None:
        """Ask the database for a sign of life.

        Raises
        ------
        BusyError
            It gives none.
        """
        raise NotImplementedError
