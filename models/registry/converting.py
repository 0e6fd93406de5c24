"""Models whose weights are stored in fewer bits, with what that was measured to cost in their manifests."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import EncodeError

from stemwright.core.errors import ModelFileError, OptionError, OutputError
from stemwright.models.graphs.storing import same_weights, stored_as
from stemwright.models.manifest import (
    GRAPH_FILE,
    Manifest,
    PrecisionRecord,
    StorageKind,
    StorageRecord,
    read_manifest,
)
from stemwright.models.measuring import EXCERPT_S, Comparison, compare_models
from stemwright.models.registry import staging
from stemwright.models.registry.importing import install_complete
from stemwright.models.registry.model_files import finish_manifest, load_onnx
from stemwright.models.registry.store import Installed, InstalledModel, ModelStore, checked_name, open_model


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How to measure what storing weights otherwise costs.

    Attributes
    ----------
    folder
        Songs with true stems (`measuring.song_folders`).
    seconds
        Length of the excerpt of each.
    note
        Told what is being done.
    """

    folder: Path
    seconds: float = EXCERPT_S
    note: Callable[[str], None] = lambda _: None


def convert_model(
    model: Installed,
    store: ModelStore,
    name: str,
    storage: StorageKind,
    *,
    measure: Measure | None = None,
    replace: bool = False,
) -> InstalledModel:
    """Install another copy of a model with its weights stored otherwise.

    Parameters
    ----------
    model
        An installed model; not a bag.
    store
        Where the copy goes.
    name
        Its name.
    storage
        How its weights are stored.
    measure
        Measures the cost against `model`; None: it is not measured.
    replace
        Replace a model of that name.

    Raises
    ------
    OptionError
        The model is a bag, a name that no model can have, or no songs to measure on.
    ModelFileError
        The model's files are damaged, or what becomes of it does not fit into one file.
    OutputError, ResourceError
        A model of that name exists, or the store cannot be written.
    """
    if not isinstance(model, InstalledModel):
        raise OptionError(f"{model.name} is a bag of models", "convert its members")
    name = checked_name(name)

    def convert(folder: Path) -> None:
        store_weights_as(folder, storage, measure=measure)

    with staging.name_lock(store.root, name):
        if not replace and (store.root / name).exists():
            raise OutputError(f"a model named {name} is installed", "choose another name, or give --force")
        installed = install_complete(model.folder, store, name, trial=convert)
    if not isinstance(installed, InstalledModel):
        raise ModelFileError(f"{name} is no single model", "convert a single model")
    return installed


def store_weights_as(folder: Path, storage: StorageKind, *, measure: Measure | None = None) -> Manifest:
    """Change how the weights in a model folder are stored, and write it into its manifest.

    Unless no weight changed, the stored case, which was run with the weights as they were, is taken out.
    Precisions that were measured with them stay if the change is measured too: its loss is added to theirs,
    as noises of different origin add. Otherwise they are taken out.

    Parameters
    ----------
    folder
        A model folder, changed in place.
    storage, measure
        See `convert_model`.

    Raises
    ------
    ModelFileError
        The folder holds no single model, or its graph does not fit into one file.
    OptionError
        No songs to measure on.
    """
    manifest = read_manifest(folder)
    if not isinstance(manifest, Manifest):
        raise ModelFileError(f"{folder} is a {manifest.kind}, not a single model", "give a single model")
    with tempfile.TemporaryDirectory() as place:
        before = Path(place) / "before"
        if measure is not None:
            shutil.copytree(folder, before)
        if _rewrite_graph(folder / GRAPH_FILE, storage):
            return finish_manifest(folder)
        record = StorageRecord(kind=storage)
        finish_manifest(folder, storage=record.model_dump(), parity=None, safe_precisions=())
        if measure is not None:
            comparison = _compare(before, folder, measure)
            record = StorageRecord(
                kind=storage,
                sdr_change_db=round(comparison.worst, 4),
                measured_on=f"{comparison.songs} songs, {comparison.seconds:g} s of each",
            )
            precisions = _with_loss(manifest.safe_precisions, -comparison.worst)
            return finish_manifest(folder, storage=record.model_dump(), safe_precisions=precisions)
    return finish_manifest(folder, storage=record.model_dump())


def _with_loss(records: tuple[PrecisionRecord, ...], loss_db: float) -> list[dict[str, object]]:
    """Add a loss to what each precision was measured to lose; a gain makes none of them better."""
    added = max(0.0, loss_db)
    return [
        record.model_copy(update={"sdr_loss_db": round(record.sdr_loss_db + added, 4)}).model_dump()
        for record in records
    ]


def _rewrite_graph(path: Path, storage: StorageKind) -> bool:
    """Rewrite a graph; returns whether all its weights are what they were."""
    before = load_onnx(path)
    made = stored_as(before, storage)
    try:
        data = made.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ModelFileError(
            f"weights in {storage} do not fit into one ONNX file of 2 GiB", "store them in fewer bits"
        ) from error
    path.write_bytes(data)
    return storage != "int8" and same_weights(before, made)


def _compare(before: Path, after: Path, measure: Measure) -> Comparison:
    return compare_models(
        open_model(before), open_model(after), measure.folder, seconds=measure.seconds, note=measure.note
    )
