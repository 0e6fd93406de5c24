"""Writing checkpoints of our own: safetensors with class and arguments in the metadata.

The form is the one of demucs 4.1.0, which `safetensors_file` reads.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from stemwright.models.checkpoints.checkpoint import FloatArray


def write_checkpoint(
    path: Path, tensors: Mapping[str, FloatArray], *, klass: str, kwargs: Mapping[str, Any]
) -> None:
    """Write a network's tensors and what it was built with.

    Parameters
    ----------
    path
        The file.
    tensors
        By name; stored in their float type.
    klass
        Dotted name of the network's class.
    kwargs
        Arguments of that class, plain values.
    """
    metadata = {"klass": klass, "args": "[]", "kwargs": json.dumps(dict(kwargs))}
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, metadata)
