"""From a Demucs checkpoint to a model folder."""

from pathlib import Path

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.demucs.architectures import (
    AUDIO,
    NORMALISATION,
    OFFICIAL_LICENCE,
    OFFICIAL_TRAINING_DATA,
    SAFE_PRECISIONS,
    Architecture,
)
from stemwright.models.demucs.checkpoints import architecture_of, sources_of
from stemwright.models.demucs.plain_states import renamed_tensors
from stemwright.models.graphs.weightless import Rounding, Storage, WeightlessGraph
from stemwright.models.manifest import (
    UNKNOWN_LICENCE,
    Licence,
    Manifest,
    StorageRecord,
    WeightsOrigin,
)
from stemwright.models.registry.model_folder import manifest_of, origin_of, write_model_folder

_MAX_MESSAGE = 2**31 - 1  # a protobuf message ends at 2 GiB


def build_model_folder(
    checkpoint: Checkpoint,
    *,
    name: str,
    folder: Path,
    storage: Storage = "float16",
    licence: Licence = UNKNOWN_LICENCE,
    origin: WeightsOrigin | None = None,
) -> Manifest:
    """Write `model.onnx` and `manifest.json` for a checkpoint.

    Parameters
    ----------
    checkpoint
        Weights of an architecture that a graph is shipped for.
    name
        Name of the model.
    folder
        An existing folder.
    storage
        How weights are stored. `float16` loses nothing: a tensor that would lose something stays
        float32, except in networks (v1) whose float32 does not fit into one file.
    licence
        Terms of the weights.
    origin
        Where they came from and how that was verified; its content digest is filled in here.

    Raises
    ------
    ModelFileError
        There is no graph for this network, or a tensor does not fit it.
    OutputError
        The folder cannot be written.
    """
    architecture = architecture_of(checkpoint)
    origin = origin_of(checkpoint, origin)
    rounding: Rounding = "allowed" if 4 * architecture.parameters > _MAX_MESSAGE else "lossless"
    if rounding == "allowed" and storage == "float32":
        raise ModelFileError(
            f"{architecture.name} in float32 does not fit into one ONNX file of 2 GiB",
            "store it as float16 or int8",
        )
    graph = WeightlessGraph.read(architecture.graph_path)
    model = graph.fill(renamed_tensors(checkpoint), storage, rounding=rounding)
    manifest = _manifest(checkpoint, architecture, name, licence, origin)
    if rounding == "allowed":
        manifest = manifest.model_copy(update={"storage": StorageRecord(kind="float16")})
    return write_model_folder(folder, model, manifest)


def _manifest(
    checkpoint: Checkpoint, architecture: Architecture, name: str, licence: Licence, origin: WeightsOrigin
) -> Manifest:
    return manifest_of(
        name=name,
        family="demucs",
        description=architecture.description,
        licence=licence,
        citation=architecture.citation,
        training_data=OFFICIAL_TRAINING_DATA if licence == OFFICIAL_LICENCE else "",
        stems=sources_of(checkpoint),
        audio=AUDIO,
        plan=architecture.plan,
        graph=architecture.graph,
        normalisation=NORMALISATION,
        origin=origin,
        safe_precisions=SAFE_PRECISIONS.get(origin.content_sha256, ()),
    )
