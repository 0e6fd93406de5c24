"""Files of lines that are only ever appended to, and survive a kill or a power cut at any moment.

A line counts when its line end is on the disk. What a kill tore off behind the last whole line is passed
over by readers and cut away when the file is opened for writing.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stemwright.core.closing import Closing


class LineFile(Closing):
    """A file of lines that one process at a time may append to; a context manager.

    Parameters
    ----------
    path
        The file; made, with its folder, if it does not exist.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    OSError
        It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a+b", buffering=0)
        try:
            self._hold()
            self._drop_torn_line()
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def append(self, line: bytes) -> None:
        """Write a line, given without its end; on return it is on the disk.

        Raises
        ------
        OSError
            The disk is full or refuses.
        """
        with self._lock:
            _write_whole(self._stream, line + b"\n")
            os.fsync(self._stream.fileno())

    def _hold(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return  # a file system without locks

    def _drop_torn_line(self) -> None:
        end = _whole_lines_end(self.path)
        if end < self.path.stat().st_size:
            self._stream.truncate(end)


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their ends; a torn last one is passed over."""
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield line


def _whole_lines_end(path: Path) -> int:
    return sum(len(line) for line in whole_lines(path))


def _write_whole(stream: BinaryIO, data: bytes) -> None:
    while data:
        data = data[stream.write(data) :]
