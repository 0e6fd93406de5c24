"""Removes what has expired, and what died attempts and requests have left behind."""

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from stemwright.service.errors import NotFoundError
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.ending import delete_job, drop_upload, needs, uploads_of
from stemwright.service.jobs.model import JobStatus
from stemwright.service.jobs.schema import JOBS, SESSIONS, UPLOADS
from stemwright.service.jobs.views import FINAL, UNFINISHED
from stemwright.service.settings import Settings
from stemwright.service.storage import Storage, attempt_prefix, job_prefix, upload_prefix

if TYPE_CHECKING:
    from dbos import DBOSClient

_AT_A_TIME = 200
# A file that is being written is touched far more often than this.
_ASIDE_S = 6 * 3600.0


class Sweeper:
    """Keeps storage and tables from growing for ever.

    Parameters
    ----------
    settings
        How long what is kept.
    database, client, storage
        What is swept.
    """

    def __init__(
        self, settings: Settings, *, database: Database, client: "DBOSClient", storage: Storage
    ) -> None:
        self._settings = settings
        self._database = database
        self._client = client
        self._storage = storage

    def sweep_expired(self) -> int:
        """Remove jobs, uploads and sessions whose time is over; return how many."""
        return self._expired_jobs() + self._expired_uploads() + self._expired_sessions()

    def sweep_ended(self, since: float) -> int:
        """Tidy up after jobs that have ended since a time, where their worker died before it could.

        Files of attempts that are no job's result go, and recordings of jobs that have succeeded.
        """
        with self._database.reading() as connection:
            ended = (
                connection.execute(
                    select(JOBS.c.id).where(JOBS.c.status.in_(FINAL), JOBS.c.finished_at > since)
                )
                .scalars()
                .all()
            )
        return sum(self._tidy(job_id) for job_id in ended)

    def _tidy(self, job_id: str) -> int:
        # Listed before the row is read: an attempt of a retry that begins now is not in the list.
        runs = self._storage.folders(f"{job_prefix(job_id)}/separate")
        with self._database.reading() as connection:
            row = connection.execute(
                select(JOBS).where(JOBS.c.id == job_id, JOBS.c.status.in_(FINAL))
            ).first()
            uploads = uploads_of(connection, job_id)
        if row is None:
            return 0
        others = [run for run in runs if run != row.kept]
        for run in others:
            self._storage.delete_tree(attempt_prefix(job_id, "separate", run))
        if row.status != JobStatus.succeeded:
            return len(others)
        return len(others) + sum(drop_upload(self._database, self._storage, upload) for upload in uploads)

    def sweep_scratch(self, living: Collection[str]) -> int:
        """Remove what processes of this machine that are gone were writing."""
        return self._storage.sweep_aside(_ASIDE_S, keep=living)

    def sweep_orphans(self) -> int:
        """Remove files in the storage that no row tells of."""
        removed = 0
        # Listed before the rows are read: what comes meanwhile has its row, or is not in the list.
        jobs, uploads = self._storage.folders("jobs"), self._storage.folders("uploads")
        for found, table, prefix in ((jobs, JOBS, job_prefix), (uploads, UPLOADS, upload_prefix)):
            for start in range(0, len(found), _AT_A_TIME):
                some = found[start : start + _AT_A_TIME]
                with self._database.reading() as connection:
                    known = set(connection.execute(select(table.c.id).where(table.c.id.in_(some))).scalars())
                for orphan in set(some) - known:
                    self._storage.delete_tree(prefix(orphan))
                    removed += 1
        return removed

    def _expired_jobs(self) -> int:
        removed = 0
        while True:
            with self._database.reading() as connection:
                expired = (
                    connection.execute(
                        select(JOBS.c.id)
                        .where(JOBS.c.expires_at < time.time(), JOBS.c.status.in_(FINAL))
                        .limit(_AT_A_TIME)
                    )
                    .scalars()
                    .all()
                )
            for job_id in expired:
                try:
                    delete_job(
                        self._database, self._client, self._settings, self._storage, job_id, owner=None
                    )
                except NotFoundError:
                    continue  # somebody else was faster
                removed += 1
            if len(expired) < _AT_A_TIME:
                return removed

    def _expired_uploads(self) -> int:
        needed = select(JOBS.c.id).where(needs(UPLOADS.c.id), JOBS.c.status.in_(UNFINISHED))
        with self._database.writing() as connection:
            expired = (
                connection.execute(
                    delete(UPLOADS)
                    .where(UPLOADS.c.expires_at < time.time(), ~needed.exists())
                    .returning(UPLOADS.c.id)
                )
                .scalars()
                .all()
            )
        for upload in expired:
            self._storage.delete_tree(upload_prefix(upload))
        return len(expired)

    def _expired_sessions(self) -> int:
        with self._database.writing() as connection:
            return connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at < time.time())).rowcount
