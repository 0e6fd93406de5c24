"""From a checkpoint of an IBM-CNN to a model folder."""

from pathlib import Path

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.graphs.weightless import Storage, WeightlessGraph
from stemwright.models.ibm_cnn.architectures import (
    AUDIO,
    CITATION,
    DESCRIPTION,
    GRAPH_PATH,
    PAPER,
    PLAN,
    graph,
)
from stemwright.models.ibm_cnn.checkpoints import OURS, TENSORFLOW, config_of, recognises, tensors_of
from stemwright.models.ibm_cnn.configs import STEMS, IBMCNNConfig
from stemwright.models.manifest import UNKNOWN_LICENCE, Licence, Manifest, WeightsOrigin
from stemwright.models.registry.family import Family
from stemwright.models.registry.model_folder import manifest_of, origin_of, write_model_folder


def make_manifest(config: IBMCNNConfig, *, name: str, licence: Licence, origin: WeightsOrigin) -> Manifest:
    """Make the manifest of a network of this configuration; raises ModelFileError for an impossible name."""
    return manifest_of(
        name=name,
        family="ibm_cnn",
        task="singing",
        description=DESCRIPTION,
        licence=licence,
        citation=CITATION,
        stems=STEMS,
        remainder=STEMS[-1],
        audio=AUDIO,
        plan=PLAN,
        graph=graph(config),
        origin=origin,
    )


def build_model_folder(
    checkpoint: Checkpoint,
    *,
    name: str,
    folder: Path,
    storage: Storage = "float16",
    licence: Licence = UNKNOWN_LICENCE,
    origin: WeightsOrigin | None = None,
) -> Manifest:
    """Write `model.onnx` and `manifest.json` for a checkpoint, see `registry.family.BuildFolder`."""
    architecture_of(checkpoint)
    origin = origin_of(checkpoint, origin)
    manifest = make_manifest(config_of(checkpoint), name=name, licence=licence, origin=origin)
    model = WeightlessGraph.read(GRAPH_PATH).fill(tensors_of(checkpoint), storage)
    return write_model_folder(folder, model, manifest)


def architecture_of(checkpoint: Checkpoint) -> str:
    """Return the graph's name; raises ModelFileError if none is shipped for the network."""
    config = config_of(checkpoint)
    if config.same_network != IBMCNNConfig().same_network:
        raise ModelFileError(
            f"no graph is shipped for an IBM-CNN with channels {config.channels} and hidden {config.hidden}",
            "export it where it was trained: stemwright.models.ibm_cnn.export",
        )
    return PAPER


IBM_CNN = Family(
    name="ibm_cnn",
    variants=(OURS, TENSORFLOW),
    recognises=recognises,
    architecture_of=architecture_of,
    build=build_model_folder,
)
"""The IBM-CNN as a family of importable checkpoints."""
