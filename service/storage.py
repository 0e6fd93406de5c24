"""Where uploads and results lie: a folder, or `s3://bucket/prefix`, through fsspec.

A file is visible under its key when it is complete, never before. Keys are ours (`/`-separated, made of
opaque ids): no name that a user chose is ever part of one.

    uploads/<id>/<offset>               bytes of an upload from that offset on; parts join without a gap
    jobs/<id>/separate/<attempt>/<n>.<ext>   what an attempt made; no job tells of it before it has succeeded
    jobs/<id>/result/result.json        written last: the attempt's files are the job's result
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from stemwright.core.errors import ResourceError
from stemwright.service.errors import BusyError, NotFoundError

if TYPE_CHECKING:
    from stemwright.service.settings import Settings

BLOCK_BYTES = 1 << 20
_FETCH_BYTES = 4 << 20
# How often a folder may be removed by others between its making and the first file in it.
_MKDIR_TRIES = 100
# Below the storage's folder: what is being written, and the workers' scratch, so that a rename publishes it.
ASIDE = ".aside"


class FileSink(Protocol):
    """What `Storage.writer` gives: bytes go in."""

    def write(self, data: bytes, /) -> Any:
        """Take the next bytes."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file in the storage; `sha256` in hexadecimal digits."""

    key: str
    size: int
    sha256: str


def upload_part_key(upload_id: str, offset: int) -> str:
    """Return where the bytes of an upload from `offset` on lie."""
    return f"uploads/{upload_id}/{offset:016d}"


def upload_prefix(upload_id: str) -> str:
    """Return what the keys of an upload's parts begin with."""
    return f"uploads/{upload_id}"


def job_prefix(job_id: str) -> str:
    """Return what the keys of all files of a job begin with."""
    return f"jobs/{job_id}"


def attempt_prefix(job_id: str, stage: str, attempt: str) -> str:
    """Return what the keys of the files of one attempt at a stage begin with."""
    return f"jobs/{job_id}/{stage}/{attempt}"


def result_key(job_id: str) -> str:
    """Return where the result of a job is written, last of all."""
    return f"jobs/{job_id}/result/result.json"


