"""Writing a model folder: what the families' builders share."""

from pathlib import Path
from typing import Any, cast

import onnx
from pydantic import ValidationError

from stemwright.core.errors import ModelFileError, OutputError
from stemwright.models.checkpoints import Checkpoint, content_digest
from stemwright.models.manifest import GRAPH_FILE, MANIFEST_FILE, Manifest, WeightsOrigin
from stemwright.models.registry.model_files import AnyModel, record_of


def manifest_of(**fields: Any) -> Manifest:
    """Make a manifest of its fields.

    Raises
    ------
    ModelFileError
        No manifest can say that; the message names the field.
    """
    try:
        return Manifest(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelFileError(
            f"no manifest can be made of the checkpoint: {place or 'manifest'}: {first['msg']}",
            "choose another name, or mend what the checkpoint says of itself",
        ) from error


def origin_of(checkpoint: Checkpoint, told: WeightsOrigin | None) -> WeightsOrigin:
    """Return what is known of where weights came from, with the digest of their content."""
    digest = content_digest(checkpoint.tensors)
    return (told or WeightsOrigin()).model_copy(update={"content_sha256": digest})


def write_model_folder(folder: Path, model: onnx.ModelProto, manifest: AnyModel) -> AnyModel:
    """Write `model.onnx` and `manifest.json` into an existing folder.

    Returns
    -------
    Manifest or Tagger
        The manifest with the record of the graph, as written.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    path = folder / GRAPH_FILE
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
        records = (record_of(path, GRAPH_FILE),)
        written = cast(AnyModel, manifest.model_copy(update={"files": records}))
        (folder / MANIFEST_FILE).write_text(written.model_dump_json(indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", "free space, or choose another folder"
        ) from error
    return written
