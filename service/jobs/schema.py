"""Our tables beside DBOS's, and bringing a database up to date.

Times are seconds since 1970 as float. JSON is stored as text that both databases take.
"""

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    select,
)

from stemwright.core.errors import InternalError
from stemwright.service.jobs.database import DBOS_SCHEMA, Database, translated

METADATA = MetaData()

KEYS = Table(
    "sw_key",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("hash", String(200), nullable=False, unique=True, comment="Of the secret; never the secret."),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float),
    Column("revoked_at", Float),
)

SESSIONS = Table(
    "sw_session",
    METADATA,
    Column("hash", String(200), primary_key=True, comment="Of the cookie's secret."),
    Column("key_id", String(40), ForeignKey("sw_key.id", ondelete="CASCADE"), nullable=False),
    Column("csrf", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
)

UPLOADS = Table(
    "sw_upload",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("owner", String(40), nullable=False, index=True, comment="Id of the key, or `local`."),
    Column("filename", Text, nullable=False, comment="As sent, for showing; never part of a path."),
    Column("size", BigInteger, comment="Declared bytes, if declared."),
    Column("received", BigInteger, nullable=False, default=0, comment="Bytes that lie in the storage."),
    Column("complete", Boolean, nullable=False, default=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
)

JOBS = Table(
    "sw_job",
    METADATA,
    Column("id", String(40), primary_key=True, comment="Also the id of the workflow."),
    Column("owner", String(40), nullable=False),
    Column("name", Text, nullable=False),
    Column("queue", String(100), nullable=False),
    Column("model", Text, nullable=False),
    Column("spec", Text, nullable=False, comment="JobSpec as JSON."),
    Column("priority", Integer, nullable=False),
    Column("upload_id", String(40), index=True, comment="Input, until it is removed."),
    Column("example_id", String(40), index=True, comment="Upload with an example of the sound."),
    Column("status", String(20), nullable=False),
    Column("stage", String(20)),
    Column("fraction", Float, nullable=False, default=0.0),
    Column("attempt", Integer, nullable=False, default=0),
    Column("run", String(40), comment="The attempt that may write: older ones are fenced off by it."),
    Column("executor", String(40), comment="The worker of that attempt."),
    Column("kept", String(40), comment="The attempt whose files are the result of `separate`."),
    Column("duration_s", Float),
    Column("run_s", Float, comment="Seconds from begin to end of the attempt that finished."),
    Column("result", Text, comment="The result as JSON, once it has succeeded."),
    Column("stems", Text, comment="Files as JSON, once it has succeeded."),
    Column("error_code", String(100)),
    Column("error_message", Text),
    Column("error_remedy", Text),
    Column("idempotency_key", String(255)),
    Column("body_hash", String(128)),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("expires_at", Float, index=True, comment="Set when it has ended."),
    UniqueConstraint("owner", "idempotency_key", name="sw_job_idempotency"),
    Index("sw_job_newest", "owner", "created_at", "id"),
    Index("sw_job_status", "status", "queue", "created_at"),
)

WORKERS = Table(
    "sw_worker",
    METADATA,
    Column("executor_id", String(40), primary_key=True),
    Column("queue", String(100), nullable=False),
    Column("device", String(100), nullable=False),
    Column("host", String(255)),
    Column("pid", Integer),
    Column("provider", String(100)),
    Column("models", Text, nullable=False, default="[]"),
    Column("job", String(40)),
    Column("seen", Float, nullable=False, index=True, comment="By the database's clock; 0: it has left."),
)

WEBHOOKS = Table(
    "sw_webhook",
    METADATA,
    Column("job_id", String(40), ForeignKey("sw_job.id", ondelete="CASCADE"), primary_key=True),
    Column("url", Text, nullable=False, comment="Called when the job has ended."),
    Column("settled", Float, comment="The job's end that was told, or given up; a retried job ends again."),
    Column("attempts", Integer, nullable=False, default=0, comment="To tell the end that is due."),
    Column("next_at", Float, comment="When to try; NULL where nothing is due."),
    Column("note", Text, comment="How the last attempt ended."),
    Index("sw_webhook_due", "next_at"),
)

JOB_UPLOADS = Table(
    "sw_job_upload",
    METADATA,
    Column("job_id", String(40), ForeignKey("sw_job.id", ondelete="CASCADE"), primary_key=True),
    Column("upload_id", String(40), primary_key=True, index=True, comment="Needed beside the recording."),
)

VERSION = Table("sw_schema", METADATA, Column("version", Integer, primary_key=True))


def _first(connection: Connection) -> None:
    later = (JOB_UPLOADS,)
    METADATA.create_all(connection, [table for table in METADATA.sorted_tables if table not in later])


def _second(connection: Connection) -> None:
    JOB_UPLOADS.create(connection)


# Number n brings version n - 1 to n. One that was released is never changed: the next one changes the tables.
MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_first, _second)


def migrate(url: str) -> None:
    """Bring a database up to date: our tables and DBOS's. Safe when several processes do it at once.

    Raises
    ------
    BusyError
        The database cannot be reached.
    InternalError
        It was made by a newer version.
    """
    database = Database.open(url)
    try:
        with database.writing() as connection:
            database.lock(connection, "schema")
            _migrate(connection)
    finally:
        database.close()
    from dbos import DBOS  # heavy; only who really touches jobs pays

    with translated():
        DBOS.migrate(database.dbos_url, schema=DBOS_SCHEMA)


def _migrate(connection: Connection) -> None:
    VERSION.create(connection, checkfirst=True)
    version = connection.execute(select(VERSION.c.version)).scalar() or 0
    if version > len(MIGRATIONS):
        raise InternalError(
            f"the database has version {version} of the tables, this stemwright knows {len(MIGRATIONS)}",
            "update stemwright here too",
        )
    for step in MIGRATIONS[version:]:
        step(connection)
    if version < len(MIGRATIONS):
        connection.execute(VERSION.delete())
        connection.execute(VERSION.insert().values(version=len(MIGRATIONS)))
