"""Written-out attention becomes the fused operator, however the heads were cut."""

import numpy as np
import pytest
from onnx import ModelProto

from stemwright.models.sessions.rewrites.attention import fuse_attention
from stemwright.models.sessions.rewrites.graph import EditableGraph
from stemwright.models.sessions.rewrites.moves import cancel_moves
from tests.models.sessions.rewrites.graphs import GraphMaker, check, kinds

WIDTH, HEADS, QUERIES, KEYS = 24, 3, 10, 10


def _packed(*, sequence_first: bool) -> ModelProto:
    """One projection to q, k and v side by side, as torch's MultiheadAttention is exported."""
    made = GraphMaker((1, QUERIES, WIDTH))
    x = made.add("Transpose", "x", perm=[1, 0, 2]) if sequence_first else "x"
    lead = (QUERIES, 1) if sequence_first else (1, QUERIES)
    packed = made.add("Add", made.add("MatMul", x, made.weight(WIDTH, 3 * WIDTH)), made.weight(3 * WIDTH))
    cut = made.add("Reshape", packed, made.ints(*lead, 3, WIDTH))
    heads = []
    for index in range(3):
        part = made.add("Gather", cut, made.tensor(np.asarray(index)), axis=2)
        split = made.add("Reshape", part, made.ints(*lead, HEADS, WIDTH // HEADS))
        heads.append(made.add("Transpose", split, perm=[1, 2, 0, 3] if sequence_first else [0, 2, 1, 3]))
    return _attend(made, *heads)


def _separate(made: GraphMaker) -> ModelProto:
    heads = []
    for _ in range(3):
        layer = made.add("MatMul", "x", made.weight(WIDTH, WIDTH))
        split = made.add("Reshape", layer, made.ints(1, QUERIES, HEADS, WIDTH // HEADS))
        heads.append(made.add("Transpose", split, perm=[0, 2, 1, 3]))
    return _attend(made, *heads)


def _attend(made: GraphMaker, q: str, k: str, v: str) -> ModelProto:
    scaled = made.add("Mul", q, made.tensor(np.float32(0.6)))
    turned = made.add("Transpose", k, perm=[0, 1, 3, 2])
    scores = made.add("Div", made.add("MatMul", scaled, turned), made.tensor(np.float32(1.7)))
    mixed = made.add("MatMul", made.add("Softmax", scores, axis=-1), v)
    joined = made.add("Transpose", mixed, perm=[0, 2, 1, 3])
    return made.model(made.add("Reshape", joined, made.ints(1, QUERIES, WIDTH)))


@pytest.mark.parametrize("sequence_first", [True, False])
def test_packed_projection_is_cut_and_nothing_is_moved(sequence_first: bool) -> None:
    new = check(_packed(sequence_first=sequence_first), fuse_attention, places=1)
    assert kinds(new).count("MultiHeadAttention") == 1
    assert kinds(new).count("MatMul") == 3  # the layers of q, k and v; none of the attention
    assert "Gather" not in kinds(new)


def test_separate_projections() -> None:
    new = check(_separate(GraphMaker((1, QUERIES, WIDTH))), fuse_attention, places=1)
    assert kinds(new).count("Transpose") <= 2


def test_moves_around_the_fused_operator_cancel() -> None:
    def both(graph: EditableGraph) -> int:
        fuse_attention(graph)
        return cancel_moves(graph)

    assert "Transpose" not in kinds(check(_separate(GraphMaker((1, QUERIES, WIDTH))), both, places=1))


def test_heads_in_an_unexpected_order_are_moved_not_mistaken() -> None:
    made = GraphMaker((1, QUERIES, WIDTH))
    heads = []
    for _ in range(3):
        layer = made.add("MatMul", "x", made.weight(WIDTH, WIDTH))
        split = made.add("Reshape", layer, made.ints(1, QUERIES, WIDTH // HEADS, HEADS))  # width before heads
        heads.append(made.add("Transpose", split, perm=[0, 3, 1, 2]))
    q, k, v = heads
    turned = made.add("Transpose", k, perm=[0, 1, 3, 2])
    mixed = made.add("MatMul", made.add("Softmax", made.add("MatMul", q, turned), axis=-1), v)
    check(made.model(mixed), fuse_attention, places=1, tolerance=1e-5)


@pytest.mark.parametrize("change", ["axis", "mask", "second reader"])
def test_what_is_not_plain_attention_is_left_alone(change: str) -> None:
    made = GraphMaker((1, HEADS, QUERIES, KEYS))
    scores = made.add("MatMul", "x", "x")
    if change == "mask":
        scores = made.add("Add", scores, made.weight(QUERIES, KEYS))
    shares = made.add("Softmax", scores, axis=2 if change == "axis" else -1)
    mixed = made.add("MatMul", shares, "x")
    if change == "second reader":
        mixed = made.add("Add", mixed, shares)
    check(made.model(mixed), fuse_attention, places=0)
