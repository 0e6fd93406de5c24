"""What the builders of embedders share."""

from pathlib import Path
from typing import Any

import onnx

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.manifest import AudioFormat, Embedder, WeightsOrigin
from stemwright.models.registry.model_folder import origin_of, write_model_folder


def write_embedder(
    folder: Path,
    model: onnx.ModelProto,
    checkpoint: Checkpoint,
    *,
    sample_rate: int,
    origin: WeightsOrigin | None,
    **fields: Any,
) -> Embedder:
    """Write `model.onnx` and `manifest.json` of an embedder.

    Parameters
    ----------
    folder
        An existing folder.
    model
        The graph.
    checkpoint
        What it was made of; its content digest goes into the manifest.
    sample_rate
        In Hz.
    origin
        Where the weights came from.
    fields
        Other fields of the manifest.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    manifest = Embedder(
        audio=AudioFormat(sample_rate=sample_rate, channels=1, mode="downmix"),
        origin=origin_of(checkpoint, origin),
        **fields,
    )
    return write_model_folder(folder, model, manifest)
