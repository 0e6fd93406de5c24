"""Reading and checking the files of a model: a folder, or a single `.onnx` that carries its manifest."""

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TypeVar, cast

import onnx
from google.protobuf.message import DecodeError

from stemwright.core.errors import ModelFileError
from stemwright.models.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    AnyManifest,
    Embedder,
    FileRecord,
    Manifest,
    Single,
    Tagger,
    parse_manifest,
    read_manifest,
)

AnyModel = TypeVar("AnyModel", bound=Single)
MANIFEST_KEY = "stemwright.manifest"
_OTHERWISE = "import or pull the model again"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def record_of(path: Path, name: str) -> FileRecord:
    """Return the manifest's record of a file that is stored as `name` in the model folder."""
    return FileRecord(path=name, sha256=file_sha256(path), size=path.stat().st_size)


def recorded_path(folder: Path, record: FileRecord) -> Path:
    """Return where a recorded file lies.

    Raises
    ------
    ModelFileError
        The record points out of the model's folder, by its text or through a link.
    """
    pure = PurePosixPath(record.path)
    parts_ok = bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts
    path = folder / record.path
    if not parts_ok or "\\" in record.path or not path.resolve().is_relative_to(folder.resolve()):
        raise ModelFileError(
            f"{folder / MANIFEST_FILE} names a file outside the model's folder: {record.path!r}",
            "do not use this model file",
        )
    return path


def graph_record(manifest: Single, folder: Path, remedy: str = _OTHERWISE) -> FileRecord:
    """Return the record of the graph; raises ModelFileError if the manifest has none."""
    for record in manifest.files:
        if record.path == GRAPH_FILE:
            return record
    raise ModelFileError(f"{folder / MANIFEST_FILE} has no record of {GRAPH_FILE}", remedy)


def check_sizes(folder: Path, records: Iterable[FileRecord], remedy: str = _OTHERWISE) -> None:
    """Check that every recorded file exists with its recorded size (the quick check at each opening).

    Raises
    ------
    ModelFileError
        A file is missing, has another size, or lies outside the folder.
    """
    for record in records:
        path = recorded_path(folder, record)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ModelFileError(f"model file {path} is missing", remedy) from error
        if size != record.size:
            raise ModelFileError(
                f"model file {path} is damaged: {size} bytes, its manifest says {record.size}", remedy
            )


def check_hashes(folder: Path, records: Iterable[FileRecord], remedy: str = _OTHERWISE) -> None:
    """Check size and SHA-256 of every recorded file; raises ModelFileError as check_sizes does."""
    kept = tuple(records)
    check_sizes(folder, kept, remedy)
    for record in kept:
        path = recorded_path(folder, record)
        if file_sha256(path) != record.sha256:
            raise ModelFileError(
                f"model file {path} is damaged: its SHA-256 differs from its manifest's", remedy
            )


def rewrite_manifest(folder: Path, manifest: AnyModel, **fields: object) -> AnyModel:
    """Write `manifest.json` with some fields changed; the whole is validated again."""
    changed = cast(AnyModel, type(manifest).model_validate(manifest.model_dump() | fields))
    (folder / MANIFEST_FILE).write_text(changed.model_dump_json(indent=1), encoding="utf-8")
    return changed


def finish_manifest(folder: Path, **fields: object) -> Manifest:
    """Record the files that lie in a folder with a manifest, and change some of its fields.

    Raises
    ------
    ModelFileError
        The folder has no manifest of a single model.
    """
    manifest = read_manifest(folder)
    if not isinstance(manifest, Manifest):
        raise ModelFileError(f"{folder} is a {manifest.kind}, not a single model", "give a single model")
    return rewrite_manifest(folder, manifest, files=_records(folder), **fields)


def finish_tagger(folder: Path, **fields: object) -> Tagger:
    """Do the same for a tagger's folder; raises ModelFileError if it is none."""
    manifest = read_manifest(folder)
    if not isinstance(manifest, Tagger):
        raise ModelFileError(f"{folder} is a {manifest.kind}, not a tagger", "give a tagger")
    return rewrite_manifest(folder, manifest, files=_records(folder), **fields)


def finish_embedder(folder: Path, **fields: object) -> Embedder:
    """Do the same for an embedder's folder; raises ModelFileError if it is none."""
    manifest = read_manifest(folder)
    if not isinstance(manifest, Embedder):
        raise ModelFileError(f"{folder} is a {manifest.kind}, not an embedder", "give an embedder")
    return rewrite_manifest(folder, manifest, files=_records(folder), **fields)


def _records(folder: Path) -> list[FileRecord]:
    return [
        record_of(path, path.relative_to(folder).as_posix())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST_FILE
    ]


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file without following external data.

    Raises
    ------
    ModelFileError
        The file cannot be read or is not an ONNX model.
    """
    try:
        return onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}", "check the path") from error
    except (DecodeError, ValueError) as error:
        raise ModelFileError(f"{path} is not an ONNX model, or it is damaged", _OTHERWISE) from error


def embedded_manifest(model: onnx.ModelProto, where: Path) -> AnyManifest | None:
    """Return the manifest that a single-file model carries in its metadata, None if it carries none."""
    for entry in model.metadata_props:
        if entry.key == MANIFEST_KEY:
            return parse_manifest(entry.value, where=str(where))
    return None


def read_single_file(path: Path) -> Manifest:
    """Read the manifest of a model that is one `.onnx` file.

    Raises
    ------
    ModelFileError
        Not an ONNX model, or it carries no manifest of a single model.
    """
    manifest = embedded_manifest(load_onnx(path), path)
    if not isinstance(manifest, Manifest):
        raise ModelFileError(
            f"{path} carries no manifest in its metadata (key {MANIFEST_KEY})",
            "use a model folder, or a file written by `stemwright models save --single-file`",
        )
    return manifest
