"""A stored file that can be read from any place, as libraries want that seek."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from stemwright.service.storage import Storage

_WINDOW_BYTES = 1 << 18


class SeekableFile(io.RawIOBase):
    """A file of the storage, read in ranges of a quarter of a MiB; wrap it in `io.BufferedReader`.

    Raises
    ------
    NotFoundError
        There is none of that key.
    """

    def __init__(self, storage: "Storage", key: str) -> None:
        self._storage = storage
        self._key = key
        self._size = storage.size(key)
        self._position = 0

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def seekable(self) -> bool:
        """Tell that it is."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; return the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer from the position on; return how many bytes came."""
        view = memoryview(buffer).cast("B")
        stop = min(self._position + len(view), self._size)
        count = 0
        if self._position < stop:
            for block in self._storage.open_range(self._key, self._position, stop):
                view[count : count + len(block)] = block
                count += len(block)
        self._position += count
        return count


def open_stored(storage: "Storage", key: str) -> io.BufferedReader:
    """Open a stored file for reading and seeking."""
    return io.BufferedReader(SeekableFile(storage, key), _WINDOW_BYTES)
