"""Reader of safetensors files.

In those that demucs 4.1.0 publishes and reads, the class, `args` and `kwargs` stand in the metadata, the
latter two as JSON. Other files are plain state dicts, whose metadata are kept as facts.

References
----------
demucs 4.1.0, `demucs.hf.load_safetensors_model`; the safetensors format.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.arguments import from_json, plain_mapping
from stemwright.models.checkpoints.checkpoint import Checkpoint, FloatArray

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
}
_COUNTER = "num_batches_tracked"  # of batch norms; of use in training only
_REMEDY = "fetch the file again"


def read_safetensors(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    ModelFileError
        Damaged, or packed by DiffQ.
    """
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
        records = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path.name} is a damaged safetensors file: {error}", _REMEDY) from error
    if "structure" in metadata:
        raise ModelFileError(
            f"{path.name} is packed by DiffQ, which is not supported",
            "use the model without quantisation (mdx_extra instead of mdx_extra_q)",
        )
    tensors = {name: _tensor(name, record) for name, record in records if not name.endswith(_COUNTER)}
    if not {"klass", "args", "kwargs"} <= set(metadata):
        return Checkpoint(tensors=tensors, facts=dict(metadata), file_name=path.name, kind="safetensors")
    arguments = from_json(metadata["args"])
    return Checkpoint(
        tensors=tensors,
        klass=metadata["klass"],
        args=tuple(arguments) if isinstance(arguments, (list, tuple)) else (),
        kwargs=plain_mapping(from_json(metadata["kwargs"])),
        file_name=path.name,
        kind="safetensors",
    )


def _tensor(name: str, record: Mapping[str, Any]) -> FloatArray:
    dtype = _DTYPES.get(record["dtype"])
    if dtype is None:
        raise ModelFileError(f"{name} of the checkpoint is no tensor of floats", _REMEDY)
    values: npt.NDArray[Any] = np.frombuffer(record["data"], dtype)
    if dtype.kind == "u":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(record["shape"])
