"""Constants are folded, moves are cancelled, layers are quantised."""

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from stemwright.models.sessions.rewrites.folding import fold_constants, fold_for_one
from stemwright.models.sessions.rewrites.graph import EditableGraph
from stemwright.models.sessions.rewrites.moves import cancel_moves
from stemwright.models.sessions.rewrites.quantise import compress_layers, quantise_layers
from tests.models.sessions.rewrites.graphs import GraphMaker, check, kinds, output_of, rewritten


def test_shapes_and_casts_are_folded() -> None:
    made = GraphMaker(("batch", 4, 6))
    half = made.tensor(made.rng.standard_normal((6, 6)).astype(np.float16))
    product = made.add("MatMul", "x", made.add("Cast", half, to=TensorProto.FLOAT))
    length = made.add("Gather", made.add("Shape", product), made.tensor(np.asarray(1)))
    flat = made.add("Concat", made.ints(-1), made.add("Unsqueeze", length, made.ints(0)), axis=0)
    model = made.model(made.add("Reshape", product, flat))
    x = np.random.default_rng(0).standard_normal((1, 4, 6)).astype(np.float32)
    graph = EditableGraph(model)
    assert fold_for_one(graph) == 5
    new = graph.to_model()
    assert kinds(new) == ["MatMul", "Reshape", "Identity"]
    assert new.graph.initializer[0].data_type in (TensorProto.FLOAT, TensorProto.INT64)
    assert np.array_equal(output_of(new, x), output_of(model, x))


def test_the_batch_stays_free_where_it_should() -> None:
    made = GraphMaker(("batch", 6))
    half = made.tensor(np.ones((6, 6), np.float16))
    model = made.model(made.add("MatMul", "x", made.add("Cast", half, to=TensorProto.FLOAT)))
    graph = EditableGraph(model)
    assert fold_constants(graph) == 1
    assert output_of(graph.to_model(), np.ones((3, 6), np.float32)).shape == (3, 6)


def test_a_small_constant_is_not_blown_up() -> None:
    made = GraphMaker((1, 3000, 1000))
    large = made.add("Expand", made.weight(1, 1, 1000), made.ints(1, 3000, 1000))
    _, new = rewritten(made.model(made.add("Add", "x", large)), fold_for_one)
    assert sum(tensor.ByteSize() for tensor in new.graph.initializer) < 100_000


def test_identities_go_and_outputs_keep_their_names() -> None:
    made = GraphMaker((1, 4))
    model = made.model(made.add("Relu", made.add("Identity", made.add("Identity", "x"))))
    new = check(model, fold_for_one, places=2)
    assert kinds(new) == ["Relu", "Identity"]
    assert [output.name for output in new.graph.output] == ["y"]


@settings(max_examples=30, deadline=None)
@given(st.permutations([0, 1, 2, 3]), st.permutations([0, 1, 2, 3]))
def test_moves_cancel_only_if_they_cancel(first: list[int], second: list[int]) -> None:
    sizes = (1, 2, 3, 4)
    made = GraphMaker(sizes)
    moved = made.add("Transpose", made.add("Transpose", made.add("Relu", "x"), perm=first), perm=second)
    model = made.model(made.add("Relu", moved))
    order = [first[axis] for axis in second]
    kept = [axis for axis in order if sizes[axis] > 1]
    straight = kept == sorted(kept)
    check(model, lambda graph: min(1, cancel_moves(graph)), places=int(straight))


def test_int8_layers_are_near() -> None:
    made = GraphMaker((1, 50, 256))
    layer = made.add("Add", made.weight(300), made.add("MatMul", "x", made.weight(256, 300)))
    new = check(made.model(layer), quantise_layers, places=1, tolerance=2e-2)
    assert kinds(new) == ["DynamicQuantizeMatMul", "Identity"]


def test_small_layers_stay_float32() -> None:
    made = GraphMaker((1, 5, 16))
    check(made.model(made.add("MatMul", "x", made.weight(16, 16))), quantise_layers, places=0)


def test_new_names_never_meet_old_ones() -> None:
    made = GraphMaker((1, 50, 256))
    layer = made.add("MatMul", "x", made.weight(256, 300))
    _, once = rewritten(made.model(made.add("MatMul", layer, made.weight(300, 256))), quantise_layers)
    graph = EditableGraph(once)
    name = once.graph.initializer[0].name
    assert graph.unique(name.partition("/")[0]) not in {tensor.name for tensor in once.graph.initializer}


def test_the_model_given_is_not_changed() -> None:
    made = GraphMaker(("batch", 4, 6))
    model = made.model(made.add("Relu", made.add("Identity", "x")))
    before = model.SerializeToString()
    rewritten(model, fold_for_one)
    assert model.SerializeToString() == before
    assert isinstance(model, onnx.ModelProto)


def test_int8_weights_are_near() -> None:
    made = GraphMaker((1, 50, 256))
    new = check(
        made.model(made.add("MatMul", "x", made.weight(256, 300))), compress_layers, places=1, tolerance=1e-2
    )
    assert kinds(new) == ["DequantizeLinear", "MatMul", "Identity"]
