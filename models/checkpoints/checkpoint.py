"""What every reader of checkpoints gives back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]

# What a constructor's argument may be once it has been read.
Value = None | bool | int | float | str | Fraction | list["Value"] | tuple["Value", ...] | dict[str, "Value"]

Kind = Literal["torch", "safetensors", "npm-onnx", "npz"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network's tensors and the arguments it was built with.

    tensors
        By their names in the network's state dict, in the float type of the file.
    klass
        Dotted name of the network's class, "" where the file names none. It is only a name.
    args, kwargs
        Arguments of that class.
    facts
        What else the file holds beside the tensors, as far as it is plain data.
    file_name
        Name of the file, for forms that say nothing else of what they are.
    like
        What the user says it is (`Family.variants`), "" where nothing was said.
    kind
        Form of the file.
    """

    tensors: Mapping[str, FloatArray]
    klass: str = ""
    args: tuple[Value, ...] = ()
    kwargs: Mapping[str, Value] = field(default_factory=dict)
    facts: Mapping[str, Value] = field(default_factory=dict)
    file_name: str = ""
    like: str = ""
    kind: Kind


def content_digest(tensors: Mapping[str, FloatArray]) -> str:
    """SHA-256 over the tensors, whatever file they came in.

    Over the tensors in the order of their names: the name in UTF-8, directly followed by the
    values as little-endian float32 in C order.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name], dtype="<f4").data)
    return digest.hexdigest()
