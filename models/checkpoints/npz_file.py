"""Reader of numpy's archives (`.npz`): arrays by name, no pickles in them.

References
----------
numpy.lib.format, versions 1 and 2 (version 3 is for names of fields, which these have not).
"""

import zipfile
import zlib
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import Checkpoint, FloatArray
from stemwright.models.checkpoints.torch_file import check_directory

MAX_BYTES = 4 << 30  # of all arrays together, as of a checkpoint's file
MAX_ARRAYS = 20_000
_SUFFIX = ".npy"
_FAULTS = (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, RuntimeError, ValueError)
_REMEDY = "write it with numpy.savez from the arrays alone"


def is_npz(head: bytes) -> bool:
    """Tell by the first bytes of a zip archive, at least 300, whether its first file is an array."""
    length = int.from_bytes(head[26:28], "little")
    return head[30 : 30 + length].endswith(_SUFFIX.encode())


def read_npz(path: Path) -> Checkpoint:
    """Read the arrays of floats.

    Raises
    ------
    ModelFileError
        Damaged, too large when unpacked, or with something else than arrays of floats in it.
    """
    tensors: dict[str, FloatArray] = {}
    try:
        check_directory(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ARRAYS or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise ModelFileError(f"{path.name} is too large when unpacked", _REMEDY)
            for entry in entries:
                tensors[entry.filename.removesuffix(_SUFFIX)] = _array(
                    BytesIO(archive.read(entry)), entry.filename
                )
    except _FAULTS as error:
        raise ModelFileError(f"{path.name} is a damaged archive of arrays: {error}", _REMEDY) from error
    return Checkpoint(tensors=tensors, file_name=path.name, kind="npz")


def _array(stream: BytesIO, name: str) -> FloatArray:
    """Read one array; its size is checked before anything of that size is made."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} is of format {version}")
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    shape, turned, dtype = read_header(stream)
    data = stream.read()
    if dtype.kind != "f":
        raise ModelFileError(f"{name} is no array of floats", _REMEDY)
    if prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{name} has {len(data)} bytes, which are not {list(shape)} values")
    values: FloatArray = np.frombuffer(data, dtype).reshape(shape, order="F" if turned else "C")
    return values
