"""The Demucs networks that have a graph here, and the manifests of models made from them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from stemwright.core.transforms import Transform
from stemwright.models.demucs.configs import (
    BINS,
    HOP,
    MUSIC_STEMS,
    SAMPLE_RATE,
    HDemucsConfig,
    HTDemucsConfig,
    NetworkConfig,
    PaperDemucsConfig,
    TimeDemucsConfig,
)
from stemwright.models.demucs.waveform.lengths import valid_length
from stemwright.models.manifest import (
    AudioFormat,
    ChunkPlan,
    Graph,
    GraphInput,
    GraphOutput,
    Licence,
    PrecisionRecord,
    TrackNormalisation,
)

GRAPHS_DIR = Path(__file__).parent / "graphs"

HYBRID_TRANSFORM = Transform(
    n_fft=4096,
    hop=HOP,
    spectrum_scale="unitary",
    outer_padding="hop_aligned",
    dropped_edge_frames=2,
    kept_bins=BINS,
)

EARLY_TRANSFORM = HYBRID_TRANSFORM.model_copy(update={"outer_padding": "hop_aligned_early"})

SIX_STEMS = (*MUSIC_STEMS, "guitar", "piano")

SAFE_PRECISIONS: Mapping[str, tuple[PrecisionRecord, ...]] = MappingProxyType(
    {
        # htdemucs: largest change of any stem's SDR on three songs with true stems, against float32.
        "fccc4ce39611291928c42568dc5e59dcaf29efc7b716845c8abcad0233540589": (
            PrecisionRecord(precision="bfloat16", provider="openvino", sdr_loss_db=0.02),
            PrecisionRecord(precision="int8", provider="openvino", sdr_loss_db=0.022),
            PrecisionRecord(precision="int8", provider="cpu", sdr_loss_db=0.027),
        ),
    }
)
"""Precisions that were measured, by the weights' content digest."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network of which a weightless graph is shipped.

    Attributes
    ----------
    name
        Name, which is that of the graph's file too unless that is shared.
    config
        The network's settings.
    segment_samples
        Length that one call separates; fixed, as the released networks are used at one length.
    batch
        Whether the graph takes any batch.
    parameters
        Number of values in a checkpoint.
    description, citation
        For manifests.
    graph_name
        Name of the graph's file where it is shared with another architecture.
    """

    name: str
    config: NetworkConfig
    segment_samples: int
    batch: Literal["dynamic", "one"]
    parameters: int
    description: str
    citation: str
    graph_name: str = ""

    @property
    def graph_path(self) -> Path:
        """Where the weightless graph lies."""
        return GRAPHS_DIR / f"{self.graph_name or self.name}.onnx"

    @property
    def hybrid(self) -> bool:
        """Whether the network takes a spectrum besides the waveform."""
        return isinstance(self.config, HTDemucsConfig | HDemucsConfig)

    @property
    def input_samples(self) -> int:
        """Length that the graph takes: of waveform networks the next valid one, with context around."""
        if isinstance(self.config, PaperDemucsConfig | TimeDemucsConfig):
            return valid_length(self.config, self.segment_samples)
        return self.segment_samples

    @property
    def _early(self) -> bool:
        return isinstance(self.config, HDemucsConfig) and self.config.early_inverse

    @property
    def plan(self) -> ChunkPlan:
        """Chunk plan of demucs.apply.apply_model: triangle, a quarter overlapping, centred tail."""
        return ChunkPlan(
            input_samples=self.input_samples,
            output_samples=self.segment_samples,
            output_offset=(self.input_samples - self.segment_samples) // 2,
        )

    @property
    def graph(self) -> Graph:
        """Signature of the graph."""
        mixture = GraphInput(name="mixture", role="waveform")
        if not self.hybrid:
            stems = GraphOutput(name="stems", role="waveform")
            return Graph(inputs=(mixture,), outputs=(stems,), batch=self.batch)
        return Graph(
            inputs=(mixture, GraphInput(name="spectrum", role="cac")),
            outputs=(GraphOutput(name="spectra", role="cac"), GraphOutput(name="waveforms", role="waveform")),
            transform=EARLY_TRANSFORM if self._early else HYBRID_TRANSFORM,
            batch=self.batch,
        )


_HTDEMUCS_CITATION = (
    "S. Rouard, F. Massa, A. Défossez, Hybrid Transformers for Music Source Separation, ICASSP 2023"
)
_DEMUCS_CITATION = (
    "A. Défossez, N. Usunier, L. Bottou, F. Bach, Music Source Separation in the Waveform Domain, 2021"
)
_HDEMUCS_CITATION = "A. Défossez, Hybrid Spectrogram and Waveform Source Separation, MDX workshop 2021"

HTDEMUCS = Architecture(
    name="htdemucs",
    config=HTDemucsConfig(),
    segment_samples=343_980,  # int(44100 * 39/5): the length it was trained at
    batch="dynamic",
    parameters=41_984_456,
    description="Hybrid Transformer Demucs (v4): two U-Nets that meet in a cross-domain transformer",
    citation=_HTDEMUCS_CITATION,
)
HTDEMUCS_6S = Architecture(
    name="htdemucs_6s",
    config=HTDemucsConfig(sources=SIX_STEMS, bottom_channels=0),
    segment_samples=343_980,
    batch="dynamic",
    parameters=27_414_996,
    description="Hybrid Transformer Demucs (v4) with six stems",
    citation=_HTDEMUCS_CITATION,
)
HDEMUCS = Architecture(
    name="hdemucs",
    config=HDemucsConfig(),
    segment_samples=44 * SAMPLE_RATE,  # the segment of the released bags
    batch="one",
    parameters=83_637_832,
    description="Hybrid Demucs (v3): two U-Nets with LSTM and local attention inside",
    citation=_HDEMUCS_CITATION,
)
HDEMUCS_EARLY = replace(
    HDEMUCS,
    name="hdemucs_early",
    config=HDemucsConfig(early_inverse=True),
    description="Hybrid Demucs (v3), older form: its inverse transform begins early",
    graph_name="hdemucs",
)
DEMUCS_V3 = Architecture(
    name="demucs_v3",
    config=TimeDemucsConfig(),
    segment_samples=44 * SAMPLE_RATE,
    batch="one",
    parameters=133_753_064,
    description="Demucs v3 in the time domain: a U-Net with residual branches, LSTM and local attention",
    citation=_HDEMUCS_CITATION,
)
DEMUCS_V3_PLAIN = replace(
    DEMUCS_V3,
    name="demucs_v3_plain",
    config=TimeDemucsConfig(normalise=False),
    description="Demucs v3 in the time domain, without normalisation inside",
)
DEMUCS_V2 = Architecture(
    name="demucs_v2",
    config=PaperDemucsConfig(),
    segment_samples=40 * SAMPLE_RATE,  # Demucs.segment_length of the reference
    batch="one",
    parameters=265_679_496,
    description="Demucs v2: the U-Net with an LSTM of the paper, at twice the sample rate",
    citation=_DEMUCS_CITATION,
)
DEMUCS_V2_48 = replace(
    DEMUCS_V2,
    name="demucs_v2_48",
    config=PaperDemucsConfig(channels=48),
    parameters=149_462_504,
    description="Demucs v2 with 48 channels",
)
DEMUCS_V1 = replace(
    DEMUCS_V2,
    name="demucs_v1",
    config=PaperDemucsConfig(channels=100, resample=False),
    parameters=648_548_208,
    description="Demucs v1: the U-Net with an LSTM of the paper's first version, 100 channels",
)

SHORT_SECONDS = 10
SHORT_SUFFIX = f"_{SHORT_SECONDS}s"


def shortened(architecture: Architecture) -> Architecture:
    """Return the same network in segments of 10 s, which need a fraction of the memory."""
    return replace(
        architecture,
        name=f"{architecture.name}{SHORT_SUFFIX}",
        graph_name=architecture.graph_name and f"{architecture.graph_name}{SHORT_SUFFIX}",
        segment_samples=SHORT_SECONDS * SAMPLE_RATE,
        description=f"{architecture.description}; in segments of {SHORT_SECONDS} s",
    )


_WITH_GRAPHS = (
    HTDEMUCS,
    HTDEMUCS_6S,
    HDEMUCS,
    HDEMUCS_EARLY,
    DEMUCS_V3,
    DEMUCS_V3_PLAIN,
    DEMUCS_V2,
    DEMUCS_V2_48,
    DEMUCS_V1,
    shortened(HDEMUCS),
    shortened(HDEMUCS_EARLY),
    shortened(DEMUCS_V3),
    shortened(DEMUCS_V2),
    shortened(DEMUCS_V2_48),
    shortened(DEMUCS_V1),
)

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {architecture.name: architecture for architecture in _WITH_GRAPHS}
)
"""All that there are graphs for; of several with one network, the first is the reference's segment."""

AUDIO = AudioFormat(sample_rate=SAMPLE_RATE, channels=2)
NORMALISATION = TrackNormalisation()

OFFICIAL_TRAINING_DATA = "MUSDB18-HQ (training part) and 800 songs of the authors"
OFFICIAL_LICENCE = Licence(
    name="personal and research use only",
    text=(
        "The weights were published by the authors of Demucs (Meta Platforms). Their MIT licence covers the "
        "code; of the weights the author wrote that they are not under it and are meant for scientific "
        "and research purposes. Use them for yourself and for research; do not redistribute them."
    ),
    url="https://github.com/facebookresearch/demucs/issues/327",
    must_accept=True,
)
