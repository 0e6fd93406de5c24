"""Reader of torch's zip archives (`.th`, `.pt`).

The archive holds `data.pkl`, a pickle, and one uncompressed record of raw values per storage. The
pickle is read by `pickled.read_pickle`, which runs nothing; the names it may hold are those below.

References
----------
torch.serialization, `_save` and `_load`; demucs 4.1.0, `demucs.states.serialize_model`.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.arguments import plain, plain_mapping
from stemwright.models.checkpoints.checkpoint import Checkpoint, FloatArray, Value
from stemwright.models.checkpoints.pickled import Named, read_pickle

MAX_PICKLE_BYTES = 16 << 20  # known files: below 200 KB
MAX_DIRECTORY_BYTES = 4 << 20  # of the archive; known files: below 100 KB
MAX_RECORDS = 20_000
MAX_AXES = 8
_TAIL = 22 + 65535 + 76  # end record, longest comment, the two end records of long archives
_REMEDY = "fetch the file again, and check its SHA-256 against its name"

_REMEDY_V1 = "use a later release of the model, of demucs v2 (demucs-e07c671f.th) or newer"
_INTEGERS = ("num_batches_tracked", "relative_position_index", "position_ids")
_STATE_KEYS = ("state_dict", "model_state_dict", "gen_state_dict", "model", "state")
_DTYPES: Mapping[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "BFloat16Storage": np.dtype("<u2"),  # widened below
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("<i1"),
    "ByteStorage": np.dtype("<u1"),
    "BoolStorage": np.dtype("?"),
}
_CLASSES = (
    "demucs.htdemucs.HTDemucs",
    "demucs.hdemucs.HDemucs",
    "demucs.demucs.Demucs",
    "demucs.wdemucs.WDemucs",
    "demucs.tasnet.ConvTasNet",
    "demucs.model.Demucs",  # of v1 and v2
)


@dataclass(frozen=True)
class Storage:
    """Values that tensors are views of."""

    values: npt.NDArray[Any]


@dataclass(frozen=True)
class StorageId:
    """What a file says of a storage: its key, type and number of values."""

    key: str
    dtype: np.dtype[Any]
    count: int
    kind: str


@dataclass(frozen=True)
class _Tensor:
    values: npt.NDArray[Any]


def read_torch(path: Path) -> Checkpoint:
    """Read a checkpoint: a package of demucs, a plain state dict, or one under a usual key.

    Raises
    ------
    ModelFileError
        Not such a file, damaged, hostile, or of a form that is not supported (states packed by
        DiffQ, the bare tuples of demucs v1).
    """
    try:
        check_directory(path)
        with zipfile.ZipFile(path) as archive:
            records = _Records(archive)
            content = read_pickle(records.read("data.pkl"), known_names(), records.storage)
            return checkpoint_of(content, records.values, path.name)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ModelFileError(f"{path.name} is a damaged archive: {error}", _REMEDY) from error


def check_directory(path: Path) -> None:
    """Refuse a huge directory before zipfile makes an object for each of its entries."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or place + 22 > len(tail):
        refuse(f"{path.name} is a truncated archive")
    length = int.from_bytes(tail[place + 12 : place + 16], "little")
    if length == 0xFFFFFFFF:
        place = tail.rfind(b"PK\x06\x06")
        length = int.from_bytes(tail[place + 40 : place + 48], "little") if place >= 0 else length
    if length > MAX_DIRECTORY_BYTES:
        refuse(f"{path.name} has an archive directory of {length} bytes; the limit is {MAX_DIRECTORY_BYTES}")


