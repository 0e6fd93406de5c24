"""The IBM-CNN that has a graph here, and the manifest's parts that follow from the paper's front end."""

from pathlib import Path
from typing import Literal

from stemwright.core.transforms import Transform
from stemwright.models.ibm_cnn.configs import CENTRE, HOP, N_FFT, SAMPLE_RATE, WINDOW, IBMCNNConfig
from stemwright.models.manifest import AudioFormat, ChunkPlan, Graph, GraphInput, GraphOutput

GRAPHS_DIR = Path(__file__).parent / "graphs"
PAPER = "ibm_cnn"
GRAPH_PATH = GRAPHS_DIR / f"{PAPER}.onnx"
PARAMETERS = 19_489_049

AUDIO = AudioFormat(sample_rate=SAMPLE_RATE, channels=1, mode="per_channel")

USED_FRAMES = 96  # of a call: 1.1 s; chosen here, twice that takes twice the memory and is 6 % faster
_SIGHT = WINDOW // 2 // HOP  # frames from an edge of the window whose sound is cut
_HEAD = _SIGHT + CENTRE + 1  # used samples begin behind so many hops: the frame before reaches into them
_TAIL = _SIGHT + CENTRE + 1
INPUT_FRAMES = _HEAD + USED_FRAMES + _TAIL

PLAN = ChunkPlan(
    input_samples=INPUT_FRAMES * HOP,
    output_samples=USED_FRAMES * HOP,
    output_offset=_HEAD * HOP,
    overlap=0.0,
    window="rectangular",
    tail="end",
)
"""Every sample used comes from frames that see all nine frames of their patch, whose sound is whole.
Since windows begin at whole hops, cutting a recording into calls changes nothing."""

DESCRIPTION = "IBM-CNN: singing voice by classifying each bin of a spectrogram, on nine frames at a time"
CITATION = (
    "K. W. E. Lin, Balamurali B. T., E. Koh, S. Lui, D. Herremans, Singing Voice Separation Using a Deep "
    "Convolutional Neural Network Trained by Ideal Binary Mask and Cross Entropy, Neural Computing and "
    "Applications 2018"
)


def transform(mirror: Literal["exact", "off_by_one"] = "exact") -> Transform:
    """Return the paper's front end."""
    return Transform(
        n_fft=N_FFT,
        hop=HOP,
        window_length=WINDOW,
        window_scale="unit_sum",
        padding="zero",
        frame_count="ceil",
        synthesis="central_cut",
        normalisation="steady_state",
        mirror=mirror,
    )


def graph(config: IBMCNNConfig) -> Graph:
    """Return the signature of the graph, with the gate of a configuration."""
    return Graph(
        inputs=(GraphInput(name="magnitude", role="magnitude"),),
        outputs=(GraphOutput(name="masks", role="mask"),),
        transform=transform(config.mirror),
        outside_frames="zero",
        gate=config.theta,
    )
