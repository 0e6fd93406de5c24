"""From a checkpoint of VGGish to an embedder's folder."""

from pathlib import Path

from stemwright.core.features import FeatureBands
from stemwright.core.transforms import Transform
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.building import write_embedder
from stemwright.models.embedders.vggish.graph import INPUT, OUTPUT, vggish_graph
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

LIKE = "vggish"
SAMPLE_RATE = 16_000
TRANSFORM = Transform(n_fft=512, hop=160, window_length=400, padding="none")
BANDS = FeatureBands(bands=64, low_hz=125.0, high_hz=7500.0, scale="htk", log="natural", floor=0.01)
WINDOWS = EmbedderWindows(samples=15_600, hop=15_360, tail="dropped")  # 96 frames each, none twice
MIN_SAMPLES = 16_000  # fadtk fills shorter sounds up to 1 s


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has the network's tensors."""
    return {"features.13.weight", "embeddings.4.weight"} <= checkpoint.tensors.keys()


def architecture_of(checkpoint: Checkpoint) -> str:
    """Return the network's name."""
    return LIKE


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
    model, size = vggish_graph(checkpoint.tensors, storage)
    return write_embedder(
        folder,
        model,
        checkpoint,
        name=name,
        family="vggish",
        task="universal",
        description="VGGish, without whitening and last ReLU: 0.96 s of sound a frame, 16 kHz",
        licence=licence,
        citation="S. Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP 2017",
        training_data="YouTube-100M",
        sample_rate=SAMPLE_RATE,
        preparation=Preparation(min_samples=MIN_SAMPLES),
        windows=WINDOWS,
        transform=TRANSFORM,
        bands=BANDS,
        input=INPUT,
        output=OUTPUT,
        embedding_size=size,
        statistics_name="vggish",
        origin=origin,
    )


VGGISH = Family(
    name="vggish",
    variants=(LIKE,),
    recognises=recognises,
    architecture_of=architecture_of,
    build=build_embedder_folder,
)
"""VGGish as a family of importable checkpoints."""
