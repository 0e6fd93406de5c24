"""Taking a checkpoint's tensors one by one, for graphs that are written from them."""

import itertools
from collections.abc import Mapping

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import FloatArray as AnyFloats

EPSILON = 1e-5
"""Of batch norms, torch's default."""


def numbered(tensors: Mapping[str, AnyFloats], name: str) -> int:
    """Count layers: the tensors of a name in which `{}` stands for 0, 1, 2, ... without a gap."""
    return next(number for number in itertools.count() if name.format(number) not in tensors)


class Tensors:
    """The tensors of a checkpoint by name.

    Parameters
    ----------
    tensors
        By their names in the file.
    remedy
        What to tell whoever gave a file in which one is missing.
    """

    def __init__(self, tensors: Mapping[str, AnyFloats], remedy: str) -> None:
        self._tensors = tensors
        self._remedy = remedy

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *, rank: int = 1) -> FloatArray:
        """Return a tensor as float32; raises ModelFileError if it is missing, unfit or not finite."""
        value = self._tensors.get(name)
        if value is None:
            raise ModelFileError(f"the checkpoint has no tensor {name}", self._remedy)
        if value.ndim != rank:
            raise ModelFileError(f"tensor {name} of the checkpoint is {list(value.shape)}", self._remedy)
        taken = np.asarray(value, np.float32)
        if not np.isfinite(taken).all():
            raise ModelFileError(f"tensor {name} of the checkpoint is not finite", self._remedy)
        return taken

    def affine(self, norm: str) -> tuple[FloatArray, FloatArray]:
        """Return scale and shift of a batch norm at rest; raises ModelFileError if it is none."""
        weight, bias, mean, variance = (
            self.take(f"{norm}.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if not len(weight) == len(bias) == len(mean) == len(variance) or (variance < 0).any():
            raise ModelFileError(f"{norm} of the checkpoint is no batch norm", self._remedy)
        scale = weight / np.sqrt(variance + EPSILON)
        shift = bias - mean * scale
        return np.asarray(scale, np.float32), np.asarray(shift, np.float32)
