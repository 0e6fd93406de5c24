"""Small embedders with known answers, installed as real model folders."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemwright.models.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    AudioFormat,
    Embedder,
    EmbedderWindows,
    Licence,
    Preparation,
)
from stemwright.models.registry.model_files import record_of

RATE = 8000
FREE = Licence(name="CC0-1.0", text="Free to use")
WINDOWS = EmbedderWindows(samples=800, tail="dropped")


def _graph(gain: float) -> onnx.ModelProto:
    """[B, T] -> [B, 1, 2]: gain times the mean and the mean square of a window."""
    nodes = [
        helper.make_node("ReduceMean", ["samples", "axis"], ["mean"], keepdims=1),  # [B, 1]
        helper.make_node("Mul", ["samples", "samples"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "axis"], ["power"], keepdims=1),
        helper.make_node("Concat", ["mean", "power"], ["both"], axis=1),  # [B, 2]
        helper.make_node("Unsqueeze", ["both", "axis"], ["row"]),  # [B, 1, 2]
        helper.make_node("Mul", ["row", "gain"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "embedder",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 1, 2])],
        [
            numpy_helper.from_array(np.asarray([1], np.int64), "axis"),
            numpy_helper.from_array(np.asarray(gain, np.float32), "gain"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def install_tiny_embedder(
    models_dir: Path,
    name: str = "place",
    *,
    gain: float = 1.0,
    windows: EmbedderWindows = WINDOWS,
    preparation: Preparation | None = None,
    size: int = 2,
    statistics_name: str = "",
) -> Path:
    """Write a folder `models_dir/name` with an embedder at 8 kHz: a frame for each 0.1 s."""
    folder = models_dir / name
    folder.mkdir(parents=True)
    onnx.save(_graph(gain), str(folder / GRAPH_FILE))
    manifest = Embedder(
        name=name,
        family="test",
        licence=FREE,
        audio=AudioFormat(sample_rate=RATE, channels=1, mode="downmix"),
        preparation=preparation or Preparation(),
        windows=windows,
        input="samples",
        embedding_size=size,
        statistics_name=statistics_name,
        files=(record_of(folder / GRAPH_FILE, GRAPH_FILE),),
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
    return folder
