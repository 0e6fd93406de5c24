"""Peaks and pieces of the stems of finished jobs: made when first asked for, then kept beside the job."""

import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from stemwright.core.audio.source import open_source
from stemwright.service.errors import NotFoundError
from stemwright.service.jobs.model import StemView
from stemwright.service.media.peaks import Peaks, compute_peaks
from stemwright.service.media.pieces import (
    PIECE_S,
    PieceFacts,
    PieceFormat,
    piece_facts,
    write_exact_copy,
    write_piece,
)
from stemwright.service.media.stored import open_stored
from stemwright.service.storage import Storage, job_prefix

_EXACT = (".wav", ".flac")
_LOCKS = 64


def media_prefix(job_id: str) -> str:
    """Return what the keys of a job's peaks and pieces begin with."""
    return f"{job_prefix(job_id)}/media"


class MediaDesk:
    """Peaks and pieces of stems. Methods block; call them from a thread. Safe for many threads.

    Parameters
    ----------
    storage
        Where stems lie, and where what is made of them is kept.
    piece_s
        Length of pieces in seconds.
    """

    def __init__(self, storage: Storage, *, piece_s: float = PIECE_S) -> None:
        self._storage = storage
        self._piece_s = piece_s
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def peaks(self, job_id: str, stem: StemView, *, name: str | None = None) -> Peaks:
        """Return the overviews of a stem.

        Parameters
        ----------
        job_id, stem
            The file.
        name
            Which of several stems in the file; by default its only one.

        Raises
        ------
        NotFoundError
            The file is gone, or has no such stem.
        """
        stream = _stream(stem, name)
        key = f"{self._prefix(job_id, stem, stream)}/peaks.bin"

        def make(folder: Path) -> Path:
            target = folder / "peaks.bin"
            with self._local_copy(stem.key, folder) as path, open_source(path, stream=stream) as source:
                target.write_bytes(compute_peaks(source).to_bytes())
            return target

        self._ensure(key, make)
        return Peaks.from_bytes(self._storage.read_bytes(key))

    def preview(self, job_id: str, stem: StemView, *, name: str | None = None) -> PieceFacts:
        """Tell how a stem is cut; raises as `peaks` does."""
        with self._opened(job_id, stem, _stream(stem, name)) as file:
            return piece_facts(file, piece_s=self._piece_s)

    def piece(
        self,
        job_id: str,
        stem: StemView,
        index: int,
        container: PieceFormat = "wav",
        *,
        name: str | None = None,
    ) -> str:
        """Make a piece of a stem, unless it is there already; return its key in the storage.

        Parameters
        ----------
        job_id, stem
            The file.
        index
            Which piece, counted from 0.
        container
            Format of the piece; its samples are the stem's exactly (of a lossy one as it decodes, in 16
            bits).
        name
            Which of several stems in the file; by default its only one.

        Raises
        ------
        NotFoundError
            The file is gone, or has no such stem or piece.
        OptionError
            The format cannot hold the stem's samples.
        """
        stream = _stream(stem, name)
        key = f"{self._prefix(job_id, stem, stream)}/{self._piece_s:g}s/{index}.{container}"

        def make(folder: Path) -> Path:
            target = folder / f"piece.{container}"
            with self._opened(job_id, stem, stream) as file:
                write_piece(file, index, target, container, piece_s=self._piece_s)
            return target

        self._ensure(key, make)
        return key

    def _prefix(self, job_id: str, stem: StemView, stream: int) -> str:
        return f"{media_prefix(job_id)}/{PurePosixPath(stem.key).name.partition('.')[0]}-{stream}"

    @contextlib.contextmanager
    def _opened(self, job_id: str, stem: StemView, stream: int) -> Iterator[BinaryIO]:
        """Open the stem, or of a lossy one the exact copy, which is made first."""
        key = stem.key
        if not key.endswith(_EXACT):
            key = f"{self._prefix(job_id, stem, stream)}/copy.flac"

            def make(folder: Path) -> Path:
                with self._local_copy(stem.key, folder) as path:
                    write_exact_copy(path, folder / "copy.flac", stream=stream)
                return folder / "copy.flac"

            self._ensure(key, make)
        with open_stored(self._storage, key) as file:
            yield cast("BinaryIO", file)

    def _ensure(self, key: str, make: Callable[[Path], Path]) -> None:
        """Have a file made and stored, unless it is there; others that want it meanwhile wait."""
        if self._there(key):
            return
        with self._lock(key):
            if self._there(key):
                return
            with tempfile.TemporaryDirectory(prefix="media-", dir=self._storage.scratch) as folder:
                self._storage.put(make(Path(folder)), key)

    def _there(self, key: str) -> bool:
        try:
            self._storage.size(key)
        except NotFoundError:
            return False
        return True

    def _lock(self, key: str) -> threading.Lock:
        # by a digest: a piece and the copy that it needs must not share a lock by the bad luck of a hash
        kind = 0 if key.rpartition("/")[2].startswith("copy") else 1
        half = _LOCKS // 2
        return self._locks[kind * half + hashlib.sha256(key.encode()).digest()[0] % half]

    @contextlib.contextmanager
    def _local_copy(self, key: str, folder: Path) -> Iterator[Path]:
        """Have a stored file as a local one, for libraries that read files only."""
        path = folder / f"stem{''.join(PurePosixPath(key).suffixes)}"
        with path.open("wb") as out:
            for block in self._storage.open_range(key):
                out.write(block)
        yield path
        path.unlink()


def _stream(stem: StemView, name: str | None) -> int:
    """Return which audio stream of the file a stem is; a `stem.mp4` has the mixture first."""
    if name is None and len(stem.stems) == 1:
        name = stem.stems[0]
    if name not in stem.stems:
        raise NotFoundError(f"the file has no stem {name!r}", f"it has {', '.join(stem.stems)}")
    return 1 + stem.stems.index(name) if stem.key.endswith(".stem.mp4") else 0