class Storage:
    """Files by key. Methods block; call them from a thread where that matters.

    Parameters
    ----------
    url
        A folder, or a URL that fsspec knows.
    options
        Arguments of the file system's class.
    scratch
        Folder for local work where the storage is not local itself.

    Raises
    ------
    BusyError
        The storage cannot be reached.
    """

    def __init__(self, url: str, options: dict[str, Any] | None = None, *, scratch: Path) -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        extra = {"use_listings_cache": False} if url.startswith("s3://") else {}
        self._fs, root = fsspec.core.url_to_fs(url, **{**extra, **(options or {})})
        self._root = root.rstrip("/")
        self._local = Path(root) if isinstance(self._fs, LocalFileSystem) else None
        self.scratch = self._local / ASIDE if self._local is not None else scratch
        with _translated(""):
            self.scratch.mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_settings(cls, settings: "Settings") -> "Storage":
        """Open the storage that the settings name."""
        return cls(
            settings.storage, dict(settings.storage_options), scratch=settings.data_dir.absolute() / "scratch"
        )

    @contextlib.contextmanager
    def writer(self, key: str) -> Iterator[FileSink]:
        """Write a file; it is visible when the context is left without an exception, else nothing of it."""
        with _translated(key):
            if self._local is not None:
                with self._local_writer(self._local / key) as sink:
                    yield sink
                return
            file = self._fs.open(self._path(key), "wb", autocommit=False)
            try:
                yield file
                file.close()
                file.commit()
            except BaseException:
                with contextlib.suppress(AttributeError):  # s3fs trips over its own buffer after discarding
                    file.discard()
                file.closed = True
                raise

    def put(self, source: Path, key: str) -> StoredFile:
        """Store a local file, which may be moved away by that."""
        with source.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = source.stat().st_size
        if self._local is not None:
            with _translated(key):
                self._move(source, self._local / key)
        else:
            with source.open("rb") as stream, self.writer(key) as sink:
                shutil.copyfileobj(stream, sink, _FETCH_BYTES)
        return StoredFile(key=key, size=size, sha256=digest)

    def write_bytes(self, key: str, data: bytes) -> None:
        """Store a small file, replacing one of that key."""
        with self.writer(key) as sink:
            sink.write(data)

    def read_bytes(self, key: str) -> bytes:
        """Return a small file whole.

        Raises
        ------
        NotFoundError
            There is none of that key.
        """
        with _translated(key):
            return bytes(self._fs.cat_file(self._path(key)))

    def size(self, key: str) -> int:
        """Return a file's bytes.

        Raises
        ------
        NotFoundError
            There is none of that key.
        """
        with _translated(key):
            return int(self._fs.info(self._path(key))["size"])

    def open_range(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes `start` to `end` (exclusive; None for the file's end) in blocks.

        Raises
        ------
        NotFoundError
            There is none of that key.
        """
        stop = self.size(key) if end is None else end
        if self._local is not None:
            with _translated(key), (self._local / key).open("rb") as stream:
                stream.seek(start)
                while start < stop and (block := stream.read(min(BLOCK_BYTES, stop - start))):
                    yield block
                    start += len(block)
            return
        while start < stop:
            with _translated(key):
                block = self._fs.cat_file(self._path(key), start=start, end=min(start + _FETCH_BYTES, stop))
            if not block:
                return
            yield block
            start += len(block)

    def fetch_upload(self, upload_id: str, target: Path) -> int:
        """Join an upload's parts in a local file; return its bytes.

        Raises
        ------
        NotFoundError
            Nothing of it is there, or a part is missing.
        """
        parts = self.files(upload_prefix(upload_id))
        written = 0
        with target.open("wb") as out:
            for name, size in sorted(parts.items()):
                offset = int(name)
                if offset + size <= written:
                    continue  # sent twice
                if offset > written:
                    raise NotFoundError(f"the upload {upload_id} lacks bytes from {written}", "send it again")
                for block in self.open_range(f"{upload_prefix(upload_id)}/{name}", written - offset):
                    out.write(block)
                    written += len(block)
        if not parts:
            raise NotFoundError(f"the upload {upload_id} is not there any more", "send it again")
        return written

    def files(self, prefix: str) -> dict[str, int]:
        """Return the files right below a prefix: name to bytes."""
        return {name: size for name, (size, folder) in self._list(prefix).items() if not folder}

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the names of what has files below it, right below a prefix."""
        return tuple(name for name, (_, folder) in self._list(prefix).items() if folder)

    def delete_tree(self, prefix: str) -> None:
        """Remove all files below a prefix; none is right too."""
        if not prefix.strip("/"):
            raise ValueError("a prefix is needed")
        with _translated(prefix):
            if self._local is not None:
                shutil.rmtree(self._local / prefix, ignore_errors=True)
                return
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(self._path(prefix), recursive=True)

    def delete(self, key: str) -> None:
        """Remove a file; none is right too."""
        with _translated(key), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def free_bytes(self) -> int | None:
        """Return the space left; None where nothing tells it (object stores)."""
        if self._local is None:
            return None
        return shutil.disk_usage(self._local).free

    def check(self) -> None:
        """Write, read and remove a small file.

        Raises
        ------
        BusyError, ResourceError
            One of that fails.
        """
        key = f"check/{secrets.token_hex(8)}"
        self.write_bytes(key, b"ok")
        try:
            if self.read_bytes(key) != b"ok":
                raise BusyError("the storage does not give back what was written", "check the storage")
        finally:
            self.delete(key)

    def sweep_aside(self, older_than_s: float, keep: Collection[str] = ()) -> int:
        """Remove what was being written by processes that are gone; return how many.

        Parameters
        ----------
        older_than_s
            What was changed later may still be in work.
        keep
            Names of folders whose owners are known to live.
        """
        horizon = time.time() - older_than_s
        removed = 0
        for path in self.scratch.iterdir():
            try:
                if path.name in keep or path.stat().st_mtime > horizon:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed += 1
            except FileNotFoundError:
                continue  # somebody else was faster
        return removed

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _list(self, prefix: str) -> dict[str, tuple[int, bool]]:
        with _translated(prefix):
            try:
                found = self._fs.ls(self._path(prefix), detail=True, refresh=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        return {
            item["name"].rstrip("/").rpartition("/")[2]: (int(item["size"] or 0), item["type"] == "directory")
            for item in found
            if item["name"].rstrip("/") != self._path(prefix)
        }

    @contextlib.contextmanager
    def _local_writer(self, path: Path) -> Iterator[BinaryIO]:
        aside = self.scratch / f"{os.getpid()}-{threading.get_ident()}-{secrets.token_hex(8)}"
        try:
            with aside.open("wb") as stream:
                yield stream
            self._move(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    def _move(self, source: Path, target: Path) -> None:
        """Put a file in place by a rename, its bytes on the disk before its name."""
        with source.open("rb") as stream:
            os.fsync(stream.fileno())
        for _ in range(_MKDIR_TRIES):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
                return
            except FileNotFoundError:
                if not source.exists():
                    raise
                # the folder was removed in between (a sweep, a deletion)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with self._local_writer(target) as sink, source.open("rb") as stream:
                    shutil.copyfileobj(stream, sink, BLOCK_BYTES)
                source.unlink()
                return
        raise BusyError("a folder of the storage vanishes as it is made", "check what cleans it up")


def guard_free_space(storage: Storage, needed: int, *, least_free: int) -> None:
    """Refuse to take bytes for which the storage's disk has no room.

    Parameters
    ----------
    storage
        Where they would lie.
    needed
        Bytes that come.
    least_free
        Bytes that stay free.

    Raises
    ------
    BusyError
        There is no room.
    """
    free = storage.free_bytes()
    if free is not None and free - needed < least_free:
        raise BusyError(
            "the server's disk is nearly full",
            "try again later; its operator has to make room",
            retry_after_s=300,
        )


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn what file systems raise into our errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{key or 'the storage'} is not there", "it may have expired") from error
    except OSError as error:  # s3fs turns its library's errors into these too
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError("the storage has no space left", "its operator has to make room") from error
        raise BusyError(
            f"the storage does not answer as it should: {error}", "try again later", retry_after_s=10
        ) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("botocore", "aiobotocore", "aiohttp", "s3fs"):
            raise
        raise BusyError(
            f"the storage does not answer as it should: {error}", "try again later", retry_after_s=10
        ) from error
