"""Giving a graph that takes one item at a time a batch of several."""

from collections.abc import Callable, Mapping

import numpy as np

from stemwright.core.arrays import FloatArray

Call = Callable[[Mapping[str, FloatArray]], dict[str, FloatArray]]


def one_by_one(call: Call, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Call with each item of the batch in turn and put the outputs together.

    Parameters
    ----------
    call
        Takes and gives arrays whose first axis is 1.
    inputs
        Arrays whose first axis is the batch.
    """
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in inputs.items()}
    size = next(iter(arrays.values())).shape[0]
    parts = [call({name: value[i : i + 1] for name, value in arrays.items()}) for i in range(size)]
    if size == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
