"""Our tables beside DBOS's, and bringing a database up to date.

Times are seconds since 1970 as float. JSON is stored as text that both databases take.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

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
    Column("size", Integer().with_variant(Integer, "sqlite"), comment="Declared bytes, if declared."),
    Column("received", Integer, nullable=False, default=0, comment="Bytes that lie in the storage."),
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
    Column("status", String(20), nullable=False),
    Column("stage", String(20)),
    Column("fraction", Float, nullable=False, default=0.0),
    Column("attempt", Integer, nullable=False, default=0),
    Column("run", String(40), comment="The attempt that may write: older ones are fenced off by it."),
    Column("executor", String(40), comment="The worker of that attempt."),
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
    Column("provider", String(100)),
    Column("models", Text, nullable=False, default="[]"),
    Column("job", String(40)),
    Column("seen", Float, nullable=False, index=True, comment="By the database's clock; 0: it has left."),
)


def migrate(url: str) -> None:
    """Bring a database up to date: our tables and DBOS's. Safe when several processes do it at once."""
    raise NotImplementedError
