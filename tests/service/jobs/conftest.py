"""The same tests on SQLite with a folder, and on PostgreSQL with S3; workers are processes of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.jobs.service import Service
from tests.support.servers import (
    Backend,
    PostgresServer,
    make_bucket,
    postgres_server,
    s3_options,
    s3_server,
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["sqlite+folder", "postgres+s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "sqlite+folder":
        yield Backend(name=request.param, settings={})
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    endpoint: str = request.getfixturevalue("s3")
    url = server.database()
    settings = {
        "database_url": url,
        "storage_url": f"s3://{make_bucket(endpoint)}/stemwright",
        "storage_options": s3_options(endpoint),
    }
    yield Backend(name=request.param, settings=settings, postgres=server)
    server.drop(url)


@pytest.fixture
def service(backend: Backend, tmp_path: Path) -> Iterator[Service]:
    with Service.open(tmp_path, backend) as opened:
        yield opened
