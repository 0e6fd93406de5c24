"""Recipes: how a constant of an exported graph is made out of the named tensors of a checkpoint.

An exporter transposes, splits, joins and scales weights. A recipe states what it did, so that a
graph can be shipped without its weights and filled from a checkpoint later (models/graphs/weightless.py).
`find_recipe` finds the recipe by comparing numbers, for a state whose values are random.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.graphs.position_codes import sinusoid_1d, sinusoid_2d

State = Mapping[str, npt.NDArray[np.floating]]

_GENERATORS: Mapping[str, Callable[..., FloatArray]] = {
    "sinusoid_1d": sinusoid_1d,
    "sinusoid_2d": sinusoid_2d,
}
_MAX_PARTS = 8  # an LSTM's bias joins eight pieces; nothing known joins more at one level ...
_MAX_DEPTH = 2  # ... or nests deeper than its two directions
_REMEDY = "the file is not a checkpoint of this architecture"


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Data):
    """A piece of one tensor.

    take, shape
        Name and shape of the tensor.
    rows
        First and last row (exclusive) taken along axis 0; None for all.
    axes
        Permutation of the axes after that; None for none.
    flip
        Axes reversed after that.
    scale
        Factor in the end, in float32.
    """

    take: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    axes: tuple[int, ...] | None = None
    flip: tuple[int, ...] = ()
    scale: float = 1.0

    def make(self, state: State) -> FloatArray:
        """Return the piece.

        Raises
        ------
        ModelFileError
            The state has no such tensor, or one of another shape.
        """
        tensor = state.get(self.take)
        if tensor is None:
            raise ModelFileError(f"the checkpoint has no tensor {self.take}", _REMEDY)
        if tensor.shape != self.shape:
            raise ModelFileError(
                f"tensor {self.take} of the checkpoint is {list(tensor.shape)}, not {list(self.shape)}",
                _REMEDY,
            )
        piece = tensor.astype(np.float32, copy=False)
        if self.rows is not None:
            piece = piece[self.rows[0] : self.rows[1]]
        if self.axes is not None:
            piece = piece.transpose(self.axes)
        if self.flip:
            piece = np.flip(piece, self.flip)
        return piece if self.scale == 1.0 else piece * np.float32(self.scale)

    @property
    def label(self) -> str:
        """Short name for what this is: the tensor's, with what was done to it."""
        rows = "" if self.rows is None else f"[{self.rows[0]}:{self.rows[1]}]"
        axes = "" if self.axes is None else ".T"
        flip = ".flipped" if self.flip else ""
        return self.take + rows + axes + flip + ("" if self.scale == 1.0 else f"*{self.scale:g}")


class FromWeights(_Data):
    """Parts laid one behind the other (in C order), reshaped to `shape`, then broadcast to `repeat`."""

    kind: Literal["weights"] = "weights"
    parts: tuple[Part, ...] = Field(min_length=1)
    shape: tuple[int, ...]
    repeat: tuple[int, ...] | None = None

    def make(self, state: State) -> FloatArray:
        """Return the constant; raises ModelFileError as Part.make does."""
        pieces = [part.make(state) for part in self.parts]
        flat = pieces[0].reshape(-1) if len(pieces) == 1 else np.concatenate([p.reshape(-1) for p in pieces])
        made = flat.reshape(self.shape)
        return np.ascontiguousarray(made if self.repeat is None else np.broadcast_to(made, self.repeat))

    @property
    def label(self) -> str:
        """Short name for the constant."""
        return self.parts[0].label + ("" if len(self.parts) == 1 else "...")


class Computed(_Data):
    """A constant that depends on no weight and is too large to ship."""

    kind: Literal["computed"] = "computed"
    generator: Literal["sinusoid_1d", "sinusoid_2d"]
    arguments: dict[str, int]
    shape: tuple[int, ...]

    def make(self, state: State) -> FloatArray:
        """Return the constant; `state` is not looked at."""
        return _GENERATORS[self.generator](**self.arguments).reshape(self.shape)

    @property
    def label(self) -> str:
        """Short name for the constant."""
        return f"{self.generator}({', '.join(str(value) for value in self.arguments.values())})"


Recipe = FromWeights | Computed


