"""Small models with known answers, installed as real model folders."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemwright.models.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    AudioFormat,
    ChunkPlan,
    FileRecord,
    Graph,
    GraphInput,
    GraphOutput,
    Licence,
    Manifest,
    TrackNormalisation,
)

STEMS = ("drums", "bass", "other", "vocals")
GAINS = (0.4, 0.3, 0.2, 0.1)


def gain_graph(stems: int, channels: int, samples: int, gains: tuple[float, ...]) -> onnx.ModelProto:
    """ONNX graph whose stem s is gains[s] times the mixture: waveform [B, C, T] -> [B, S, C, T]."""
    weight = np.asarray(gains, np.float32).reshape(1, stems, 1, 1)
    nodes = [
        helper.make_node("Unsqueeze", ["mixture", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "gains"], ["stems"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gains",
        [helper.make_tensor_value_info("mixture", TensorProto.FLOAT, ["batch", channels, samples])],
        [helper.make_tensor_value_info("stems", TensorProto.FLOAT, ["batch", stems, channels, samples])],
        [
            numpy_helper.from_array(weight, "gains"),
            numpy_helper.from_array(np.asarray([1], np.int64), "axis"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def install_tiny_model(
    models_dir: Path,
    name: str = "tiny",
    *,
    stems: tuple[str, ...] = STEMS,
    gains: tuple[float, ...] = GAINS,
    sample_rate: int = 44100,
    channels: int = 2,
    segment: int = 4096,
    normalise: bool = False,
) -> Path:
    """Write a model folder `models_dir/name` whose stems are the mixture times `gains`."""
    folder = models_dir / name
    folder.mkdir(parents=True)
    model = gain_graph(len(stems), channels, segment, gains)
    path = folder / GRAPH_FILE
    onnx.save(model, str(path))
    data = path.read_bytes()
    manifest = Manifest(
        name=name,
        family="test",
        licence=Licence(name="CC0-1.0", text="Free to use"),
        stems=stems,
        audio=AudioFormat(sample_rate=sample_rate, channels=channels),
        plan=ChunkPlan(input_samples=segment, output_samples=segment),
        graph=Graph(
            inputs=(GraphInput(name="mixture", role="waveform"),),
            outputs=(GraphOutput(name="stems", role="waveform"),),
        ),
        normalisation=TrackNormalisation() if normalise else None,
        files=(FileRecord(path=GRAPH_FILE, sha256=hashlib.sha256(data).hexdigest(), size=len(data)),),
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
    return folder
