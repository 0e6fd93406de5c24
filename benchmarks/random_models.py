"""Every network of the families at its true size, with random weights: what serving costs does not ask which.

Weights are drawn as torch initialises layers (uniform, within one over the root of what a value is summed
over), norms begin as the identity, and all is rounded to float16, as published weights are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.conv_tasnet.building import manifest_of_variant
from stemwright.models.conv_tasnet.configs import (
    MUSIC,
    PAPER,
    PAPER_CAUSAL,
    ConvTasNetConfig,
    parameter_count,
    tensor_shapes,
)
from stemwright.models.conv_tasnet.graph import build_graph
from stemwright.models.conv_tasnet.origins import MUSIC_STEMS, Variant
from stemwright.models.demucs.architectures import ARCHITECTURES
from stemwright.models.demucs.building import build_model_folder as build_demucs
from stemwright.models.graphs.weightless import WeightlessGraph
from stemwright.models.ibm_cnn.architectures import GRAPH_PATH as IBM_CNN_GRAPH
from stemwright.models.ibm_cnn.architectures import PARAMETERS as IBM_CNN_PARAMETERS
from stemwright.models.ibm_cnn.building import build_model_folder as build_ibm_cnn
from stemwright.models.ibm_cnn.checkpoints import OURS as OUR_IBM_CNN
from stemwright.models.manifest import UNKNOWN_LICENCE, WeightsOrigin
from stemwright.models.registry.model_folder import write_model_folder
from stemwright.models.taggers.cnn14.building import LIKE as CNN14_LIKE
from stemwright.models.taggers.cnn14.building import PARAMETERS as CNN14_PARAMETERS
from stemwright.models.taggers.cnn14.building import build_tagger_folder
from stemwright.models.universal.architectures import PARAMETERS as UNIVERSAL_PARAMETERS
from stemwright.models.universal.architectures import graph_path
from stemwright.models.universal.building import make_manifest
from stemwright.models.universal.configs import ResUNetConfig


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network of known size.

    Parameters
    ----------
    title
        For tables.
    parameters
        Trainable values of a checkpoint.
    build
        Writes its model folder into an existing folder.
    """

    title: str
    parameters: int
    build: Callable[[Path], object]


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, FloatArray]:
    """Draw a state of a network.

    Parameters
    ----------
    shapes
        Shape of each tensor, by its name in the network's state dict.
    seed
        Of the generator.

    Returns
    -------
    dict
        float32 arrays whose values float16 holds.
    """
    generator = np.random.default_rng(seed)
    state: dict[str, FloatArray] = {}
    for name, shape in sorted(shapes.items()):
        value = generator.random(shape, np.float32)
        value *= np.float32(2 * _reach(name, shape))
        value += np.float32(_centre(name, shape) - _reach(name, shape))
        state[name] = value.astype(np.float16).astype(np.float32)
    return state


def _centre(name: str, shape: tuple[int, ...]) -> float:
    """One for the factors of norms, which are the vectors that are called so, and a quarter for PReLUs."""
    if name.endswith((".gain", "running_var")):
        return 1.0
    if name.endswith("weight") and prod(shape) == max(shape):
        return 0.25 if prod(shape) == 1 else 1.0
    return 0.0


def _reach(name: str, shape: tuple[int, ...]) -> float:
    if prod(shape) == max(shape, default=1):
        return 0.05
    return float(prod(shape[1:])) ** -0.5


def _checkpoint(shapes: Mapping[str, tuple[int, ...]], like: str) -> Checkpoint:
    return Checkpoint(tensors=random_tensors(shapes), like=like, kind="safetensors")


def _demucs(name: str) -> Network:
    architecture = ARCHITECTURES[name]

    def build(folder: Path) -> object:
        shapes = WeightlessGraph.read(architecture.graph_path).tensor_shapes
        return build_demucs(_checkpoint(shapes, name), name=name.replace("_", "-"), folder=folder)

    seconds = architecture.segment_samples / 44_100
    return Network(
        title=f"{architecture.description.partition(':')[0]}, {architecture.config.channels} channels, "
        f"{seconds:.3g} s",
        parameters=architecture.parameters,
        build=build,
    )