class _Records:
    """The records of the archive, checked before anything is read."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        entries = archive.infolist()
        if len(entries) > MAX_RECORDS:
            refuse(f"the archive has {len(entries)} records; the limit is {MAX_RECORDS}")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                refuse(f"record {entry.filename} of the archive is compressed, which torch never does")
        if sum(entry.file_size for entry in entries) > Path(str(archive.filename)).stat().st_size:
            refuse("records of the archive overlap")
        pickles = [
            e.filename for e in entries if e.filename == "data.pkl" or e.filename.endswith("/data.pkl")
        ]
        if len(pickles) != 1:
            refuse("the archive has no data.pkl, or several")
        self._prefix = pickles[0].removesuffix("data.pkl")
        if self._prefix + "byteorder" in archive.NameToInfo and self.archive_byte_order(archive) != b"little":
            refuse("the archive was written on a big-endian machine")
        self._archive = archive
        self._storages: dict[str, Storage] = {}

    def archive_byte_order(self, archive: zipfile.ZipFile) -> bytes:
        """Return what the archive says of its byte order."""
        return archive.read(self._prefix + "byteorder")[:16].strip()

    def read(self, name: str) -> bytes:
        """Return a record; `data.pkl` only up to its limit."""
        info = self._archive.NameToInfo.get(self._prefix + name)
        if info is None:
            refuse(f"the archive has no record {name}")
        if name == "data.pkl" and info.file_size > MAX_PICKLE_BYTES:
            refuse(f"data.pkl has {info.file_size} bytes; the limit is {MAX_PICKLE_BYTES}")
        return self._archive.read(info)

    def storage(self, identifier: Any) -> Storage:
        """Return the storage of a persistent id."""
        wanted = storage_id(identifier)
        if wanted.key not in self._storages:
            self._storages[wanted.key] = storage_of(wanted, self.read(f"data/{wanted.key}"))
        return self._storages[wanted.key]

    @property
    def values(self) -> int:
        """Number of values of all storages that were referred to."""
        return sum(storage.values.size for storage in self._storages.values())


def storage_id(identifier: Any) -> StorageId:
    """Read a persistent id: ("storage", type, key, device, number of values)."""
    if not isinstance(identifier, tuple) or len(identifier) != 5 or identifier[0] != "storage":
        refuse("the checkpoint refers to a storage in an unknown way")
    _, kind, key, _, count = identifier
    dtype = _DTYPES.get(kind.name.removeprefix("torch.")) if isinstance(kind, Named) else None
    if dtype is None or not isinstance(key, str) or not key.isalnum() or not _is_size(count):
        refuse("the checkpoint refers to a storage in an unknown way")
    return StorageId(key, dtype, count, kind.name)


def storage_of(wanted: StorageId, data: bytes) -> Storage:
    """Make a storage of its raw bytes."""
    if len(data) != wanted.count * wanted.dtype.itemsize:
        refuse(f"storage {wanted.key} has {len(data)} bytes, not {wanted.count * wanted.dtype.itemsize}")
    values: npt.NDArray[Any] = np.frombuffer(data, wanted.dtype)
    if wanted.kind == "torch.BFloat16Storage":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return Storage(values)


def checkpoint_of(content: Any, stored: int, file_name: str) -> Checkpoint:
    """Make a checkpoint of what a file holds.

    Parameters
    ----------
    content
        What the pickle gave.
    stored
        Number of values of all storages, which tensors may not exceed.
    file_name
        Name of the file.

    Raises
    ------
    ModelFileError
        It is of no form that is supported.
    """
    if isinstance(content, tuple):
        refuse("this is a checkpoint of demucs v1, which is not supported", _REMEDY_V1)
    if not isinstance(content, dict):
        refuse("the file holds no checkpoint, but a bare value")
    if "compressed" in content:
        refuse(
            "the checkpoint is packed by DiffQ (demucs_quantized), which is not supported",
            "use the model without quantisation (demucs-e07c671f.th)",
        )
    if {"klass", "args", "kwargs", "state"} <= set(content):
        return _package(content, stored, file_name)
    state, facts = _state_and_facts(content)
    return Checkpoint(
        tensors=_tensors(state, stored), facts=_plain_facts(facts), file_name=file_name, kind="torch"
    )


def _package(content: dict[Any, Any], stored: int, file_name: str) -> Checkpoint:
    """Read what `demucs.states.serialize_model` writes."""
    klass, state = content["klass"], content["state"]
    if not isinstance(klass, Named) or klass.name not in _CLASSES:
        refuse("the checkpoint's class is no network of demucs")
    if not isinstance(state, dict):
        refuse("the checkpoint's state is no dictionary")
    if state.get("__quantized"):
        refuse(
            "the checkpoint is packed by DiffQ, which is not supported",
            "use the model without quantisation (mdx_extra instead of mdx_extra_q)",
        )
    arguments = plain(content["args"])
    return Checkpoint(
        tensors=_tensors(state, stored),
        klass=klass.name,
        args=tuple(arguments) if isinstance(arguments, (list, tuple)) else (),
        kwargs=plain_mapping(content["kwargs"]),
        file_name=file_name,
        kind="torch",
    )


def _state_and_facts(content: dict[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Find the state dict: the file itself, or what it holds under one of the usual keys."""
    if content and all(isinstance(value, _Tensor) for value in content.values()):
        return content, {}
    held = [key for key in _STATE_KEYS if isinstance(content.get(key), dict) and content[key]]
    if len(held) != 1:
        refuse(
            "the file holds no checkpoint: neither tensors by name nor such a dictionary under "
            f"{', '.join(_STATE_KEYS)}"
        )
    return content[held[0]], {key: value for key, value in content.items() if key != held[0]}


