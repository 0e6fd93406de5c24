"""Rewritten graphs are kept, found again, and never broken."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from stemwright.core.errors import ModelFileError
from stemwright.models.sessions.rewrites import pipeline
from stemwright.models.sessions.rewrites.graph import EditableGraph
from stemwright.models.sessions.rewrites.pipeline import CONSTANTS, GATES, Plan, Rewrite, prepared_graph
from tests.models.sessions.rewrites.graphs import GraphMaker, output_of

SHA = "ab" * 32


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = GraphMaker(("batch", 4, 8))
    conv = made.add("Conv", "x", made.weight(6, 4, 1))
    a, b = made.add("Split", conv, outputs=2, axis=1, num_outputs=2)
    path = tmp_path / "model.onnx"
    onnx.save(made.model(made.add("Mul", a, made.add("Sigmoid", b))), str(path))
    return path


def test_a_result_is_kept_and_found_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(rewrites=(CONSTANTS, GATES), runtime="any 1")
    with prepared_graph(source, SHA, plan, cache_dir=tmp_path / "cache") as first:
        assert first.rewrites == ("gates x1",)
        assert first.path.parent == tmp_path / "cache" / "graphs"
    monkeypatch.setattr(pipeline, "apply_rewrites", None)
    with prepared_graph(source, SHA, plan, cache_dir=tmp_path / "cache") as second:
        assert second == first


@pytest.mark.parametrize("what", ["hash", "runtime", "version", "finish"])
def test_whatever_the_result_depends_on_makes_a_new_one(source: Path, tmp_path: Path, what: str) -> None:
    plan = Plan(rewrites=(CONSTANTS, GATES), runtime="any 1")
    other = {
        "hash": plan,
        "runtime": Plan(rewrites=plan.rewrites, runtime="any 2"),
        "version": Plan(
            rewrites=(CONSTANTS, Rewrite(name="gates", version=99, apply=GATES.apply)), runtime="any 1"
        ),
        "finish": Plan(rewrites=plan.rewrites, runtime="any 1", finish=lambda model: model, finish_key="one"),
    }[what]
    with (
        prepared_graph(source, SHA, plan, cache_dir=tmp_path / "cache") as first,
        prepared_graph(
            source, "cd" * 32 if what == "hash" else SHA, other, cache_dir=tmp_path / "cache"
        ) as second,
    ):
        assert first.path != second.path


def test_a_cut_off_file_is_made_again(source: Path, tmp_path: Path) -> None:
    plan = Plan(rewrites=(CONSTANTS,), runtime="any 1")
    with prepared_graph(source, SHA, plan, cache_dir=tmp_path / "cache") as first:
        size = first.path.stat().st_size
        first.path.write_bytes(first.path.read_bytes()[: size // 2])
    with prepared_graph(source, SHA, plan, cache_dir=tmp_path / "cache") as second:
        assert second.path.stat().st_size == size


def test_without_a_cache_it_lives_as_long_as_needed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    plan = Plan(rewrites=(CONSTANTS, GATES), runtime="any 1")
    with prepared_graph(source, SHA, plan, cache_dir=tmp_path / "cache") as prepared:
        assert prepared.path.is_file()
        assert prepared.rewrites == ("gates x1",)
    assert not prepared.path.exists()


def test_files_of_a_past_season_go(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "graphs"
    folder.mkdir(parents=True)
    for name, age in (("old", 1e9), ("new", 0.0)):
        (folder / f"{name}.onnx").write_bytes(b"graph")
        note = folder / f"{name}.json"
        note.write_text(json.dumps({"size": 5, "rewrites": []}))
        if age:
            os.utime(note, (1.0, 1.0))
    plan = Plan(rewrites=(CONSTANTS,), runtime="any 1")
    with prepared_graph(source, SHA, plan, cache_dir=tmp_path / "cache"):
        assert not (folder / "old.onnx").exists()
        assert (folder / "new.onnx").exists()


def test_too_large_a_graph_has_its_weights_beside_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = output_of(onnx.load(str(source)), np.ones((1, 4, 8), np.float32))
    monkeypatch.setattr(pipeline, "_LARGEST_FILE", 50)
    monkeypatch.setattr(pipeline, "_OWN_PLACE", 10)
    plan = Plan(rewrites=(CONSTANTS, GATES), runtime="any 1")
    folder = tmp_path / "cache" / "graphs"
    for _ in range(2):  # made, then made again without its weights
        with prepared_graph(source, SHA, plan, cache_dir=tmp_path / "cache") as kept:
            (weights,) = folder.glob("*.weights")
            assert not any(
                tensor.raw_data
                for tensor in onnx.load(kept.path, load_external_data=False).graph.initializer
                if tensor.dims
            )
            session = ort.InferenceSession(str(kept.path), providers=["CPUExecutionProvider"])
            np.testing.assert_allclose(
                session.run(None, {"x": np.ones((1, 4, 8), np.float32)})[0], expected, atol=1e-6
            )
        weights.write_bytes(b"cut off")
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "_KEPT_S", -1.0)
        pipeline._drop_old(folder)
    assert not list(folder.iterdir())


def test_control_flow_is_left_alone(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "branch", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    graph = helper.make_graph(
        [
            helper.make_node(
                "Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [1])
            ),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        ],
        "flow",
        [helper.make_tensor_value_info("x", 1, ["batch", 3])],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "flow.onnx"
    onnx.save(model, str(path))
    with prepared_graph(
        path, SHA, Plan(rewrites=(CONSTANTS, GATES), runtime="any 1"), cache_dir=tmp_path / "cache"
    ) as prepared:
        assert prepared.rewrites == ()
        x = np.ones((2, 3), np.float32)
        assert np.array_equal(output_of(onnx.load(str(prepared.path)), x), x)


def test_what_is_no_graph_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\xff\x00 not ONNX")
    with (
        pytest.raises(ModelFileError, match=r"model\.onnx"),
        prepared_graph(path, SHA, Plan(rewrites=(), runtime="any"), cache_dir=tmp_path / "cache"),
    ):
        pass


def test_every_rewrite_leaves_an_unrelated_graph_alone(source: Path) -> None:
    made = GraphMaker((1, 4, 8))
    model = made.model(made.add("Tanh", "x"))
    names = ("ATTENTION", "GATED_NORMS", "LAYER_NORMS", "PLAIN_NORMS", "GATES", "TRANSPOSED", "MOVES", "INT8")
    for name in names:
        rewrite: Rewrite = getattr(pipeline, name)
        assert rewrite.apply(EditableGraph(model)) == 0
