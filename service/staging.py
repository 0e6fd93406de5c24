"""Output that becomes visible all at once: staging folders, publishing, sweeping of what was left.

Everything a track writes goes to `OUT/.TRACK.partial-XXXXXXXX/` first. Its owner holds a lock on that
folder (flock), which ends with the process however it ends; whoever can take the lock of a staging folder
therefore knows that its owner is gone.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from stemwright.core.errors import OutputError, output_error

_STAGED = re.compile(r"\..*\.partial-[0-9a-f]{8}")


class Staging:
    """A staging folder; a context manager that leaves nothing behind.

    Parameters
    ----------
    out
        The output folder; made if it does not exist, and removed again if nothing was published in it.
    label
        Shown in the staging folder's name; a safe name.

    Raises
    ------
    OutputError, ResourceError
        The output folder cannot be made or written.
    """

    def __init__(self, out: Path, label: str) -> None:
        self.out = out
        self._made = _missing_parents(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            self.folder, self._lock = _locked_folder(out, label)
        except OSError as error:
            raise output_error(out, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        for folder in self._made:  # innermost first; stops at the first that is in use
            try:
                folder.rmdir()
            except OSError:
                break

    def path(self, relative: PurePosixPath) -> Path:
        """Return where a file that will be `OUT/relative` is written, its folder made."""
        path = self.folder / relative
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.out / relative.parent, error) from error
        return path

    def publish(
        self, files: Sequence[PurePosixPath], *, stale: Iterable[PurePosixPath] = (), replace: bool = False
    ) -> None:
        """Give all files their final names.

        A folder that does not exist yet appears with all its files by one rename. In a folder that
        exists, the last of `files` is removed first, then what is stale; then each file is put in place by
        a rename of its own, the last one last: where it exists, the others are complete.

        Parameters
        ----------
        files
            Relative paths as given to `path`.
        stale
            Files of an earlier run to remove, relative to the output folder.
        replace
            Whether files of those names may be replaced.

        Raises
        ------
        OutputError, ResourceError
            A name is taken, or the disk refuses.
        """
        try:
            _flush(self.folder / file for file in files)
            common = _common_folder(files)
            if common != PurePosixPath(".") and not os.path.lexists(self.out / common):
                (self.out / common).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / common).rename(self.out / common)
            else:
                self._replace(files, set(stale) - set(files), replace=replace)
            _flush_folders({(self.out / file).parent for file in files} | {(self.out / common).parent})
        except OSError as error:
            raise output_error(self.out, error) from error

    def _replace(
        self, files: Sequence[PurePosixPath], stale: Iterable[PurePosixPath], *, replace: bool
    ) -> None:
        if not replace:
            refuse_existing(self.out, files)
        for file in (files[-1], *stale):
            (self.out / file).unlink(missing_ok=True)
        for file in files:
            (self.out / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / file).replace(self.out / file)


def publish_file(path: Path, data: bytes, *, replace: bool) -> None:
    """Write one file that appears when it is complete.

    Raises
    ------
    OutputError, ResourceError
        It exists and may not be replaced, or the disk refuses.
    """
    file = PurePosixPath(path.name)
    with Staging(path.parent, "file") as staging:
        try:
            staging.path(file).write_bytes(data)
        except OSError as error:
            raise output_error(path, error) from error
        staging.publish([file], replace=replace)


def refuse_existing(out: Path, files: Iterable[PurePosixPath]) -> None:
    """Raise OutputError if one of the files exists below the output folder."""
    for file in files:
        if os.path.lexists(out / file):
            raise OutputError(f"{out / file} exists already", "add --overwrite or choose another -o")


def sweep(out: Path) -> int:
    """Remove the staging folders in `out` whose owner is gone; return how many."""
    try:
        found = [Path(e.path) for e in os.scandir(out) if _STAGED.fullmatch(e.name)]
    except OSError:
        return 0
    return sum(_sweep_one(folder) for folder in found)


def _sweep_one(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False  # gone meanwhile, or no folder of ours
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # in use, or a file system without locks
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(handle)


def _locked_folder(out: Path, label: str) -> tuple[Path, int]:
    while True:
        folder = out / f".{label}.partial-{secrets.token_hex(4)}"
        folder.mkdir()
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.stat(folder), os.fstat(handle)):
                return folder, handle
        except FileNotFoundError:
            pass  # swept between mkdir and flock
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                return folder, handle  # a file system without locks: never swept either
            raise
        os.close(handle)


def _missing_parents(folder: Path) -> tuple[Path, ...]:
    missing = []
    while not os.path.lexists(folder) and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    return tuple(missing)


def _common_folder(files: Sequence[PurePosixPath]) -> PurePosixPath:
    return PurePosixPath(os.path.commonpath([file.parent for file in files]) or ".")


def _flush(paths: Iterable[Path]) -> None:
    for path in paths:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _flush_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
