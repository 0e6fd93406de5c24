"""Installing models from files that the user has.

Complete ones are model folders and single `.onnx` files with their manifest inside; the others are
checkpoints, from which a model is built.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from onnx.external_data_helper import uses_external_data

from stemwright.core.errors import ModelFileError, OptionError, OutputError
from stemwright.models.contract import CheckName
from stemwright.models.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    UNKNOWN_LICENCE,
    Bag,
    Embedder,
    Licence,
    Single,
    Tagger,
    WeightsOrigin,
    read_manifest,
)
from stemwright.models.registry import staging
from stemwright.models.registry.catalog import CatalogModel, entry_told, entry_with_content
from stemwright.models.registry.model_files import (
    check_hashes,
    embedded_manifest,
    file_sha256,
    finish_embedder,
    finish_manifest,
    finish_tagger,
    load_onnx,
    read_single_file,
    record_of,
    recorded_path,
    rewrite_manifest,
)
from stemwright.models.registry.store import AnyInstalled, ModelStore, checked_name
from stemwright.models.registry.terms import AcceptedTerms, Ask
from stemwright.models.registry.trying import try_embedder, try_model, try_tagger
from stemwright.models.registry.workshop import CheckpointWorkshop, Workshop


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How to import.

    Attributes
    ----------
    name
        Name in the store; None for the one that the file gives, or that its weights are known by.
    licence_text
        Terms of a checkpoint whose weights are not known.
    force
        Replace a model of that name.
    like
        What a checkpoint is that does not say it itself (`Family.variants`).
    trial
        `contract`: the model has to keep the contract of every model, which takes up to half a minute;
        one that passed its stored case has shown more than that. `none`: it is taken as it is.
    progress
        Called with the name of each check before it begins.
    """

    name: str | None = None
    licence_text: str | None = None
    force: bool = False
    like: str = ""
    trial: Literal["contract", "none"] = "contract"
    progress: Callable[[CheckName], None] | None = None


def import_file(
    path: Path,
    store: ModelStore,
    *,
    ask: Ask,
    options: ImportOptions | None = None,
    workshop: Workshop | None = None,
) -> AnyInstalled:
    """Install a model from a file.

    Parameters
    ----------
    path
        Model folder, `.onnx` with its manifest inside, or checkpoint of a known architecture.
    store
        Where it goes.
    ask
        Asked for terms that have to be accepted.
    options
        Name, terms, replacing.
    workshop
        Builds the model folder of a checkpoint. Default: the one for all known checkpoints.

    Raises
    ------
    ModelFileError
        Not a model or checkpoint, damaged, hostile, from a newer version, or one that breaks the contract.
    DeviceError
        No runtime to try it with.
    OptionError
        A name is needed, or is not one that a model can have.
    LicenceError
        The terms were not accepted.
    OutputError, ResourceError
        A model of that name exists, or the store cannot be written.
    """
    options = ImportOptions() if options is None else options
    if not path.exists():
        raise ModelFileError(f"{path} does not exist", "check the path")
    if not is_complete_model(path):
        return _import_checkpoint(path, store, ask, options, workshop or CheckpointWorkshop(options.like))
    manifest = complete_manifest(path)
    if options.like:
        raise OptionError(f"{path} is a complete model, which says what it is", "leave --like out")
    if options.licence_text is not None:
        raise OptionError(f"{path} says its terms itself: {manifest.licence.name}", "leave --licence out")
    name = checked_name(options.name or manifest.name)
    AcceptedTerms(store.root).require(manifest.licence, ask, str(path))
    with staging.name_lock(store.root, name):
        _check_free(store, name, options)
        return install_complete(path, store, name, trial=lambda folder: _try(folder, options))


def _try(folder: Path, options: ImportOptions) -> None:
    manifest = read_manifest(folder)
    if isinstance(manifest, Tagger):
        try_tagger(folder)
    elif isinstance(manifest, Embedder):
        try_embedder(folder)
    elif options.trial == "contract":
        try_model(folder, progress=options.progress)


def _import_checkpoint(
    path: Path, store: ModelStore, ask: Ask, options: ImportOptions, workshop: Workshop
) -> AnyInstalled:
    weights = workshop.read(path)
    known = entry_with_content(weights.content_sha256, options.like)
    if options.name is None and known is None:
        raise OptionError(f"{path} does not say what model it is", "give it a name with --name")
    name = checked_name(options.name or (known.name if known else ""))
    licence = _licence(known or entry_told(options.like), options.licence_text, certain=known is not None)
    AcceptedTerms(store.root).require(licence, ask, known.name if known else str(path))
    verified_by = "its content digest is the known one" if known else "nothing: it is the user's own file"
    origin = WeightsOrigin(
        source=str(path),
        file_sha256=file_sha256(path),
        content_sha256=weights.content_sha256,
        verified_by=verified_by,
    )
    with staging.name_lock(store.root, name):
        _check_free(store, name, options)
        with staging.staged_folder(store.root, name) as folder:
            built = weights.build(folder, name=name, licence=licence)
            if isinstance(built, Tagger):
                finish_tagger(folder, origin=origin)
                try_tagger(folder)
                return store.install_any(folder)
            if isinstance(built, Embedder):
                finish_embedder(folder, origin=origin)
                try_embedder(folder)
                return store.install_any(folder)
            parity = workshop.check(folder, weights.content_sha256)
            finish_manifest(folder, origin=origin, parity=parity)
            if parity is None:
                _try(folder, options)
            return store.install(folder)


def _licence(known: CatalogModel | None, text: str | None, *, certain: bool) -> Licence:
    """Return the terms: of known weights theirs, of weights by the user's word too unless he gives some."""
    if known is not None and (certain or text is None):
        return known.licence
    return UNKNOWN_LICENCE if text is None else Licence(name="as told at import", text=text)


def _check_free(store: ModelStore, name: str, options: ImportOptions) -> None:
    if not options.force and (store.root / name).exists():
        raise OutputError(
            f"a model named {name} is installed", "choose another --name, or replace it with --force"
        )


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


def complete_manifest(path: Path) -> Single:
    """Read the manifest of a complete model, tagger or embedder; raises ModelFileError, also for a bag."""
    manifest = read_manifest(path) if path.is_dir() else read_single_file(path)
    if isinstance(manifest, Bag):
        raise ModelFileError(
            f"{path} is a bag, which holds no weights",
            "import its members, then copy its folder to the store",
        )
    return manifest


def install_complete(
    path: Path,
    store: ModelStore,
    name: str | None = None,
    *,
    trial: Callable[[Path], None] | None = None,
) -> AnyInstalled:
    """Install a complete model, checked against its own records; call with the lock of the name held.

    Parameters
    ----------
    path
        Model folder, or `.onnx` with its manifest inside.
    store
        Where it goes.
    name
        Its name in the store; None for the one in its manifest.
    trial
        Called with the complete folder before the model is installed; may raise to refuse it.

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
        if trial is not None:
            trial(folder)
        return store.install_any(folder)


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
