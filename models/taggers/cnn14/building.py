"""From a checkpoint of PANNs' Cnn14 to a tagger's folder.

Variants of Cnn14 for other sample rates, and the one with decisions frame by frame, have the same tensors in
the same shapes. What tells them apart is the front end that PANNs' files carry along: its window and bands
are compared with those of the manifest. A file without them is believed by what the user says of it.
"""

from pathlib import Path

import numpy as np

from stemwright.core.errors import ModelFileError
from stemwright.core.features import FeatureBands
from stemwright.core.transforms import Transform
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import UNKNOWN_LICENCE, AudioFormat, Licence, Tagger, WeightsOrigin
from stemwright.models.query.ontology import audioset
from stemwright.models.registry.family import Family
from stemwright.models.registry.model_folder import origin_of, write_model_folder
from stemwright.models.taggers.cnn14.graph import EMBEDDING, FEATURES, PROBABILITIES, cnn14_graph

LIKE = "cnn14"
SAMPLE_RATE = 32_000
TRANSFORM = Transform(n_fft=1024, hop=320)
BANDS = FeatureBands(
    bands=64, low_hz=50.0, high_hz=14_000.0, scale="slaney", norm="slaney", power=2, log="db", floor=1e-10
)
MIN_FRAMES = 32  # five halvings leave one; 9,920 samples
PARAMETERS = 80_753_615
"""Trainable values."""
_MATRIX = "logmel_extractor.melW"
_ANALYSIS = "spectrogram_extractor.stft.conv_real.weight"
_OTHERS = ("decisionlevel", "16k", "8k")


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint has the tensors of Cnn14; which variant it is, `build` tells."""
    names = checkpoint.tensors.keys()
    return {"bn0.running_mean", "conv_block6.conv2.weight", "fc1.weight", "fc_audioset.weight"} <= names


def architecture_of(checkpoint: Checkpoint) -> str:
    """Return the network's name; raises ModelFileError if the checkpoint is of a variant."""
    _check_variant(checkpoint)
    return "cnn14"


def build_tagger_folder(
    checkpoint: Checkpoint,
    *,
    name: str,
    folder: Path,
    storage: Storage = "float16",
    licence: Licence = UNKNOWN_LICENCE,
    origin: WeightsOrigin | None = None,
) -> Tagger:
    """Write `model.onnx` and `manifest.json` for a checkpoint, see `registry.family.BuildFolder`."""
    _check_variant(checkpoint)
    labels = audioset().labels
    classes = checkpoint.tensors["fc_audioset.weight"].shape[0]
    if classes != len(labels):
        raise ModelFileError(
            f"the checkpoint knows {classes} classes, AudioSet has {len(labels)}",
            "use weights that were trained on AudioSet",
        )
    model = cnn14_graph(checkpoint.tensors, storage)
    manifest = Tagger(
        name=name,
        family="cnn14",
        task="universal",
        description="Cnn14 of PANNs: 527 sound classes of AudioSet, 32 kHz",
        licence=licence,
        citation="Q. Kong et al., PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern "
        "Recognition, 2020",
        training_data="AudioSet",
        audio=AudioFormat(sample_rate=SAMPLE_RATE, channels=1, mode="downmix"),
        transform=TRANSFORM,
        bands=BANDS,
        patch_frames=0,
        patch_hop=1,
        min_frames=MIN_FRAMES,
        features=FEATURES,
        probabilities=PROBABILITIES,
        embedding=EMBEDDING,
        embedding_size=checkpoint.tensors["fc1.weight"].shape[0],
        classes=labels,
        origin=origin_of(checkpoint, origin),
    )
    return write_model_folder(folder, model, manifest)


def _check_variant(checkpoint: Checkpoint) -> None:
    """Refuse the variants that have the same tensors.

    Raises
    ------
    ModelFileError
        The front end in the file is another, or the file's name is a variant's.
    """
    if checkpoint.like == LIKE:
        return
    file_name = checkpoint.file_name.lower()
    variant = next((other for other in _OTHERS if other in file_name), None)
    if variant is not None or _other_front_end(checkpoint):
        raise ModelFileError(
            "the checkpoint is of a variant of Cnn14 with another front end or other decisions",
            "use Cnn14 for 32 kHz (Cnn14_mAP=0.431.pth); if this is it, say so with --like cnn14",
        )
    if _MATRIX not in checkpoint.tensors:
        raise ModelFileError(
            "the checkpoint does not say which variant of Cnn14 it is: its front end was taken out",
            "if it is Cnn14 for 32 kHz, say so with --like cnn14",
        )


def _other_front_end(checkpoint: Checkpoint) -> bool:
    matrix, analysis = checkpoint.tensors.get(_MATRIX), checkpoint.tensors.get(_ANALYSIS)
    if matrix is None:
        return False
    ours = BANDS.matrix(n_fft=TRANSFORM.n_fft, bins=TRANSFORM.bins, sample_rate=SAMPLE_RATE).T
    if matrix.shape != ours.shape or not np.allclose(matrix, ours, atol=1e-6):
        return True
    # The first row of the analysis is the window itself.
    window = TRANSFORM.analysis_window
    return analysis is not None and not np.allclose(np.ravel(analysis[0]), window, atol=1e-5)


CNN14 = Family(
    name="cnn14",
    variants=(LIKE,),
    recognises=recognises,
    architecture_of=architecture_of,
    build=build_tagger_folder,
)
"""PANNs' Cnn14 as a family of importable checkpoints."""
