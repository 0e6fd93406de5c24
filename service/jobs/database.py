"""The one database of the service: SQLite for one machine, PostgreSQL for many."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, Float, create_engine, event, func, literal_column, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.sql import ColumnElement

from stemwright.service.errors import BusyError

DBOS_SCHEMA = "dbos"
_BUSY_TIMEOUT_MS = 30_000

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Database:
    """An engine, and what differs between the two databases.

    Parameters
    ----------
    url
        With the driver that is used.
    engine
        Hands out connections.
    """

    url: URL
    engine: Engine

    @classmethod
    def open(cls, url: str, *, pool_size: int = 5) -> Self:
        """Prepare connections; none is made yet.

        Raises
        ------
        BusyError
            The folder of an SQLite file cannot be made.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            with translated():
                Path(parsed.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(parsed, pool_size=pool_size, max_overflow=pool_size, pool_timeout=30)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            parsed = parsed.set(drivername="postgresql+psycopg")
            engine = create_engine(
                parsed, pool_size=pool_size, max_overflow=pool_size, pool_timeout=30, pool_pre_ping=True
            )
        return cls(url=parsed, engine=engine)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def dbos_url(self) -> str:
        """The URL as DBOS takes it."""
        return self.url.render_as_string(hide_password=False)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Connect for reading.

        Raises
        ------
        BusyError
            The database does not answer.
        """
        with translated(), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Connect for a transaction that is committed at the end, undone on an exception.

        On SQLite it holds the write lock from the beginning, so that what it reads stays true.

        Raises
        ------
        BusyError
            The database does not answer.
        """
        with translated(), self.engine.connect() as connection:
            connection.execution_options(stemwright_writes=True)
            with connection.begin():
                yield connection

    def lock(self, connection: Connection, name: str) -> None:
        """Hold what a name stands for until the transaction ends; SQLite holds everything already."""
        if not self.is_sqlite:
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name}
            )

    @property
    def now(self) -> ColumnElement[float]:
        """The database's clock, seconds since 1970, as an expression."""
        if self.is_sqlite:
            return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float)
        return literal_column("extract(epoch from clock_timestamp())::float8", Float)

    def ping(self) -> None:
        """Ask for a sign of life.

        Raises
        ------
        BusyError
            It gives none.
        """
        with self.reading() as connection:
            connection.execute(select(func.count(literal_column("1"))))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def patient(work: Callable[[], T], limit_s: float = math.inf) -> T:
    """Call something that talks to the database or the storage, again and again while that is away.

    Parameters
    ----------
    work
        What to call; twice must do no harm.
    limit_s
        How long to go on.

    Raises
    ------
    BusyError
        It stays away.
    """
    until = time.monotonic() + limit_s
    pause = 0.2
    while True:
        try:
            return work()
        except BusyError as error:
            if time.monotonic() > until:
                raise
            _LOG.warning("%s; trying again", error.message)
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn a database that is away or overloaded into our error; other faults of its stay faults."""
    try:
        yield
    except (OperationalError, InterfaceError, TimeoutError, OSError) as error:
        raise _busy(error) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise _busy(error) from error
    except SQLAlchemyError as error:
        if type(error).__name__ != "TimeoutError":  # of the pool
            raise
        raise _busy(error) from error


def _busy(error: BaseException) -> BusyError:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return BusyError(f"the database does not answer: {cause[0]}", "try again in a moment", retry_after_s=5)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us, in `_begin_sqlite`
    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("stemwright_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
