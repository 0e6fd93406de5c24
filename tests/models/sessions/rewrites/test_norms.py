"""Norms over all channels, in the forms of two exporters, folded and rewritten."""

import numpy as np
import pytest
from onnx import ModelProto

from stemwright.models.sessions.rewrites.norms import fold_gated_norms, layer_norms, plain_norms
from stemwright.models.sessions.runtimes.openvino_core import openvino_core
from tests.models.sessions.rewrites.graphs import GraphMaker, check, kinds, output_of, rewritten

ROWS, HIDDEN, CHANNELS, TIME = 1, 4, 6, 50


def _norm(made: GraphMaker, value: str, channels: int, form: str) -> str:
    weight, bias = made.rng.standard_normal((2, channels)).astype(np.float32)
    if form == "operator":
        return str(
            made.add("GroupNormalization", value, made.tensor(weight), made.tensor(bias), num_groups=1)
        )
    row = made.add("Reshape", value, made.ints(0, 1, -1))
    one, zero = made.tensor(np.ones(1, np.float32)), made.tensor(np.zeros(1, np.float32))
    even = made.add("InstanceNormalization", row, one, zero, epsilon=1e-5)
    back = made.add("Reshape", even, made.ints(ROWS, channels, TIME))
    scaled = made.add("Mul", back, made.tensor(weight[:, None]))
    return str(made.add("Add", scaled, made.tensor(bias[:, None])))


def _maker(form: str, channels: int = HIDDEN) -> GraphMaker:
    return GraphMaker((ROWS, channels, TIME), opset=21 if form == "operator" else 18)


def _branch(form: str, *, scale: bool = True, bias: bool = True) -> ModelProto:
    """Second half of a DConv branch."""
    made = _maker(form)
    hidden = made.add("Relu", "x")
    tensors = [made.weight(2 * CHANNELS, HIDDEN, 1)] + ([made.weight(2 * CHANNELS)] if bias else [])
    normed = _norm(made, made.add("Conv", hidden, *tensors), 2 * CHANNELS, form)
    a, b = made.add("Split", normed, outputs=2, axis=1, num_outputs=2)
    result = made.add("Mul", a, made.add("Sigmoid", b))
    if scale:
        result = made.add("Mul", made.weight(CHANNELS, 1), result)
    return made.model(result)


@pytest.mark.parametrize("form", ["instances", "operator"])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_gated_norm_is_folded(form: str, scale: bool, bias: bool) -> None:
    new = check(_branch(form, scale=scale, bias=bias), fold_gated_norms, places=1, tolerance=5e-6)
    assert not {"Split", "InstanceNormalization", "GroupNormalization"} & set(kinds(new))


def test_folding_loses_no_digits_to_a_large_mean() -> None:
    model = _branch("instances")
    x = (np.random.default_rng(1).standard_normal((ROWS, HIDDEN, TIME)) * 0.01 + 30).astype(np.float32)
    wanted = output_of(model, x)
    _, new = rewritten(model, fold_gated_norms)
    assert np.abs(output_of(new, x) - wanted).max() < 2e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("form", ["instances", "operator"])
@pytest.mark.parametrize("rewrite", [layer_norms, plain_norms])
def test_norms_alone(form: str, rewrite: object) -> None:
    made = _maker(form)
    model = made.model(_norm(made, "x", HIDDEN, form))
    if rewrite is layer_norms:
        # ONNX Runtime may refuse a column as a scale; OpenVINO, which this form is for, takes it.
        places, new = rewritten(model, layer_norms)
        assert places == 1
        assert "LayerNormalization" in kinds(new)
        assert np.allclose(_in_openvino(new), _in_openvino(model), atol=5e-6)
    else:
        check(model, plain_norms, places=1, tolerance=5e-6)


def _in_openvino(model: ModelProto) -> "np.typing.NDArray[np.float32]":
    pytest.importorskip("openvino", reason="needs the extra openvino")
    core = openvino_core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    x = np.random.default_rng(7).standard_normal((ROWS, HIDDEN, TIME)).astype(np.float32)
    return np.array(compiled([x])[0])


def test_several_groups_are_left_alone() -> None:
    made = _maker("operator")
    weight, bias = made.weight(HIDDEN), made.weight(HIDDEN)
    model = made.model(made.add("GroupNormalization", "x", weight, bias, num_groups=2))
    check(model, plain_norms, places=0)


def test_a_longer_kernel_is_not_folded() -> None:
    made = _maker("instances")
    conv = made.add("Conv", "x", made.weight(2 * CHANNELS, HIDDEN, 3), pads=[1, 1])
    a, b = made.add("Split", _norm(made, conv, 2 * CHANNELS, "instances"), outputs=2, axis=1, num_outputs=2)
    check(made.model(made.add("Mul", a, made.add("Sigmoid", b))), fold_gated_norms, places=0)
