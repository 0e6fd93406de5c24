"""From a checkpoint of Music2Latent to an embedder's folder."""

from stemwright.core.transforms import Transform
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.building import EmbedderParts, embedder_family
from stemwright.models.embedders.music2latent.graph import INPUT, OUTPUT, PREFIX, music2latent_graph
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import EmbedderWindows

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


def make(checkpoint: Checkpoint, storage: Storage) -> EmbedderParts:
    """Write the graph and say what it is; see `embedders.building.MakeParts`."""
    model, size = music2latent_graph(checkpoint.tensors, storage)
    return EmbedderParts(
        graph=model,
        sample_rate=SAMPLE_RATE,
        fields={
            "task": "music",
            "description": "Music2Latent's encoder: 10.8 frames a second, 44.1 kHz",
            "citation": "M. Pasini, S. Lattner, G. Fazekas, Music2Latent: Consistency Autoencoders for "
            "Latent Audio Compression, ISMIR 2024",
            "windows": WINDOWS,
            "transform": TRANSFORM,
            "input": INPUT,
            "output": OUTPUT,
            "embedding_size": size,
        },
    )


MUSIC2LATENT = embedder_family(
    name="music2latent",
    variants=(LIKE,),
    recognises=recognises,
    architecture_of=architecture_of,
    make=make,
)
"""Music2Latent as a family of importable checkpoints."""
