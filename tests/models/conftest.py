"""What the tests of pulling share."""

from collections.abc import Iterator

import pytest

from stemwright.models.registry.catalog import (
    CatalogEntry,
)
from tests.support.model_host import ModelHost, model_host


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHost]:
    monkeypatch.setenv("NO_PROXY", "*")
    with model_host() as running:
        yield running


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> dict[str, CatalogEntry]:
    known: dict[str, CatalogEntry] = {}
    monkeypatch.setattr("stemwright.models.registry.pull.catalog_entry", known.get)
    return known
