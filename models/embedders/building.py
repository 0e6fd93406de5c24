"""What the builders of embedders share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import UNKNOWN_LICENCE, AudioFormat, Embedder, Licence, WeightsOrigin
from stemwright.models.registry.family import Family
from stemwright.models.registry.model_folder import origin_of, write_model_folder


@dataclass(frozen=True, kw_only=True)
class EmbedderParts:
    """What is made of a checkpoint.

    Parameters
    ----------
    graph
        The graph.
    sample_rate
        In Hz.
    fields
        Of the manifest: all but name, family, licence, audio and origin.
    """

    graph: onnx.ModelProto
    sample_rate: int
    fields: Mapping[str, Any]


MakeParts = Callable[[Checkpoint, Storage], EmbedderParts]
"""Makes an embedder of a checkpoint; raises ModelFileError if a tensor is missing or does not fit."""


def embedder_family(
    *,
    name: str,
    variants: tuple[str, ...],
    recognises: Callable[[Checkpoint], bool],
    architecture_of: Callable[[Checkpoint], str],
    make: MakeParts,
) -> Family:
    """Return a family of embedders: as Family, with `make` for what is its own in building a folder."""
    family = name

    def build(
        checkpoint: Checkpoint,
        *,
        name: str,
        folder: Path,
        storage: Storage = "float16",
        licence: Licence = UNKNOWN_LICENCE,
        origin: WeightsOrigin | None = None,
    ) -> Embedder:
        architecture_of(checkpoint)  # refuses what there is no graph for
        parts = make(checkpoint, storage)
        manifest = Embedder(
            name=name,
            family=family,
            licence=licence,
            audio=AudioFormat(sample_rate=parts.sample_rate, channels=1, mode="downmix"),
            origin=origin_of(checkpoint, origin),
            **parts.fields,
        )
        return write_model_folder(folder, parts.graph, manifest)

    return Family(
        name=name, variants=variants, recognises=recognises, architecture_of=architecture_of, build=build
    )
