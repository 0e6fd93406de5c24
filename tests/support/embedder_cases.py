"""Stored cases of embedders: random weights and what the authors' own networks make of a sound.

They were made by benchmarks/embedder_cases.py, which says from what.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from stemwright.core.arrays import FloatArray

Tensors = dict[str, FloatArray]
_PLACE = Path(__file__).parents[1] / "models" / "embedders"


def stored_case(name: str) -> tuple[Tensors, Tensors]:
    """Return the state dict without its integers, and the other arrays."""
    with np.load(_PLACE / f"{name}_case.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    state = {
        key.removeprefix("state/"): value
        for key, value in arrays.items()
        if key.startswith("state/") and value.dtype.kind == "f"
    }
    return state, {key: value for key, value in arrays.items() if not key.startswith("state/")}


def write_checkpoint(path: Path, state: Tensors, key: str = "state") -> None:
    """Write a torch file with the tensors under a key, or, for an empty key, by themselves."""
    tensors = {name: torch.tensor(value) for name, value in state.items()}
    torch.save({"epochs": 1, key: tensors} if key else tensors, path)


def run_graph(model: onnx.ModelProto, values: FloatArray) -> FloatArray:
    """Run a graph of one input and one output."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {session.get_inputs()[0].name: values})
    return np.asarray(made, np.float32)