def _conv_tasnet(title: str, config: ConvTasNetConfig, stems: tuple[str, ...] | None = None) -> Network:
    variant = Variant(naming="asteroid", config=config, stems=stems)

    def build(folder: Path) -> object:
        graph = build_graph(config, random_tensors(tensor_shapes(config)), "float16")
        return write_model_folder(folder, graph, manifest_of_variant(variant, name="conv-tasnet"))

    return Network(title=f"Conv-TasNet, {title}", parameters=parameter_count(config), build=build)


def _ibm_cnn() -> Network:
    def build(folder: Path) -> object:
        shapes = WeightlessGraph.read(IBM_CNN_GRAPH).tensor_shapes
        return build_ibm_cnn(_checkpoint(shapes, OUR_IBM_CNN), name="ibm-cnn", folder=folder)

    return Network(title="IBM-CNN, 1.1 s", parameters=IBM_CNN_PARAMETERS, build=build)


def _universal(size: int) -> Network:
    config = ResUNetConfig(condition_size=size)

    def build(folder: Path) -> object:
        graph = WeightlessGraph.read(graph_path(config))
        manifest = make_manifest(config, name="uss", licence=UNKNOWN_LICENCE, origin=WeightsOrigin())
        return write_model_folder(folder, graph.fill(random_tensors(graph.tensor_shapes)), manifest)

    return Network(
        title=f"ResUNet30, condition of {size}, 2 s", parameters=UNIVERSAL_PARAMETERS[size], build=build
    )


def _cnn14() -> Network:
    shapes: dict[str, tuple[int, ...]] = {"fc1.weight": (2048, 2048), "fc1.bias": (2048,)}
    shapes |= {"fc_audioset.weight": (527, 2048), "fc_audioset.bias": (527,)}
    norms = {"bn0": 64}
    channels = (1, 64, 128, 256, 512, 1024, 2048)
    for block in range(1, 7):
        before, after = channels[block - 1 : block + 1]
        for number, inputs in ((1, before), (2, after)):
            shapes[f"conv_block{block}.conv{number}.weight"] = (after, inputs, 3, 3)
            norms[f"conv_block{block}.bn{number}"] = after
    for name, size in norms.items():
        shapes |= {f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}

    def build(folder: Path) -> object:
        tensors = random_tensors(shapes)
        # What comes in are decibels.
        tensors["bn0.running_mean"] -= 40
        tensors["bn0.running_var"] *= 400
        return build_tagger_folder(
            Checkpoint(tensors=tensors, like=CNN14_LIKE, kind="safetensors"), name="cnn14", folder=folder
        )

    return Network(title="Cnn14, tagger, 10 s", parameters=CNN14_PARAMETERS, build=build)


NETWORKS: Mapping[str, Network] = {
    **{
        name: _demucs(name)
        for name in (
            *("htdemucs", "htdemucs_6s", "hdemucs", "demucs_v3", "demucs_v3_plain"),
            *("demucs_v2_10s", "demucs_v2_48_10s", "demucs_v2", "demucs_v2_48"),
            *("demucs_v1_10s", "demucs_v1"),
        )
    },
    "conv_tasnet": _conv_tasnet("best, 8 kHz", PAPER),
    "conv_tasnet_causal": _conv_tasnet("causal, cumulative norms, 8 kHz", PAPER_CAUSAL),
    "conv_tasnet_3": _conv_tasnet("three speakers, 8 kHz", replace(PAPER, sources=3)),
    "conv_tasnet_16k": _conv_tasnet("16 kHz", replace(PAPER, sample_rate=16_000)),
    "conv_tasnet_music": _conv_tasnet("music, 44.1 kHz stereo", MUSIC, MUSIC_STEMS),
    "ibm_cnn": _ibm_cnn(),
    "resunet30": _universal(527),
    "resunet30_embedding": _universal(2048),
    "cnn14": _cnn14(),
}
