"""Putting a folder in place all at once: one lock a name, staged folders, renames.

Under the root, `.staging/NAME/` holds what is being built for NAME and `.locks/NAME` the lock that its
builder holds. Whoever takes the lock owns everything under `.staging/NAME/`, so leftovers of a killed
process are recognised without guessing by age.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stemwright.core.errors import OutputError, ResourceError, StemwrightError

_STAGING = ".staging"
_LOCKS = ".locks"
_REPLACED = "replaced"


def storage_error(
    path: Path, error: OSError, elsewhere: str = "set STEMWRIGHT_MODELS to another folder"
) -> StemwrightError:
    """Translate a failure to write: below the model folder, if no other way out is given."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"no space left for {path}", f"free some space, or {elsewhere}")
    return OutputError(f"cannot write {path}: {error.strerror or error}", elsewhere)


@contextmanager
def name_lock(root: Path, name: str) -> Iterator[None]:
    """Hold the lock of one name, waiting for whoever holds it, and clear what a killed holder left.

    Raises
    ------
    OutputError
        The root cannot be written.
    """
    path = root / _LOCKS / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    except OSError as error:
        raise storage_error(path, error) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _recover(root, name)
        yield


def _recover(root: Path, name: str) -> None:
    """Undo a replacement that was interrupted between its two renames, then drop stale staging."""
    staging = root / _STAGING / name
    replaced = staging / _REPLACED
    if replaced.exists() and not (root / name).exists():
        replaced.rename(root / name)
    shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def staged_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder to build NAME in; call with the name's lock held; removed at the end.

    Raises
    ------
    OutputError
        The root cannot be written.
    """
    parent = root / _STAGING / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        folder.chmod(0o755)  # mkdtemp keeps it private; models are shared by the users of a machine
    except OSError as error:
        raise storage_error(parent, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def put_in_place(root: Path, name: str, folder: Path) -> Path:
    """Rename a finished folder to `root/NAME`, replacing what is there; call with the lock held.

    The files are flushed to the disk first, so that a power cut leaves the whole folder or none.

    Raises
    ------
    OutputError
        The root cannot be written.
    """
    target = root / name
    replaced = root / _STAGING / name / _REPLACED
    try:
        _flush(folder)
        if target.exists():
            replaced.parent.mkdir(parents=True, exist_ok=True)
            target.rename(replaced)
        folder.rename(target)
        _flush_folder(root)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise storage_error(target, error) from error
    return target


def discard(root: Path, name: str) -> None:
    """Remove `root/NAME`: out of sight by one rename, then deleted; call with the lock held."""
    grave = root / _STAGING / name / "removed"
    try:
        grave.parent.mkdir(parents=True, exist_ok=True)
        (root / name).rename(grave)
        shutil.rmtree(grave)
    except OSError as error:
        raise storage_error(root / name, error) from error


def _flush(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            _flush_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