def _plain_facts(facts: dict[Any, Any]) -> dict[str, Value]:
    """Keep what is plain data; optimiser states and their like are of no use here."""
    kept: dict[str, Value] = {}
    for key, value in facts.items():
        try:
            kept[str(key)] = plain(value)
        except ModelFileError:
            continue
    return kept


def _tensors(state: dict[Any, Any], stored: int) -> dict[str, FloatArray]:
    """Return the tensors of floats; integers that training counts or that follow from sizes are left out."""
    tensors = {
        str(name): _floating(name, value)
        for name, value in state.items()
        if not str(name).endswith(_INTEGERS)
    }
    if sum(tensor.size for tensor in tensors.values()) > stored:
        refuse("tensors of the checkpoint overlap")
    return tensors


def _floating(name: object, value: object) -> FloatArray:
    if not isinstance(value, _Tensor) or value.values.dtype.kind != "f":
        refuse(f"{name} of the checkpoint's state is no tensor of floats")
    return value.values


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if (
        not isinstance(storage, Storage)
        or not _is_size(offset)
        or not _are_sizes(size)
        or not _are_sizes(stride)
    ):
        refuse("a tensor of the checkpoint is put together in an unknown way")
    if len(size) != len(stride):
        refuse("a tensor of the checkpoint has another number of strides than of axes")
    values = storage.values
    count = prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count > values.size or (count and last >= values.size) or offset > values.size:
        refuse("a tensor of the checkpoint reaches beyond its storage")
    if not count:
        return _Tensor(np.empty(size, values.dtype))
    steps = [step * values.itemsize for step in stride]
    return _Tensor(np.lib.stride_tricks.as_strided(values[offset:], size, steps, writeable=False))


def _rebuild_parameter(tensor: Any, *_: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        refuse("a parameter of the checkpoint is no tensor")
    return tensor


def _fraction(*arguments: Any) -> Fraction:
    if len(arguments) == 1 and isinstance(arguments[0], str) and len(arguments[0]) < 64:
        return Fraction(arguments[0])
    if (
        len(arguments) == 2
        and all(type(part) is int and abs(part) < 1 << 63 for part in arguments)
        and arguments[1]
    ):
        return Fraction(arguments[0], arguments[1])
    refuse("a fraction of the checkpoint is put together in an unknown way")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes in pickles of protocol 2."""
    if not isinstance(text, str) or encoding != "latin1":
        refuse("bytes of the checkpoint are put together in an unknown way")
    return text.encode("latin1")


def _dtype(code: Any, *_: Any) -> Named:
    if not isinstance(code, str) or code not in ("f8", "f4", "i8", "i4", "b1"):
        refuse("the checkpoint has a scalar of an unknown type")
    return Named(code)


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    if (
        not isinstance(dtype, Named)
        or dtype.name not in ("f8", "f4", "i8", "i4", "b1")
        or not isinstance(data, bytes)
    ):
        refuse("the checkpoint has a scalar of an unknown type")
    kind = np.dtype(f"<{dtype.name}")
    if len(data) != kind.itemsize:
        refuse("the checkpoint has a scalar of a wrong size")
    value: float | int | bool = np.frombuffer(data, kind)[0].item()
    return value


def known_names() -> dict[str, Named]:
    """Return the names that a file may hold, and what is done with them."""
    readers = {
        "collections.OrderedDict": lambda *pairs: dict(pairs[0]) if pairs else {},
        "fractions.Fraction": _fraction,
        "_codecs.encode": _encode,
        "numpy.dtype": _dtype,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy._core.multiarray.scalar": _scalar,
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
        "torch._utils._rebuild_parameter": _rebuild_parameter,
    }
    known = {name: Named(name, reader) for name, reader in readers.items()}
    return known | {name: Named(name) for name in (*_CLASSES, *(f"torch.{kind}" for kind in _DTYPES))}


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _are_sizes(values: object) -> bool:
    return isinstance(values, tuple) and len(values) <= MAX_AXES and all(_is_size(value) for value in values)


def refuse(message: str, remedy: str = _REMEDY) -> NoReturn:
    """Raise ModelFileError."""
    raise ModelFileError(message, remedy)
