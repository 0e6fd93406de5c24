"""From a checkpoint of VGGish to an embedder's folder."""

from stemwright.core.features import FeatureBands
from stemwright.core.transforms import Transform
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.building import EmbedderParts, embedder_family
from stemwright.models.embedders.vggish.graph import INPUT, OUTPUT, vggish_graph
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import EmbedderWindows, Preparation

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


def make(checkpoint: Checkpoint, storage: Storage) -> EmbedderParts:
    """Write the graph and say what it is; see `embedders.building.MakeParts`."""
    model, size = vggish_graph(checkpoint.tensors, storage)
    return EmbedderParts(
        graph=model,
        sample_rate=SAMPLE_RATE,
        fields={
            "task": "universal",
            "description": "VGGish, without whitening and last ReLU: 0.96 s of sound a frame, 16 kHz",
            "citation": "S. Hershey et al., CNN Architectures for Large-Scale Audio Classification, "
            "ICASSP 2017",
            "training_data": "YouTube-100M",
            "preparation": Preparation(min_samples=MIN_SAMPLES),
            "windows": WINDOWS,
            "transform": TRANSFORM,
            "bands": BANDS,
            "input": INPUT,
            "output": OUTPUT,
            "embedding_size": size,
            "statistics_name": "vggish",
        },
    )


VGGISH = embedder_family(
    name="vggish",
    variants=(LIKE,),
    recognises=recognises,
    architecture_of=architecture_of,
    make=make,
)
"""VGGish as a family of importable checkpoints."""
