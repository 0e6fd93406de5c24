"""CDPAM's encoder: the graph against the authors' own code on random weights, and its way into the store."""

import dataclasses
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import ModelFileError, SourceUnavailableError
from stemwright.models.checkpoints import Checkpoint, content_digest
from stemwright.models.embedders.cdpam.building import CDPAM
from stemwright.models.embedders.cdpam.graph import Half, cdpam_graph
from stemwright.models.embedders.session import embedder_session
from stemwright.models.registry import catalog as catalogue
from stemwright.models.registry.catalog import CatalogModel, PypiSource
from stemwright.models.registry.importing import ImportOptions, import_file
from stemwright.models.registry.model_files import file_sha256
from stemwright.models.registry.pull import PullOptions, pull
from stemwright.models.registry.store import InstalledEmbedder, ModelStore
from stemwright.models.registry.terms import accept_all
from stemwright.models.sessions.runtimes.contract import SessionOptions
from tests.support.embedder_cases import run_graph, stored_case, write_checkpoint

CPU = SessionOptions(device="cpu", threads=1)


@pytest.mark.parametrize("half", ["acoustic", "content"])
def test_the_graph_is_the_authors_encoder(half: Half) -> None:
    state, sounds = stored_case("cdpam")
    model, size = cdpam_graph(state, half, "float32")
    made = run_graph(model, sounds["sounds"])
    assert made.shape == (3, 1, size)
    np.testing.assert_allclose(made[:, 0], sounds[half], atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(made[:, 0], axis=1), 1.0, atol=1e-5)


def test_any_length_of_a_window_is_heard() -> None:
    state, _ = stored_case("cdpam")
    model, _ = cdpam_graph(state, "acoustic", "float32")
    for samples in (1, 2, 17, 22_050):
        made = run_graph(model, np.ones((1, samples), np.float32))
        assert np.isfinite(made).all()


def test_a_checkpoint_becomes_an_embedder(tmp_path: Path) -> None:
    state, sounds = stored_case("cdpam")
    file = tmp_path / "encoder.pth"
    write_checkpoint(file, state)
    store = ModelStore(tmp_path / "store")
    for name, like in (("one", ""), ("other", "cdpam-content")):
        made = import_file(file, store, ask=accept_all, options=ImportOptions(name=name, like=like))
        assert isinstance(made, InstalledEmbedder)
    assert store.find_any("one").manifest.model_dump()["statistics_name"] == "cdpam-acoustic"
    assert store.find_any("other").manifest.model_dump()["statistics_name"] == "cdpam-content"
    sound = np.round(sounds["sounds"][:1])
    frames = embedder_session("one", CPU, store).embed(np.asarray(sound / 32768, np.float32), 22_050)
    model, _ = cdpam_graph(state, "acoustic", "float32")
    np.testing.assert_allclose(frames, run_graph(model, sound)[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("base_encoder.encoder.3.bias", lambda _: None, "no tensor"),
        ("base_encoder.ebatch.2.running_var", lambda value: -value, "no batch norm"),
        ("base_encoder.encoder.4.weight", lambda value: value[:, :2], "does not fit"),
        ("base_encoder.encoder.1.weight", lambda value: value[0], "is \\["),
        ("base_encoder.encoder.1.bias", lambda value: value * np.nan, "not finite"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, name: str, change: object, told: str) -> None:
    state, _ = stored_case("cdpam")
    changed = change(state.pop(name))  # type: ignore[operator]
    if changed is not None:
        state[name] = changed
    with pytest.raises(ModelFileError, match=told):
        CDPAM.build(Checkpoint(tensors=state, kind="torch"), name="x", folder=tmp_path)


def wheel_of(tmp_path: Path) -> tuple[Path, CatalogModel]:
    """A wheel with the small encoder in it, and its entry in the catalogue."""
    state, _ = stored_case("cdpam")
    file = tmp_path / "weights.pth"
    write_checkpoint(file, state)
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../evil", b"x")
        archive.write(file, "tiny/weights.pth")
    source = PypiSource(
        label="wheel tiny 1.0",
        package="tiny",
        version="1.0",
        wheel_sha256=file_sha256(wheel),
        member="tiny/weights.pth",
        member_sha256=file_sha256(file),
        member_bytes=file.stat().st_size,
    )
    known = next(entry for entry in catalogue.CATALOG if entry.name == "cdpam")
    assert isinstance(known, CatalogModel)
    entry = dataclasses.replace(known, sources=(source,), content_sha256=content_digest(state))
    return wheel, entry


def put_pip_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    pip = folder / "pip"
    pip.write_text(f"#!/bin/sh\n{script}\n")
    pip.chmod(pip.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_pip_brings_the_checked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, entry = wheel_of(tmp_path)
    monkeypatch.setattr(catalogue, "CATALOG", (entry,))
    put_pip_on_path(
        tmp_path, monkeypatch, f'case "$*" in *only-binary=:all:*tiny==1.0) cp {wheel} . ;; *) exit 3 ;; esac'
    )
    store = ModelStore(tmp_path / "store")
    made = pull("cdpam", store, ask=accept_all, options=PullOptions())
    assert isinstance(made, InstalledEmbedder)
    assert made.manifest.origin.source == "wheel tiny 1.0"
    assert made.manifest.origin.verified_by == "its content digest is the known one"
    assert not list(tmp_path.rglob("evil"))
    given = pull("cdpam", store, ask=accept_all, options=PullOptions(given=str(wheel), force=True))
    assert given.sha256 == made.sha256


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'ERROR: No matching distribution found for tiny==1.0' >&2; exit 1", "pip: No matching distr"),
        ("exit 1", "pip: failed without a word"),
        ("exit 0", "pip wrote no package file"),
        ("echo junk > tiny-1.0-py3-none-any.whl", "not the published tiny 1.0: its SHA-256 differs"),
    ],
)
def test_a_failing_pip_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    _, entry = wheel_of(tmp_path)
    monkeypatch.setattr(catalogue, "CATALOG", (entry,))
    put_pip_on_path(tmp_path, monkeypatch, script)
    with pytest.raises(SourceUnavailableError) as caught:
        pull("cdpam", ModelStore(tmp_path / "store"), ask=accept_all, options=PullOptions())
    assert told in caught.value.message
    assert "`pip download --no-deps tiny==1.0`" in caught.value.remedy
    assert "stemwright models pull cdpam --from FILE" in caught.value.remedy