class WeightIndex:
    """Finds pieces of a random state's tensors by the value in their corner.

    The first element of a slice of rows stays first under any transposition or reshaping, and in a
    state of random values it is all but unique.
    """

    def __init__(self, state: State) -> None:
        self.state = {name: tensor.astype(np.float32) for name, tensor in state.items()}
        self._corners: dict[float, list[tuple[str, int]]] = defaultdict(list)
        for name, tensor in self.state.items():
            corners = tensor.reshape(tensor.shape[0], -1)[:, 0] if tensor.ndim else tensor.reshape(1)
            for row, value in enumerate(corners.tolist()):
                self._corners[value].append((name, row))

    def find(self, value: FloatArray) -> FromWeights | None:
        """Find the recipe of a constant, or None if it is not made of these weights."""
        core = value[
            tuple(slice(0, 1) if _is_repeated(value, axis) else slice(None) for axis in range(value.ndim))
        ]
        for candidate in (value,) if core.shape == value.shape else (value, core):
            parts = self._parts(candidate)
            if parts is not None:
                repeat = None if candidate is value else value.shape
                return FromWeights(parts=tuple(parts), shape=candidate.shape, repeat=repeat)
        return None

    def _parts(self, value: FloatArray, depth: int = 0) -> list[Part] | None:
        found = self._piece(value) or self._flipped(value) or self._scaled(value)
        return [found] if found is not None else self._joined(value, depth)

    def _joined(self, value: FloatArray, depth: int) -> list[Part] | None:
        rows = value.reshape([size for size in value.shape if size != 1])
        if not rows.ndim or depth == _MAX_DEPTH:
            return None
        for count in range(2, min(_MAX_PARTS, rows.shape[0]) + 1):
            if rows.shape[0] % count:
                continue
            parts: list[Part] = []
            for block in np.split(rows, count):
                found = self._parts(block, depth + 1) if block.size > 1 else None
                if found is None:
                    break
                parts += found
            else:
                return parts
        return None

    def _piece(self, value: FloatArray, flip: tuple[int, ...] = ()) -> Part | None:
        for name, row in self._corners.get(float(value.reshape(-1)[0]), ()):
            tensor = self.state[name]
            row_size = tensor.size // tensor.shape[0]
            rows, rest = divmod(value.size, row_size)
            piece = tensor[row : row + rows]
            if rest or piece.size != value.size or piece.reshape(-1)[-1] != value.reshape(-1)[-1]:
                continue
            for axes in _layouts(piece.ndim):
                laid = piece if axes is None else piece.transpose(axes)
                if np.array_equal(laid.reshape(value.shape), value):
                    span = None if rows == tensor.shape[0] else (row, row + rows)
                    return Part(take=name, shape=tensor.shape, rows=span, axes=axes)
        return None

    def _flipped(self, value: FloatArray) -> Part | None:
        for axis in range(value.ndim):
            if value.shape[axis] > 1:
                part = self._piece(np.ascontiguousarray(np.flip(value, axis)))
                if part is not None and len(part.shape) == value.ndim:
                    return part.model_copy(update={"flip": (axis,)})
        return None

    def _scaled(self, value: FloatArray) -> Part | None:
        for name, tensor in self.state.items():
            if tensor.size != value.size or tensor.reshape(-1)[0] == 0:
                continue
            scale = float(f"{value.reshape(-1)[0] / tensor.reshape(-1)[0]:.6g}")
            if scale == 0 or not np.isclose(tensor.reshape(-1)[-1] * scale, value.reshape(-1)[-1], rtol=1e-5):
                continue
            for axes in _layouts(tensor.ndim):
                laid = tensor if axes is None else tensor.transpose(axes)
                if np.array_equal(laid.reshape(value.shape) * np.float32(scale), value):
                    return Part(take=name, shape=tensor.shape, axes=axes, scale=scale)
        return None


def find_computed(value: FloatArray, candidates: Sequence[Computed]) -> Computed | None:
    """Return the candidate that makes exactly these numbers, in this constant's shape, or None."""
    for candidate in candidates:
        made = candidate.make({})
        if made.size == value.size and np.array_equal(made.reshape(value.shape), value):
            return candidate.model_copy(update={"shape": value.shape})
    return None


def _is_repeated(value: FloatArray, axis: int) -> bool:
    return value.shape[axis] > 1 and bool(np.all(value == np.take(value, [0], axis)))


def _layouts(ndim: int) -> Iterator[tuple[int, ...] | None]:
    yield None
    yield from list(permutations(range(ndim)))[1:]
