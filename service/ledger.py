"""The ledger of a batch: one line of JSON per event of a track, appended and flushed to the disk.

The last line of a track counts. A track that is complete but not yet under its final names is written
down as `publishing`, with the facts by which its files are recognised; so after a kill at any moment it is
known whether they arrived. A line that a kill or a power cut tore is dropped when the ledger is opened.
"""

import dataclasses
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from stemwright.core.appending import LineFile, whole_lines
from stemwright.core.closing import Closing
from stemwright.core.errors import OutputError, output_error
from stemwright.service.outcomes import ErrorFacts

LEDGER_FILE = "batch.jsonl"
LEDGER_SCHEMA = 1

Event = Literal["publishing", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """A file of a track, with what it keeps when it is renamed."""

    path: str
    size: int
    mtime_ns: int

    def present(self, out: Path, *, same_time: bool) -> bool:
        """Whether a file of that name and size, and perhaps of that very time, is there."""
        try:
            facts = (out / self.path).stat()
        except OSError:
            return False
        return facts.st_size == self.size and (not same_time or facts.st_mtime_ns == self.mtime_ns)


@dataclass(frozen=True, kw_only=True)
class InputPrint:
    """Identity of an input: SHA-256 of its bytes, and the size and time that stand for it."""

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """An event of a track.

    Parameters
    ----------
    track
        Its key in the folder.
    event
        `publishing` (complete, about to be put in place), `done` or `failed`.
    input
        Identity of the recording; None where it could not be read.
    model_sha256, settings_sha256
        Identity of what made the stems.
    files
        What was written.
    stale
        Files of earlier rows that this one replaces and that may still be there if it was interrupted.
    seconds, wall_seconds
        Duration of the audio and of the work.
    error
        Why it failed.
    result
        As in `result.json`; kept on the disk only.
    """

    track: str
    event: Event
    input: InputPrint | None
    model_sha256: str
    settings_sha256: str
    files: tuple[WrittenFile, ...] = ()
    stale: tuple[str, ...] = ()
    seconds: float | None = None
    wall_seconds: float | None = None
    error: ErrorFacts | None = None

    @property
    def ever_written(self) -> tuple[str, ...]:
        """All files of the track that this or an earlier row may have left."""
        return tuple(dict.fromkeys((*(file.path for file in self.files), *self.stale)))

    def complete(self, out: Path) -> bool:
        """Whether all its files are in place; of a track not known to be done, those very files."""
        exact = self.event != "done"
        return self.event != "failed" and all(file.present(out, same_time=exact) for file in self.files)


class Ledger(Closing):
    """The ledger of an output folder; a context manager that one process holds at a time.

    Parameters
    ----------
    out
        The output folder; made if it does not exist.

    Raises
    ------
    OutputError, ResourceError
        The folder cannot be written, another batch is at work in it, or the file is no ledger.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / LEDGER_FILE
        self._lock = threading.Lock()
        try:
            self._lines = LineFile(self.path)
        except BlockingIOError as error:
            raise OutputError(
                f"another batch is at work in {out}", "wait for it, or choose another -o"
            ) from error
        except OSError as error:
            raise output_error(self.path, error) from error
        try:
            self._rows = read_rows(self.path)
        except BaseException:
            self._lines.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        self._lines.close()

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written down."""
        return not self._rows

    @property
    def count(self) -> int:
        """Number of tracks that are known."""
        return len(self._rows)

    def row(self, track: str) -> Row | None:
        """Return the last row of a track, None for a track that is not known."""
        return self._rows.get(track)

    def append(self, row: Row, result: dict[str, Any] | None = None) -> None:
        """Write a row down; on return it is on the disk.

        Raises
        ------
        ResourceError, OutputError
            The disk is full or refuses.
        """
        data = {"schema": LEDGER_SCHEMA, **dataclasses.asdict(row), "result": result}
        line = json.dumps(data).encode()
        with self._lock:
            try:
                self._lines.append(line)
            except OSError as error:
                raise output_error(self.path, error) from error
            self._rows[row.track] = row


def read_rows(path: Path) -> dict[str, Row]:
    """Read the last row of every track; a torn last line is passed over.

    Raises
    ------
    OutputError
        The file is no ledger of a batch, or of a newer release.
    """
    rows: dict[str, Row] = {}
    for line in whole_lines(path):
        row = _parse(line, path)
        rows[row.track] = row
    return rows


def _parse(line: bytes, path: Path) -> Row:
    try:
        data = json.loads(line)
        if data.pop("schema") != LEDGER_SCHEMA:
            raise ValueError("another schema")
        data.pop("result")
        data["files"] = tuple(WrittenFile(**file) for file in data["files"])
        data["stale"] = tuple(data["stale"])
        data["input"] = InputPrint(**data["input"]) if data["input"] is not None else None
        data["error"] = ErrorFacts(**data["error"]) if data["error"] is not None else None
        return Row(**data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(
            f"{path} is not the ledger of a batch of this release", "choose another -o, or remove that file"
        ) from error


def written_files(staged: Iterable[tuple[PurePosixPath, Path]]) -> tuple[WrittenFile, ...]:
    """Describe staged files by their final relative paths."""
    described = []
    for relative, path in staged:
        facts = path.stat()
        described.append(WrittenFile(path=str(relative), size=facts.st_size, mtime_ns=facts.st_mtime_ns))
    return tuple(described)
