"""From a checkpoint of ResUNet30 to a model folder."""

from pathlib import Path

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.graphs.weightless import Storage, WeightlessGraph
from stemwright.models.manifest import UNKNOWN_LICENCE, Licence, Manifest, QueryRules, WeightsOrigin
from stemwright.models.registry.family import Family
from stemwright.models.registry.model_folder import manifest_of, origin_of, write_model_folder
from stemwright.models.universal.architectures import (
    AUDIO,
    CITATION,
    DESCRIPTION,
    GRAPH,
    PLAN,
    RULES,
    architecture_name,
    graph_path,
)
from stemwright.models.universal.checkpoints import RELEASED, config_of, recognises, tensors_of
from stemwright.models.universal.configs import ResUNetConfig
from stemwright.models.universal.folding import serving_tensors


def query_rules(config: ResUNetConfig) -> QueryRules:
    """Return what conditions of this size are.

    Raises
    ------
    ModelFileError
        No tagger here makes such conditions.
    """
    rules = RULES.get(config.condition_size)
    if rules is None:
        raise ModelFileError(
            f"nothing here makes conditions of {config.condition_size} values"
            + (" (those of AudioSep are a text encoder's)" if config.condition_size == 512 else ""),
            f"use a network for one of {', '.join(map(str, RULES))} values",
        )
    return rules.model_copy(update={"tagger": config.tagger or rules.tagger})


def make_manifest(config: ResUNetConfig, *, name: str, licence: Licence, origin: WeightsOrigin) -> Manifest:
    """Make the manifest of a network of this configuration.

    Raises
    ------
    ModelFileError
        An impossible name, or no tagger here makes such conditions.
    """
    return manifest_of(
        name=name,
        family="universal",
        task="universal",
        description=DESCRIPTION,
        licence=licence,
        citation=CITATION,
        stem_kind="query",
        audio=AUDIO,
        plan=PLAN,
        graph=GRAPH,
        query=query_rules(config).model_dump(),
        origin=origin,
    )


def build_model_folder(
    checkpoint: Checkpoint,
    *,
    name: str,
    folder: Path,
    storage: Storage = "float16",
    licence: Licence = UNKNOWN_LICENCE,
    origin: WeightsOrigin | None = None,
) -> Manifest:
    """Write `model.onnx` and `manifest.json` for a checkpoint, see `registry.family.BuildFolder`."""
    config = config_of(checkpoint)
    origin = origin_of(checkpoint, origin)
    manifest = make_manifest(config, name=name, licence=licence, origin=origin)
    state = serving_tensors(tensors_of(checkpoint), config)
    model = WeightlessGraph.read(graph_path(config)).fill(state, storage)
    return write_model_folder(folder, model, manifest)


def architecture_of(checkpoint: Checkpoint) -> str:
    """Return the graph's name; raises ModelFileError if none is shipped for the network."""
    config = config_of(checkpoint)
    query_rules(config)
    return architecture_name(config)


UNIVERSAL = Family(
    name="universal",
    variants=(RELEASED,),
    recognises=recognises,
    architecture_of=architecture_of,
    build=build_model_folder,
)
"""ResUNet30 as a family of importable checkpoints."""
