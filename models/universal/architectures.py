"""The universal separators that have a graph here, and the manifest's parts that they share."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from stemwright.core.transforms import Transform
from stemwright.models.manifest import (
    AudioFormat,
    ChunkPlan,
    Graph,
    GraphInput,
    GraphOutput,
    QueryRules,
)
from stemwright.models.universal.configs import HOP, N_FFT, SAMPLE_RATE, SEGMENT_SAMPLES, ResUNetConfig

GRAPHS_DIR = Path(__file__).parent / "graphs"

AUDIO = AudioFormat(sample_rate=SAMPLE_RATE, channels=1, mode="downmix")

PLAN = ChunkPlan(
    input_samples=SEGMENT_SAMPLES,
    output_samples=SEGMENT_SAMPLES,
    overlap=0.25,
    window="hann",
    tail="end",
)
"""Two seconds at a time as in the paper, but cross-faded; an overlap of 0 gives the paper's hard cuts."""

TRANSFORM = Transform(n_fft=N_FFT, hop=HOP)

GRAPH = Graph(
    inputs=(
        GraphInput(name="magnitude", role="magnitude"),
        GraphInput(name="condition", role="condition"),
    ),
    outputs=(GraphOutput(name="mask", role="complex_mask"),),
    transform=TRANSFORM,
)

RULES: Mapping[int, QueryRules] = MappingProxyType(
    {
        rules.size: rules
        for rules in (
            QueryRules(condition="class_probabilities", size=527, tagger="cnn14"),
            QueryRules(condition="class_probabilities", size=521, tagger="yamnet"),
            QueryRules(condition="embedding", size=2048, tagger="cnn14"),
            QueryRules(condition="embedding", size=1024, tagger="yamnet"),
        )
    }
)
"""Which condition each size stands for: the class scores and embeddings of the two taggers there are."""

PARAMETERS: Mapping[int, int] = MappingProxyType(
    {527: 26_595_781, 521: 26_536_645, 2048: 41_586_757, 1024: 31_494_213}
)
"""Trainable values of a checkpoint, those that nothing uses among them."""

DESCRIPTION = "ResUNet30: any sound by query, a U-Net told by a sound tagger's output what to take out"
CITATION = (
    "Q. Kong, K. Chen, H. Liu, X. Du, T. Berg-Kirkpatrick, S. Dubnov, M. D. Plumbley, Universal Source "
    "Separation with Weakly Labelled Data, arXiv 2305.07447, 2023"
)


def architecture_name(config: ResUNetConfig) -> str:
    """Name of a graph's file."""
    return f"resunet30_{config.condition_size}"


def graph_path(config: ResUNetConfig) -> Path:
    """Where the weightless graph of a size lies."""
    return GRAPHS_DIR / f"{architecture_name(config)}.onnx"
