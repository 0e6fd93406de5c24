"""One server for all tests of the session that can share it: each test has a key, and so jobs, of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.api.site import Site, open_site, write_manifest


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    write_manifest(folder / "models", "htdemucs", ["drums", "bass", "other", "vocals"], family="demucs")
    write_manifest(folder / "models", "speakers", ["speaker_1", "speaker_2"], stem_kind="interchangeable")
    write_manifest(folder / "models", "sounds", ["target"], stem_kind="query")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("STEMWRIGHT_")]:
            patch.delenv(name)
        with open_site(folder) as opened:
            yield opened


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with site.client() as opened:
        yield opened


@pytest.fixture
def other(site: Site) -> Iterator[httpx.Client]:
    """A client with another key."""
    with site.client() as opened:
        yield opened


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that commands in this process take for the service's."""
    for name in [name for name in os.environ if name.startswith("STEMWRIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STEMWRIGHT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"
