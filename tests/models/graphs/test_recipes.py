"""Recipes are found by comparing numbers, and make of other weights what the exporter would have made."""

from collections.abc import Callable

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.graphs.position_codes import sinusoid_1d
from stemwright.models.graphs.recipes import Computed, FromWeights, WeightIndex, find_computed


def random_state(seed: int) -> dict[str, FloatArray]:
    source = np.random.default_rng(seed)
    shapes = {"w": (6, 4), "conv": (8, 3, 5), "bias": (24,), "b2": (24,), "emb": (7, 3), "one": (1,)}
    return {name: source.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def gates(value: FloatArray) -> FloatArray:
    """The order of an LSTM's gates in ONNX, out of torch's."""
    first, forget, cell, last = np.split(value, 4)
    return np.concatenate([first, last, forget, cell])


MADE: dict[str, Callable[[dict[str, FloatArray]], FloatArray]] = {
    "taken": lambda s: s["w"],
    "transposed": lambda s: s["w"].T,
    "permuted": lambda s: s["conv"].transpose(2, 0, 1),
    "reshaped": lambda s: s["bias"][:, None],
    "reshaped further": lambda s: s["bias"].reshape(1, 4, 6, 1),
    "rows": lambda s: s["w"][2:5],
    "last rows, transposed": lambda s: s["w"][4:].T,
    "part of a vector": lambda s: s["bias"][6:12],
    "scaled": lambda s: s["emb"].T[None, :, :, None] * np.float32(2),
    "scaled by no power of two": lambda s: s["conv"] * np.float32(0.7),
    "flipped": lambda s: s["conv"][:, :, ::-1],
    "flipped in front": lambda s: s["w"][::-1],
    "repeated": lambda s: np.repeat(s["bias"][:, None], 9, axis=1),
    "repeated in front": lambda s: np.broadcast_to(s["w"], (5, 6, 4)),
    "joined": lambda s: np.concatenate([s["bias"], s["b2"]]),
    "gates": lambda s: gates(s["bias"]),
    "both directions": lambda s: np.stack(
        [
            np.concatenate([gates(s["bias"]), gates(s["b2"])]),
            np.concatenate([gates(s["b2"]), gates(s["bias"])]),
        ]
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_found_recipe_holds_for_other_weights(name: str) -> None:
    first, second = random_state(1), random_state(2)
    recipe = WeightIndex(first).find(np.ascontiguousarray(MADE[name](first)))
    assert recipe is not None
    made = recipe.make(second)
    np.testing.assert_array_equal(made, MADE[name](second))
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert FromWeights.model_validate_json(recipe.model_dump_json(exclude_defaults=True)) == recipe


@pytest.mark.parametrize(
    "value",
    [
        np.arange(24, dtype=np.float32),
        random_state(1)["w"] + 1,
        random_state(1)["w"] ** 2,
        random_state(3)["bias"],
        np.zeros((6, 4), np.float32),
    ],
)
def test_what_is_not_made_of_the_weights_has_none(value: FloatArray) -> None:
    assert WeightIndex(random_state(1)).find(value) is None


def test_labels_tell_what_was_done() -> None:
    state = random_state(1)
    index = WeightIndex(state)

    def label(value: FloatArray) -> str:
        found = index.find(np.ascontiguousarray(value))
        assert found is not None
        return found.label

    assert label(state["w"]) == "w"
    assert label(state["w"].T) == "w.T"
    assert label(state["w"][2:5].T) == "w[2:5].T"
    assert label(state["emb"] * 2) == "emb*2"
    assert label(state["w"][::-1]) == "w.flipped"
    assert label(gates(state["bias"])) == "bias[0:6]..."


def test_state_in_float16_is_widened() -> None:
    state = {name: value.astype(np.float16) for name, value in random_state(1).items()}
    recipe = WeightIndex(state).find(state["w"].T.astype(np.float32))
    assert recipe is not None
    assert recipe.make(state).dtype == np.float32


def test_missing_tensor_and_other_shape() -> None:
    state = random_state(1)
    recipe = WeightIndex(state).find(state["w"])
    assert recipe is not None
    with pytest.raises(ModelFileError, match="no tensor w"):
        recipe.make({})
    with pytest.raises(ModelFileError, match=r"\[4, 6\], not \[6, 4\]"):
        recipe.make({"w": state["w"].T})


def test_computed_constants() -> None:
    candidate = Computed(generator="sinusoid_1d", arguments={"length": 5, "dim": 8}, shape=(5, 8))
    value = sinusoid_1d(length=5, dim=8)[None]
    found = find_computed(value, [candidate])
    assert found is not None
    assert found.shape == (1, 5, 8)
    np.testing.assert_array_equal(found.make({}), value)
    assert found.label == "sinusoid_1d(5, 8)"
    assert find_computed(value + 1, [candidate]) is None
    assert find_computed(value[:, :4], [candidate]) is None
