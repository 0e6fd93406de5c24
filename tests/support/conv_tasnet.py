"""Conv-TasNets of all kinds with random weights, small ones too, as tensors and as model folders."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.models.conv_tasnet.building import manifest_of_variant
from stemwright.models.conv_tasnet.configs import ConvTasNetConfig, tensor_shapes
from stemwright.models.conv_tasnet.graph import build_graph
from stemwright.models.conv_tasnet.origins import Variant
from stemwright.models.manifest import GRAPH_FILE, MANIFEST_FILE
from stemwright.models.registry.model_files import record_of

SMALL: dict[str, Any] = {"filters": 16, "bottleneck": 8, "hidden": 12, "blocks": 3, "repeats": 2}


def small(config: ConvTasNetConfig, **changes: Any) -> ConvTasNetConfig:
    """The same variant with few filters and channels."""
    sizes = SMALL | ({"skip": 10} if config.skip else {})
    return dataclasses.replace(config, **{**sizes, **changes})


def random_tensors(config: ConvTasNetConfig, seed: int = 0) -> dict[str, FloatArray]:
    """Random values for every tensor, of a size that keeps the layers' outputs around 1."""
    generator = np.random.default_rng(seed)
    tensors: dict[str, FloatArray] = {}
    for name, shape in tensor_shapes(config).items():
        values = generator.standard_normal(shape)
        if len(shape) > 1:
            values /= np.sqrt(np.prod(shape[1:])) if name != "decoder.weight" else np.sqrt(shape[0])
        else:
            centre = {"gain": 1.0, "bias": 0.0, "weight": 0.25}[name.rpartition(".")[2]]
            values = centre + 0.1 * values
        tensors[name] = values.astype(np.float32)
    return tensors


def install_conv_tasnet(
    models_dir: Path,
    config: ConvTasNetConfig,
    name: str = "speech",
    *,
    stems: tuple[str, ...] | None = None,
    window: int | None = None,
    seed: int = 0,
) -> Path:
    """Write a model folder of a network with random weights; `window` samples a call instead of 8 s."""
    folder = models_dir / name
    folder.mkdir(parents=True)
    path = folder / GRAPH_FILE
    path.write_bytes(build_graph(config, random_tensors(config, seed)).SerializeToString())
    manifest = manifest_of_variant(Variant(naming="asteroid", config=config, stems=stems), name=name)
    if window is not None:
        sizes = {"input_samples": window, "output_samples": window}
        manifest = manifest.model_copy(update={"plan": manifest.plan.model_copy(update=sizes)})
    manifest = manifest.model_copy(update={"files": (record_of(path, GRAPH_FILE),)})
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
    return folder
