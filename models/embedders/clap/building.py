"""From a checkpoint of LAION-CLAP to an embedder's folder."""

from collections.abc import Mapping

from stemwright.core.errors import ModelFileError
from stemwright.core.features import FeatureBands
from stemwright.core.transforms import Transform
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.checkpoints.checkpoint import FloatArray
from stemwright.models.embedders.building import EmbedderParts, embedder_family
from stemwright.models.embedders.clap.graph import BRANCH, INPUT, OUTPUT, PROJECTION, REMEDY, clap_graph
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import EmbedderWindows, Preparation

AUDIO, MUSIC = "clap-laion-audio", "clap-laion-music"
SAMPLE_RATE = 48_000
TRANSFORM = Transform(n_fft=1024, hop=480)
BANDS = FeatureBands(
    bands=64, low_hz=50.0, high_hz=14_000.0, scale="slaney", norm="slaney", power=2, log="db", floor=1e-10
)
WINDOWS = EmbedderWindows(samples=10 * SAMPLE_RATE, hop=SAMPLE_RATE, tail="zeros")
_PREFIX = "module."
_FIRST = f"{BRANCH}.patch_embed.proj.weight"
_SIZES = {96: AUDIO, 128: MUSIC}  # channels of the first layer: HTSAT-tiny and HTSAT-base


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has the tensors of the audio branch."""
    return {_FIRST, f"{PROJECTION}.2.bias"} <= audio_tensors(checkpoint.tensors).keys()


def audio_tensors(tensors: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the tensors of the audio branch and its projection, without a leading `module.`."""
    bare = {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
    return {name: value for name, value in bare.items() if name.startswith((f"{BRANCH}.", f"{PROJECTION}."))}


def architecture_of(checkpoint: Checkpoint) -> str:
    """Return which network it is, as told or by its first layer; raises ModelFileError for others."""
    tensors = audio_tensors(checkpoint.tensors)
    if f"{BRANCH}.patch_embed.mel_conv2d.weight" in tensors:
        raise ModelFileError("the checkpoint is of CLAP with feature fusion", REMEDY)
    if _FIRST not in tensors:
        raise ModelFileError("the checkpoint has no audio branch of CLAP", REMEDY)
    by_size = _SIZES.get(tensors[_FIRST].shape[0], "")
    if checkpoint.like and by_size and by_size != checkpoint.like:
        raise ModelFileError(f"the checkpoint is of the size of {by_size}, not {checkpoint.like}", REMEDY)
    return checkpoint.like or by_size or "clap-laion"


def make(checkpoint: Checkpoint, storage: Storage) -> EmbedderParts:
    """Write the graph and say what it is; see `embedders.building.MakeParts`."""
    model, size = clap_graph(audio_tensors(checkpoint.tensors), storage)
    return EmbedderParts(
        graph=model,
        sample_rate=SAMPLE_RATE,
        fields={
            "task": "universal",
            "description": "LAION-CLAP, audio branch: 10 s of sound every second, 48 kHz",
            "citation": "Y. Wu et al., Large-scale Contrastive Language-Audio Pretraining with Feature "
            "Fusion and Keyword-to-Caption Augmentation, ICASSP 2023",
            "preparation": Preparation(second_pcm16="toward_zero_by_32767"),
            "windows": WINDOWS,
            "transform": TRANSFORM,
            "bands": BANDS,
            "input": INPUT,
            "output": OUTPUT,
            "embedding_size": size,
            # Other checkpoints of these sizes have other statistics: only what was named has the published.
            "statistics_name": checkpoint.like,
        },
    )


CLAP = embedder_family(
    name="clap",
    variants=(AUDIO, MUSIC),
    recognises=recognises,
    architecture_of=architecture_of,
    make=make,
)
"""LAION-CLAP as a family of importable checkpoints."""
