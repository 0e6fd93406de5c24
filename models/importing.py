"""Installing a model that is complete: a model folder, or one `.onnx` with its manifest inside."""

import shutil
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from stemwright.core.errors import ModelFileError
from stemwright.models import staging
from stemwright.models.manifest import GRAPH_FILE, MANIFEST_FILE, Manifest, read_manifest
from stemwright.models.model_files import (
    check_hashes,
    embedded_manifest,
    load_onnx,
    read_single_file,
    record_of,
    recorded_path,
    rewrite_manifest,
)
from stemwright.models.registry import Installed, ModelStore, checked_name


def is_complete_model(path: Path) -> bool:
    """Tell whether a path is a model folder or an `.onnx` with a manifest, rather than a checkpoint.

    Raises
    ------
    ModelFileError
        An `.onnx` that cannot be read, or whose manifest is not valid.
    """
    if path.is_dir():
        return (path / MANIFEST_FILE).is_file()
    if path.suffix != ".onnx" or not path.is_file():
        return False
    return embedded_manifest(load_onnx(path), path) is not None


def complete_manifest(path: Path) -> Manifest:
    """Read the manifest of a complete model; raises ModelFileError, also for a bag."""
    manifest = read_manifest(path) if path.is_dir() else read_single_file(path)
    if not isinstance(manifest, Manifest):
        raise ModelFileError(
            f"{path} is a bag, which holds no weights",
            "import its members, then copy its folder to the store",
        )
    return manifest


def install_complete(path: Path, store: ModelStore, name: str | None = None) -> Installed:
    """Install a complete model, checked against its own records; call with the lock of the name held.

    Parameters
    ----------
    path
        Model folder, or `.onnx` with its manifest inside.
    store
        Where it goes.
    name
        Its name in the store; None for the one in its manifest.

    Raises
    ------
    ModelFileError
        Damaged, hostile or from a newer version.
    OptionError
        The name is not one that a model can have.
    OutputError, ResourceError
        The store cannot be written.
    """
    manifest = complete_manifest(path)
    name = manifest.name if name is None else checked_name(name)
    with staging.staged_folder(store.root, name) as folder:
        if path.is_dir():
            check_hashes(path, manifest.files)
            files = manifest.files
            for record in files:
                _copy(recorded_path(path, record), folder / record.path)
        else:
            _refuse_outside_weights(path)
            _copy(path, folder / GRAPH_FILE)
            files = (record_of(folder / GRAPH_FILE, GRAPH_FILE),)
        rewrite_manifest(folder, manifest, name=name, files=files)
        return store.install(folder)


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise staging.storage_error(target, error) from error


def _refuse_outside_weights(path: Path) -> None:
    """Refuse a single file whose tensors lie in another file: that one is not in any record."""
    model: onnx.ModelProto = load_onnx(path)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            raise ModelFileError(
                f"{path} keeps its weights in another file", "import the model folder instead"
            )
