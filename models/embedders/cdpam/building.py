"""From CDPAM's checkpoint to an embedder's folder."""

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.building import EmbedderParts, embedder_family
from stemwright.models.embedders.cdpam.graph import INPUT, OUTPUT, Half, cdpam_graph
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import EmbedderWindows, Preparation

ACOUSTIC, CONTENT = "cdpam", "cdpam-content"
SAMPLE_RATE = 22_050
SCALE = 32_768.0  # the encoder was trained on 16-bit integers


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has the encoder's tensors."""
    return {"base_encoder.encoder.0.weight", "base_encoder.ebatch.0.running_var"} <= checkpoint.tensors.keys()


def architecture_of(checkpoint: Checkpoint) -> str:
    """Return the name of what is made of the checkpoint."""
    return CONTENT if checkpoint.like == CONTENT else ACOUSTIC


def make(checkpoint: Checkpoint, storage: Storage) -> EmbedderParts:
    """Write the graph and say what it is; see `embedders.building.MakeParts`."""
    half: Half = "content" if architecture_of(checkpoint) == CONTENT else "acoustic"
    model, size = cdpam_graph(checkpoint.tensors, half, storage)
    return EmbedderParts(
        graph=model,
        sample_rate=SAMPLE_RATE,
        fields={
            "task": "universal",
            "description": f"CDPAM, {half} half of its encoder: 1 s of sound a frame, 22.05 kHz",
            "citation": "P. Manocha, Z. Jin, R. Zhang, A. Finkelstein, CDPAM: Contrastive Learning for "
            "Perceptual Audio Similarity, ICASSP 2021",
            "preparation": Preparation(scale=SCALE),
            "windows": EmbedderWindows(samples=SAMPLE_RATE, tail="short"),
            "input": INPUT,
            "output": OUTPUT,
            "embedding_size": size,
            "statistics_name": f"cdpam-{half}",
        },
    )


CDPAM = embedder_family(
    name="cdpam",
    variants=(ACOUSTIC, CONTENT),
    recognises=recognises,
    architecture_of=architecture_of,
    make=make,
)
"""CDPAM as a family of importable checkpoints."""
