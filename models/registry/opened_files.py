"""Opening the files of one model: a folder, a single `.onnx`, or what comes with the package."""

from pathlib import Path

from stemwright.core.errors import ModelFileError, OptionError
from stemwright.models.manifest import GRAPH_FILE, Embedder, FileRecord, Manifest, Tagger, read_manifest
from stemwright.models.registry.installed import (
    AnyInstalled,
    Installed,
    InstalledEmbedder,
    InstalledModel,
    InstalledTagger,
)
from stemwright.models.registry.model_files import check_sizes, file_sha256, graph_record, read_single_file
from stemwright.models.registry.shipped import SHIPPED

_REMEDY = "import or pull the model again"
_REMEDY_SHIPPED = "install stemwright again"


def shipped_model(name: str) -> InstalledModel | InstalledTagger:
    """Open a model of the package; raises ModelFileError if the installation is damaged."""
    folder = SHIPPED[name]
    manifest = read_manifest(folder)
    if isinstance(manifest, Tagger):
        return tagger_in(folder, manifest, _REMEDY_SHIPPED)
    if isinstance(manifest, Manifest):
        return model_in(name, folder, manifest, _REMEDY_SHIPPED)
    raise ModelFileError(f"{folder} holds no model", _REMEDY_SHIPPED)


def model_of_file(path: Path) -> InstalledModel:
    """Open a single file; its record cannot stand inside itself, so that it is made here."""
    manifest = read_single_file(path)
    record = FileRecord(path=path.name, sha256=file_sha256(path), size=path.stat().st_size)
    return InstalledModel(
        name=manifest.name,
        folder=path.parent,
        manifest=manifest.model_copy(update={"files": (record,)}),
        graph_path=path,
        sha256=record.sha256,
    )


def model_in(name: str, folder: Path, manifest: Manifest, remedy: str = _REMEDY) -> InstalledModel:
    """Open a model's folder after the quick check (sizes); raises ModelFileError as check_sizes does."""
    record = graph_record(manifest, folder, remedy)
    check_sizes(folder, manifest.files, remedy)
    return InstalledModel(
        name=name, folder=folder, manifest=manifest, graph_path=folder / GRAPH_FILE, sha256=record.sha256
    )


def tagger_in(folder: Path, manifest: Tagger, remedy: str = _REMEDY) -> InstalledTagger:
    """Open a tagger's folder after the quick check (sizes); raises ModelFileError as check_sizes does."""
    record = graph_record(manifest, folder, remedy)
    check_sizes(folder, manifest.files, remedy)
    return InstalledTagger(
        name=manifest.name,
        folder=folder,
        manifest=manifest,
        graph_path=folder / GRAPH_FILE,
        sha256=record.sha256,
    )


def embedder_in(folder: Path, manifest: Embedder, remedy: str = _REMEDY) -> InstalledEmbedder:
    """Open an embedder's folder after the quick check (sizes); raises ModelFileError as check_sizes does."""
    record = graph_record(manifest, folder, remedy)
    check_sizes(folder, manifest.files, remedy)
    return InstalledEmbedder(
        name=manifest.name,
        folder=folder,
        manifest=manifest,
        graph_path=folder / GRAPH_FILE,
        sha256=record.sha256,
    )


def separating(found: AnyInstalled) -> Installed:
    """Return what separates as it is; raises OptionError for a tagger or an embedder."""
    if isinstance(found, InstalledEmbedder):
        raise OptionError(
            f"{found.name} is an embedder: it measures likeness and separates nothing",
            f"use it with `stemwright eval score --metric mse:{found.name}`, or name a model that separates",
        )
    if isinstance(found, InstalledTagger):
        raise OptionError(
            f"{found.name} is a tagger: it hears which sounds there are and separates none",
            f"use it with `stemwright detect --tagger {found.name}`, or name a model that separates",
        )
    return found
