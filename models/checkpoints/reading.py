"""Opening a checkpoint of whichever kind."""

from pathlib import Path

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import Checkpoint
from stemwright.models.checkpoints.npm_onnx import read_npm_onnx
from stemwright.models.checkpoints.npz_file import is_npz, read_npz
from stemwright.models.checkpoints.old_torch_file import read_old_torch
from stemwright.models.checkpoints.safetensors_file import read_safetensors
from stemwright.models.checkpoints.torch_file import read_torch

MAX_FILE_BYTES = 4 << 30  # the largest checkpoint known, of a bag in one file, is below 3 GiB
_REMEDY = "give a checkpoint (.th, .pt, .ckpt, .safetensors, .npz) of a known model"


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; what it is is told by its content, not by its name.

    Raises
    ------
    ModelFileError
        The file cannot be read, is damaged or hostile, or is of no kind known here.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}", _REMEDY) from error
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"{path} has {size} bytes; the limit is {MAX_FILE_BYTES}", _REMEDY)
    if head.startswith(b"PK\x03\x04"):
        return read_npz(path) if is_npz(head) else read_torch(path)
    if head.startswith(b"\x80") and head[1:2] <= b"\x05":
        return read_old_torch(path)
    if head.startswith(b"\x1f\x8b"):
        raise ModelFileError(
            f"{path} is compressed by gzip, as checkpoints of demucs v1 are, which is not supported",
            "use a later release of the model, of demucs v2 (demucs-e07c671f.th) or newer",
        )
    if len(head) > 8 and head[8:9] == b"{":
        return read_safetensors(path)
    if head.startswith(b"\x08"):
        return read_npm_onnx(path)
    raise ModelFileError(f"{path} is no checkpoint known here", _REMEDY)
