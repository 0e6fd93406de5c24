"""From a checkpoint of Music2Latent to an embedder's folder."""

from pathlib import Path

from stemwright.core.transforms import Transform
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.building import write_embedder
from stemwright.models.embedders.music2latent.graph import INPUT, OUTPUT, PREFIX, music2latent_graph
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import UNKNOWN_LICENCE, Embedder, EmbedderWindows, Licence, WeightsOrigin
from stemwright.models.registry.family import Family

LIKE = "music2latent"
SAMPLE_RATE = 44_100
HOP = 512
TRANSFORM = Transform(n_fft=4 * HOP, hop=HOP, padding="none", kept_bins=2 * HOP)
FRAMES_A_LATENT = 8
STEP = HOP * FRAMES_A_LATENT
REST = 3 * HOP
# The package cuts sounds of more than a minute into pieces of so many frames, and fills the last with a copy
# of the first frames, which is cut off again; here it stays short.
_PIECE = 60 * SAMPLE_RATE // HOP // FRAMES_A_LATENT * STEP
WINDOWS = EmbedderWindows(samples=_PIECE + REST, hop=_PIECE, tail="short", multiple=STEP, rest=REST)


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has the encoder's tensors."""
    return {f"{PREFIX}.gain.scale", f"{PREFIX}.conv_out.weight"} <= checkpoint.tensors.keys()


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
    model, size = music2latent_graph(checkpoint.tensors, storage)
    return write_embedder(
        folder,
        model,
        checkpoint,
        name=name,
        family="music2latent",
        task="music",
        description="Music2Latent's encoder: 10.8 frames a second, 44.1 kHz",
        licence=licence,
        citation="M. Pasini, S. Lattner, G. Fazekas, Music2Latent: Consistency Autoencoders for Latent Audio "
        "Compression, ISMIR 2024",
        sample_rate=SAMPLE_RATE,
        windows=WINDOWS,
        transform=TRANSFORM,
        input=INPUT,
        output=OUTPUT,
        embedding_size=size,
        origin=origin,
    )


MUSIC2LATENT = Family(
    name="music2latent",
    variants=(LIKE,),
    recognises=recognises,
    architecture_of=architecture_of,
    build=build_embedder_folder,
)
"""Music2Latent as a family of importable checkpoints."""
