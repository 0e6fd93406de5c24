"""From CDPAM's checkpoint to an embedder's folder."""

from pathlib import Path

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.building import write_embedder
from stemwright.models.embedders.cdpam.graph import INPUT, OUTPUT, Half, cdpam_graph
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import (
    UNKNOWN_LICENCE,
    Embedder,
    EmbedderWindows,
    Licence,
    Preparation,
    WeightsOrigin,
)
from stemwright.models.registry.family import Family

ACOUSTIC, CONTENT = "cdpam", "cdpam-content"
SAMPLE_RATE = 22_050
SCALE = 32_768.0  # the encoder was trained on 16-bit integers


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has the encoder's tensors."""
    return {"base_encoder.encoder.0.weight", "base_encoder.ebatch.0.running_var"} <= checkpoint.tensors.keys()


def architecture_of(checkpoint: Checkpoint) -> str:
    """Return the name of what is made of the checkpoint."""
    return CONTENT if checkpoint.like == CONTENT else ACOUSTIC


def build_embedder_folder(
    checkpoint: Checkpoint,
    *,
    name: str,
    folder: Path,
    storage: Storage = "float16",
    licence: Licence = UNKNOWN_LICENCE,
    origin: WeightsOrigin | None = None,
) -> Embedder:
    """Write `model.onnx` and `manifest.json` for a checkpoint, see `registry.family.BuildFolder`."""
    half: Half = "content" if architecture_of(checkpoint) == CONTENT else "acoustic"
    model, size = cdpam_graph(checkpoint.tensors, half, storage)
    return write_embedder(
        folder,
        model,
        checkpoint,
        name=name,
        family="cdpam",
        task="universal",
        description=f"CDPAM, {half} half of its encoder: 1 s of sound a frame, 22.05 kHz",
        licence=licence,
        citation="P. Manocha, Z. Jin, R. Zhang, A. Finkelstein, CDPAM: Contrastive Learning for Perceptual "
        "Audio Similarity, ICASSP 2021",
        sample_rate=SAMPLE_RATE,
        preparation=Preparation(scale=SCALE),
        windows=EmbedderWindows(samples=SAMPLE_RATE, tail="short"),
        input=INPUT,
        output=OUTPUT,
        embedding_size=size,
        statistics_name=f"cdpam-{half}",
        origin=origin,
    )


CDPAM = Family(
    name="cdpam",
    variants=(ACOUSTIC, CONTENT),
    recognises=recognises,
    architecture_of=architecture_of,
    build=build_embedder_folder,
)
"""CDPAM as a family of importable checkpoints."""
