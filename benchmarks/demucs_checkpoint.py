"""The weights of an installed model as a checkpoint that the demucs package loads."""

import hashlib
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from stemwright.models.demucs.architectures import GRAPHS_DIR
from stemwright.models.graphs.recipes import FromWeights, Part
from stemwright.models.graphs.weightless import WeightlessGraph
from stemwright.models.registry.store import InstalledModel

SIGNATURE = "stemwright"
State = dict[str, npt.NDArray[np.float32]]


def write_checkpoint(model: InstalledModel, repo: Path) -> None:
    """Write the installed model's weights as demucs keeps its releases: SIGNATURE-HASH.th."""
    import torch
    from demucs.htdemucs import HTDemucs

    network = HTDemucs(list(model.manifest.stems), bottom_channels=512, dconv_mode=3, segment=Fraction(39, 5))
    weights = {name: torch.from_numpy(value) for name, value in state_of(model).items()}
    network.load_state_dict(weights)
    arguments, keywords = network._init_args_kwargs  # demucs.states.serialize_model reads the same
    package: dict[str, Any] = {
        "klass": HTDemucs,
        "args": arguments,
        "kwargs": keywords,
        "state": {name: value.half() for name, value in network.state_dict().items()},
    }
    repo.mkdir()
    path = repo / "checkpoint"
    torch.save(package, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(repo / f"{SIGNATURE}-{digest[:8]}.th")


def state_of(model: InstalledModel) -> State:
    """Named tensors of a model, by its architecture's recipes read backwards."""
    constants = _constants(onnx.load(str(model.graph_path)))
    for path in sorted(GRAPHS_DIR.glob("*.onnx")):
        recipes = WeightlessGraph.read(path).recipes
        if all(name in constants and constants[name].shape == _shape(r) for name, r in recipes.items()):
            state: State = {}
            for name, recipe in recipes.items():
                if isinstance(recipe, FromWeights):
                    _unmake(recipe, constants[name], state)
            return state
    return sys.exit(f"{model.name} is of no architecture that is known here")


def _constants(model: onnx.ModelProto) -> State:
    """Constants by name; those stored as float16 by the name of the Cast behind them."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors.pop(node.input[0]).astype(np.float32)
    return tensors


def _shape(recipe: Any) -> tuple[int, ...]:
    return tuple(getattr(recipe, "repeat", None) or recipe.shape)


def _unmake(recipe: FromWeights, constant: npt.NDArray[np.float32], state: State) -> None:
    """Put the parts of a constant back into the tensors they were taken from."""
    if recipe.repeat is not None:
        full = (1,) * (len(recipe.repeat) - len(recipe.shape)) + recipe.shape
        constant = constant[tuple(slice(0, size) for size in full)]
    flat, start = constant.reshape(-1), 0
    for part in recipe.parts:
        piece = _piece_shape(part)
        size = int(np.prod(piece))
        _put(part, flat[start : start + size].reshape(piece), state)
        start += size


def _piece_shape(part: Part) -> tuple[int, ...]:
    rows = part.shape if part.rows is None else (part.rows[1] - part.rows[0], *part.shape[1:])
    return rows if part.axes is None else tuple(rows[axis] for axis in part.axes)


def _put(part: Part, piece: npt.NDArray[np.float32], state: State) -> None:
    piece = piece / np.float32(part.scale)
    if part.flip:
        piece = np.flip(piece, part.flip)
    if part.axes is not None:
        piece = piece.transpose(np.argsort(part.axes))
    tensor = state.setdefault(part.take, np.zeros(part.shape, np.float32))
    first, last = part.rows or (0, part.shape[0] if part.shape else 1)
    if part.shape:
        tensor[first:last] = piece
    else:
        state[part.take] = piece.reshape(())
