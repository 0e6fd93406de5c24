"""DBOS's workflows are the truth about jobs; `sw_job.status` follows. Here the two are brought together.

Normally the worker, a cancellation or a retry writes both. What died in between, and jobs that cost their
workers' lives, are found here.
"""

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, select, update

from stemwright.service.jobs.database import Database
from stemwright.service.jobs.schema import JOBS
from stemwright.service.jobs.views import UNFINISHED

if TYPE_CHECKING:
    from dbos import DBOSClient

APPLICATION = "stemwright"
WORKFLOW = "separate"
STREAM = "progress"
# Jobs are taken by workers of this very version: to be raised when the steps or their order change, and old
# workers kept until their jobs are done.
VERSION = "jobs-2"
_AT_A_TIME = 500
ACTIVE = ("ENQUEUED", "PENDING", "DELAYED")


def open_client(database: Database, *, listen: bool, pool_size: int = 5) -> "DBOSClient":
    """Connect to DBOS's tables, without workflow code.

    Raises
    ------
    BusyError
        The database cannot be reached.
    """
    from dbos import DBOSClient, DBOSPortableJSONSerializer

    from stemwright.service.jobs.database import translated

    with translated():
        return DBOSClient(
            system_database_url=database.dbos_url,
            application_name=APPLICATION,
            use_listen_notify=listen and not database.is_sqlite,
            serializer=DBOSPortableJSONSerializer(),
            retry_connection_errors=False,
            system_database_pool_size=pool_size,
        )


def register_queue(client: "DBOSClient", queue: str, *, poll_s: float) -> None:
    """Make a queue known: one job at a time for each worker, owners in turn.

    A limit on partitions makes the queue take turns between them; this one shares no budget between
    workers, so that none waits for another's lock.
    """
    client.register_queue(
        queue,
        worker_concurrency=1,
        partition_worker_concurrency=1,
        polling_interval_sec=poll_s,
        application_name=APPLICATION,
    )


def reconcile(
    client: "DBOSClient",
    database: Database,
    which: ColumnElement[bool],
    *,
    results_ttl_s: float,
    settled_s: float,
) -> int:
    """Give jobs whose workflow has ended without their row's telling it the state that it has.

    Parameters
    ----------
    client, database
        Where the two stand.
    which
        The rows of `sw_job` that are looked at.
    results_ttl_s
        How long ended jobs are kept.
    settled_s
        Rows that changed later are left alone: somebody may be in the middle of writing both.

    Returns
    -------
    int
        How many were changed.
    """
    changed = 0
    last = ""
    while True:
        with database.reading() as connection:
            rows = connection.execute(
                select(JOBS.c.id, JOBS.c.stage, JOBS.c.fraction, JOBS.c.attempt)
                .where(
                    which,
                    JOBS.c.status.in_(UNFINISHED),
                    JOBS.c.updated_at < time.time() - settled_s,
                    JOBS.c.id > last,
                )
                .order_by(JOBS.c.id)
                .limit(_AT_A_TIME)
            ).all()
        if not rows:
            return changed
        last = rows[-1].id
        states = {
            state.workflow_id: state
            for state in client.list_workflows(
                workflow_ids=[row.id for row in rows], load_input=False, load_output=False
            )
        }
        for row in rows:
            state = states.get(row.id)
            if state is None or state.status not in ACTIVE:
                changed += _end(database, row, state.status if state else None, results_ttl_s)


def _end(database: Database, row: Any, status: str | None, results_ttl_s: float) -> int:
    now = time.time()
    end = {"status": "failed", "run": None, "executor": None, "finished_at": now, "updated_at": now}
    if status == "CANCELLED":
        end["status"] = "cancelled"
    else:
        end |= _reason(row, status)
    with database.writing() as connection:
        return connection.execute(
            update(JOBS)
            .where(
                JOBS.c.id == row.id,
                JOBS.c.status.in_(UNFINISHED),
                JOBS.c.attempt == row.attempt,
                JOBS.c.updated_at < now,
            )
            .values(**end, expires_at=now + results_ttl_s)
        ).rowcount


def _reason(row: Any, status: str | None) -> dict[str, str]:
    if status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        where = f"last in stage {row.stage} at {row.fraction:.0%}" if row.stage else "before its first stage"
        return {
            "error_code": "worker_lost",
            "error_message": f"the job cost {row.attempt} workers their lives, {where}",
            "error_remedy": "look in the workers' logs; a machine out of memory kills them like that",
        }
    return {
        "error_code": "internal_error",
        "error_message": "the job ended without telling why",
        "error_remedy": "look in the workers' logs, then retry it",
    }
