"""Gates as two half convolutions, transposed convolutions as convolutions."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from stemwright.models.sessions.rewrites.convolutions import halve_gates, unroll_transposed
from tests.models.sessions.rewrites.graphs import GraphMaker, check, kinds


def _gate(made: GraphMaker, value: str) -> str:
    a, b = made.add("Split", value, outputs=2, axis=1, num_outputs=2)
    return str(made.add("Mul", a, made.add("Sigmoid", b)))


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_gate_behind_a_convolution_is_halved(axes: int, bias: bool) -> None:
    made = GraphMaker((1, 5, *(9, 7)[:axes]))
    tensors = [made.weight(8, 5, *(3,) * axes)] + ([made.weight(8)] if bias else [])
    conv = made.add("Conv", "x", *tensors, pads=[1] * 2 * axes)
    new = check(made.model(_gate(made, conv)), halve_gates, places=1)
    assert kinds(new).count("Conv") == 2
    assert "Split" not in kinds(new)


@pytest.mark.parametrize("change", ["second reader", "groups", "other axis", "no sigmoid"])
def test_other_splits_are_left_alone(change: str) -> None:
    made = GraphMaker((1, 4, 8))
    conv = made.add(
        "Conv", "x", made.weight(8, 2 if change == "groups" else 4, 1), group=2 if change == "groups" else 1
    )
    axis = 2 if change == "other axis" else 1
    a, b = made.add("Split", conv, outputs=2, axis=axis, num_outputs=2)
    gate = made.add("Tanh", b) if change == "no sigmoid" else made.add("Sigmoid", b)
    result = made.add("Mul", a, gate)
    if change == "second reader":
        result = made.add("Concat", result, conv, axis=1)
    check(made.model(result), halve_gates, places=0)


def _transposed(
    stride: int, kernel: int, rest: tuple[int, ...], *, bias: bool = True, **more: Any
) -> ModelProto:
    made = GraphMaker((1, 3, 6, *rest))
    ones = (1,) * len(rest)
    tensors = [made.weight(3, 4, kernel, *ones)] + ([made.weight(4)] if bias else [])
    return made.model(made.add("ConvTranspose", "x", *tensors, strides=[stride, *ones], **more))


@settings(max_examples=20, deadline=None)
@given(stride=st.integers(2, 5), rest=st.sampled_from([(), (4,)]), bias=st.booleans())
def test_transposed_convolution_of_twice_the_stride(stride: int, rest: tuple[int, ...], bias: bool) -> None:
    new = check(_transposed(stride, 2 * stride, rest, bias=bias), unroll_transposed, places=1)
    assert "ConvTranspose" not in kinds(new)


@pytest.mark.parametrize(
    "model",
    [
        _transposed(4, 6, ()),
        _transposed(1, 2, ()),
        _transposed(2, 4, (), pads=[1, 1]),
        _transposed(2, 4, (), output_padding=[1]),
    ],
    ids=["kernel", "stride", "padding", "output padding"],
)
def test_other_transposed_convolutions_are_left_alone(model: ModelProto) -> None:
    check(model, unroll_transposed, places=0)
