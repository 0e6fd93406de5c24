"""A small tagger with known answers, and a small model that is asked, installed as real model folders.

The tagger hears three bands of a spectrum at 8 kHz: low tones are dogs, middle ones cats, high ones speech.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemwright.core.arrays import FloatArray
from stemwright.core.features import FeatureBands
from stemwright.core.transforms import Transform
from stemwright.models.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    AudioFormat,
    ChunkPlan,
    Graph,
    GraphInput,
    GraphOutput,
    Licence,
    Manifest,
    QueryRules,
    Tagger,
)
from stemwright.models.registry.model_files import record_of

RATE = 8000
DOG, CAT, SPEECH = "/m/0bt9lr", "/m/01yrx", "/m/09x0r"
CLASSES = (DOG, CAT, SPEECH)
TONES_HZ = {DOG: 250.0, CAT: 1000.0, SPEECH: 3000.0}
"""A tone in each class's band and in no other."""
FREE = Licence(name="CC0-1.0", text="Free to use")
BANDS = FeatureBands(bands=3, low_hz=0.0, high_hz=4000.0, scale="htk", log="natural", floor=1e-3)
TRANSFORM = Transform(n_fft=256, hop=80, window_length=200, padding="none")
PATCH_FRAMES, PATCH_HOP = 48, 24


def tone(mid: str, seconds: float, rate: int = RATE, level: float = 0.5) -> FloatArray:
    """A tone that the tagger takes for one class, shape=(1, n)."""
    times = np.arange(round(seconds * rate)) / rate
    return np.asarray(level * np.sin(2 * np.pi * TONES_HZ[mid] * times)[None], np.float32)


def _tagger_graph() -> onnx.ModelProto:
    """embedding = mean over frames; probabilities = sigmoid(3 * embedding)."""
    nodes = [
        helper.make_node("ReduceMean", ["features", "axis"], ["embedding"], keepdims=0),
        helper.make_node("Mul", ["embedding", "slope"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    sizes: list[str | int] = ["batch", len(CLASSES)]
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "frames", BANDS.bands])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, sizes) for n in ("probabilities", "embedding")],
        [
            numpy_helper.from_array(np.asarray([1], np.int64), "axis"),
            numpy_helper.from_array(np.asarray(3.0, np.float32), "slope"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def install_tiny_tagger(models_dir: Path, name: str = "ears", *, any_frames: bool = False) -> Path:
    """Write a folder `models_dir/name` with the tagger; patches of 48 frames, or calls of any length."""
    folder = models_dir / name
    folder.mkdir(parents=True)
    onnx.save(_tagger_graph(), str(folder / GRAPH_FILE))
    manifest = Tagger(
        name=name,
        family="test",
        licence=FREE,
        audio=AudioFormat(sample_rate=RATE, channels=1, mode="downmix"),
        transform=TRANSFORM,
        bands=BANDS,
        patch_frames=0 if any_frames else PATCH_FRAMES,
        patch_hop=PATCH_HOP,
        min_frames=4,
        embedding_size=BANDS.bands,
        classes=CLASSES,
        files=(record_of(folder / GRAPH_FILE, GRAPH_FILE),),
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
    return folder


def _asked_graph(samples: int, size: int) -> onnx.ModelProto:
    """One stem: the mixture times the sum of the condition."""
    nodes = [
        helper.make_node("ReduceSum", ["query", "one"], ["gain"], keepdims=1),  # [B, 1]
        helper.make_node("Unsqueeze", ["gain", "last"], ["column"]),  # [B, 1, 1, 1]
        helper.make_node("Unsqueeze", ["mixture", "one"], ["stem"]),  # [B, 1, 1, T]
        helper.make_node("Mul", ["stem", "column"], ["stems"]),
    ]
    graph = helper.make_graph(
        nodes,
        "asked",
        [
            helper.make_tensor_value_info("mixture", TensorProto.FLOAT, ["batch", 1, samples]),
            helper.make_tensor_value_info("query", TensorProto.FLOAT, ["batch", size]),
        ],
        [helper.make_tensor_value_info("stems", TensorProto.FLOAT, ["batch", 1, 1, samples])],
        [
            numpy_helper.from_array(np.asarray([1], np.int64), "one"),
            numpy_helper.from_array(np.asarray([2, 3], np.int64), "last"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def install_tiny_asked_model(
    models_dir: Path, name: str = "asked", *, tagger: str = "ears", condition: str = "class_probabilities"
) -> Path:
    """Write a model folder whose stem for a query is the mono mixture times the sum of the condition."""
    folder = models_dir / name
    folder.mkdir(parents=True)
    samples = 2 * RATE
    onnx.save(_asked_graph(samples, len(CLASSES)), str(folder / GRAPH_FILE))
    manifest = Manifest(
        name=name,
        family="test",
        task="universal",
        licence=FREE,
        stem_kind="query",
        audio=AudioFormat(sample_rate=RATE, channels=1, mode="downmix"),
        plan=ChunkPlan(
            input_samples=samples, output_samples=samples, overlap=0.0, window="rectangular", tail="end"
        ),
        graph=Graph(
            inputs=(
                GraphInput(name="mixture", role="waveform"),
                GraphInput(name="query", role="condition"),
            ),
            outputs=(GraphOutput(name="stems", role="waveform"),),
        ),
        query=QueryRules.model_validate({"condition": condition, "size": len(CLASSES), "tagger": tagger}),
        files=(record_of(folder / GRAPH_FILE, GRAPH_FILE),),
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
    return folder
