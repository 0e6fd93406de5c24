"""Reader of torch's files from before version 1.6: pickles one behind the other, then raw storages.

The pickles: a magic number, the format's version, facts of the machine, the content, and the keys of the
storages, whose values follow in that order. Nothing is run, as in `torch_file`.

References
----------
torch.serialization, `_legacy_save` and `_legacy_load`.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import Checkpoint
from stemwright.models.checkpoints.pickled import Named, read_pickle
from stemwright.models.checkpoints.torch_file import (
    MAX_PICKLE_BYTES,
    Storage,
    StorageId,
    checkpoint_of,
    known_names,
    refuse,
    storage_id,
    storage_of,
)

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001


def read_old_torch(path: Path) -> Checkpoint:
    """Read a checkpoint in the old form.

    Raises
    ------
    ModelFileError
        Not such a file, damaged, hostile, or of a form that is not supported.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path.name)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}", "check the path") from error


def _read(file: BinaryIO, name: str) -> Checkpoint:
    head = BytesIO(file.read(MAX_PICKLE_BYTES))
    if read_pickle(head, {}, _no_storage) != MAGIC:
        refuse(f"{name} is a bare pickle, not a file of torch")
    if read_pickle(head, {}, _no_storage) != VERSION:
        refuse(f"{name} is a torch file of an unknown version")
    machine = read_pickle(head, {}, _no_storage)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        refuse("the file was written on a big-endian machine")
    # Tensors are put together from storages that follow later: a first reading finds out which there are.
    start, wanted = head.tell(), dict[str, StorageId]()
    read_pickle(head, _names_without_tensors(), lambda identifier: _announce(identifier, wanted))
    keys = read_pickle(head, {}, _no_storage)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(wanted):
        refuse("the storages of the file are not those that its tensors need")
    file.seek(head.tell())
    storages = {str(key): _storage(file, wanted[str(key)]) for key in keys}
    head.seek(start)
    content = read_pickle(head, known_names(), lambda identifier: _resolve(identifier, storages))
    return checkpoint_of(content, sum(storage.values.size for storage in storages.values()), name)


def _names_without_tensors() -> dict[str, Named]:
    """Return the names of a file, with readers that put no tensor together."""
    names = known_names()
    rebuild = {name: Named(name, lambda *_: None) for name in names if name.startswith("torch._utils.")}
    return names | rebuild


def _announce(identifier: Any, wanted: dict[str, StorageId]) -> Any:
    if not _is_module(identifier):
        one = _old_storage_id(identifier)
        wanted[one.key] = one
    return None


def _resolve(identifier: Any, storages: Mapping[str, Storage]) -> Storage | Named:
    if _is_module(identifier):
        module: Named = identifier[1]
        return module
    return storages[_old_storage_id(identifier).key]


def _is_module(identifier: Any) -> bool:
    """Tell whether an id stands for a class: ("module", class, file, source text)."""
    return (
        isinstance(identifier, tuple)
        and len(identifier) == 4
        and identifier[0] == "module"
        and isinstance(identifier[1], Named)
    )


def _no_storage(_: Any) -> Any:
    refuse("the file refers to a storage where there is none")


def _old_storage_id(identifier: Any) -> StorageId:
    if not isinstance(identifier, tuple) or len(identifier) != 6 or identifier[5] is not None:
        refuse("the checkpoint refers to a storage in an unknown way")
    return storage_id(identifier[:5])


def _storage(file: BinaryIO, wanted: StorageId) -> Storage:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(wanted.count * wanted.dtype.itemsize) if count == wanted.count else b""
    return storage_of(wanted, data)
