"""The shipped Demucs graphs, filled with random weights: every place is found and nothing changes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stemwright.models.demucs.architectures import GRAPHS_DIR
from stemwright.models.graphs.weightless import WeightlessGraph
from stemwright.models.sessions.rewrites import pipeline
from stemwright.models.sessions.rewrites.pipeline import apply_rewrites

FOR_CPU = (
    pipeline.CONSTANTS,
    pipeline.ATTENTION,
    pipeline.GATED_NORMS,
    pipeline.PLAIN_NORMS,
    pipeline.GATES,
    pipeline.TRANSPOSED,
    pipeline.MOVES,
)


def filled(name: str) -> onnx.ModelProto:
    """The graph with weights about as large as trained ones are."""
    weightless = WeightlessGraph.read(GRAPHS_DIR / f"{name}.onnx")
    rng = np.random.default_rng(0)
    state = {}
    for tensor, shape in weightless.tensor_shapes.items():
        width = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        state[tensor] = (rng.standard_normal(shape) / np.sqrt(width)).astype(np.float32)
    return weightless.fill(state, rounding="allowed")


def places(changed: tuple[str, ...]) -> dict[str, int]:
    return {name: int(count) for name, _, count in (entry.partition(" x") for entry in changed)}


def run(model: onnx.ModelProto, folder: Path) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    options = ort.SessionOptions()
    options.enable_mem_pattern = False
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feed = {
        port.name: (
            rng.standard_normal([size if isinstance(size, int) else 1 for size in port.shape]) * 0.1
        ).astype(np.float32)
        for port in session.get_inputs()
    }
    return [np.asarray(output) for output in session.run(None, feed)]


@pytest.mark.slow
def test_htdemucs_computes_the_same(tmp_path: Path) -> None:
    model = filled("htdemucs")
    wanted = run(model, tmp_path)
    new, changed = apply_rewrites(model, FOR_CPU)
    found = places(changed)
    assert {name: found[name] for name in ("attention", "gated-norms", "plain-norms", "gates")} == {
        "attention": 10,
        "gated-norms": 32,
        "plain-norms": 42,
        "gates": 16,
    }
    assert found["transposed-convolutions"] == 8
    for one, other in zip(wanted, run(new, tmp_path), strict=True):
        error = float(np.sum((one.astype(np.float64) - other) ** 2) / np.sum(one.astype(np.float64) ** 2))
        assert 10 * np.log10(error) < -60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hdemucs", "htdemucs_6s"])
def test_the_other_graphs_still_load(name: str, tmp_path: Path) -> None:
    new, changed = apply_rewrites(filled(name), (*FOR_CPU, pipeline.INT8))
    assert places(changed)["transposed-convolutions"] >= 8
    onnx.save(new, str(tmp_path / "model.onnx"))
    ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
