"""From a checkpoint of MERT v1 95M to an embedder's folder."""

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.building import EmbedderParts, embedder_family
from stemwright.models.embedders.mert.graph import INPUT, OUTPUT, REMEDY, layers_of, mert_graph
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import EmbedderWindows, Preparation

LIKE = "mert-v1-95m"
SAMPLE_RATE = 24_000
LAYERS = 12
# What the study's tool hears of a song. Its attention takes memory that grows with the square of a window, so
# that longer sounds are heard in pieces here; the study's own are of 5 s.
MAX_SAMPLES = 6 * 60 * SAMPLE_RATE
WINDOWS = EmbedderWindows(samples=30 * SAMPLE_RATE, tail="short", rest=399)  # a frame needs 400 samples


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has the network's tensors."""
    needed = {"feature_extractor.conv_layers.0.layer_norm.weight", "feature_projection.projection.weight"}
    return needed <= checkpoint.tensors.keys() and layers_of(checkpoint.tensors) > 0


def architecture_of(checkpoint: Checkpoint) -> str:
    """Return the network's name; raises ModelFileError for another number of layers."""
    if layers_of(checkpoint.tensors) != LAYERS:
        raise ModelFileError(
            f"the checkpoint has {layers_of(checkpoint.tensors)} layers, not {LAYERS}", REMEDY
        )
    return LIKE


def make(checkpoint: Checkpoint, storage: Storage) -> EmbedderParts:
    """Write the graph and say what it is; see `embedders.building.MakeParts`."""
    model, size = mert_graph(checkpoint.tensors, storage)
    return EmbedderParts(
        graph=model,
        sample_rate=SAMPLE_RATE,
        fields={
            "task": "music",
            "description": "MERT v1 95M, layer 12: 75 frames a second, 24 kHz",
            "citation": "Y. Li et al., MERT: Acoustic Music Understanding Model with Large-Scale "
            "Self-supervised Training, ICLR 2024",
            "preparation": Preparation(max_samples=MAX_SAMPLES, normalise="zero_mean_unit_variance"),
            "windows": WINDOWS,
            "input": INPUT,
            "output": OUTPUT,
            "embedding_size": size,
            "statistics_name": "MERT-v1-95M",
        },
    )


MERT = embedder_family(
    name="mert",
    variants=(LIKE,),
    recognises=recognises,
    architecture_of=architecture_of,
    make=make,
)
"""MERT as a family of importable checkpoints."""
