"""Writing a run: facts once, then a row for each track, crash-safe; going on with one that was stopped."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stemwright.core.appending import LineFile
from stemwright.core.closing import Closing
from stemwright.core.errors import (
    InputError,
    OptionError,
    OutputError,
    output_error,
)
from stemwright.eval.rows import (
    RUN_FILE,
    TRACKS_FILE,
    FailedTrack,
    RunFacts,
    TrackScores,
    facts_json,
    parse_facts,
    read_rows,
    row_json,
)

STAGED_PREFIX = ".partial-"
_PATIENCE = "choose another -o"


class RunLog(Closing):
    """The folder of a run that rows are written to; a context manager that one process holds at a time.

    Parameters
    ----------
    path
        The folder; made if it does not exist. If it holds a run, that one goes on.
    facts
        What is run.

    Raises
    ------
    OptionError
        The folder holds a run of something else.
    InputError
        It holds a damaged run.
    OutputError, ResourceError
        It cannot be written, or another process is at work in it.
    """

    def __init__(self, path: Path, facts: RunFacts) -> None:
        self.path = path
        try:
            self._lines = LineFile(path / TRACKS_FILE)
        except BlockingIOError as error:
            raise OutputError(f"another run is at work in {path}", f"wait for it, or {_PATIENCE}") from error
        except OSError as error:
            raise output_error(path, error) from error
        try:
            self._begin(facts)
            self.rows = read_rows(path / TRACKS_FILE)
            self._sweep()
        except OSError as error:
            self._lines.close()
            raise output_error(path, error) from error
        except BaseException:
            self._lines.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        self._lines.close()

    def done(self, track: str) -> TrackScores | None:
        """Return the row of a track that was scored, None for one that was not or that failed."""
        row = self.rows.get(track)
        return row if isinstance(row, TrackScores) else None

    def append(self, row: TrackScores | FailedTrack) -> None:
        """Write a row down; on return it is on the disk.

        Raises
        ------
        ResourceError, OutputError
            The disk is full or refuses.
        """
        try:
            self._lines.append(row_json(row).encode())
        except OSError as error:
            raise output_error(self.path / TRACKS_FILE, error) from error
        self.rows[row.track] = row

    def _begin(self, facts: RunFacts) -> None:
        file = self.path / RUN_FILE
        if not file.exists():
            part = self.path / f"{STAGED_PREFIX}{RUN_FILE}"
            part.write_text(facts_json(facts), encoding="utf-8")
            part.replace(file)
            return
        try:
            before = parse_facts(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file} is not of a run of this release", _PATIENCE) from error
        for what in ("model", "data", "metrics", "options", "tracks"):
            mine, theirs = _plain(facts, what), _plain(before, what)
            if mine != theirs:
                raise OptionError(
                    f"{self.path} holds a run with other {what}: {_difference(theirs, mine)}",
                    f"{_PATIENCE}, or run what was run there",
                )

    def _sweep(self) -> None:
        """Remove what a killed run left; the lock tells that nobody works here."""
        for left in self.path.glob(f"{STAGED_PREFIX}*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _plain(facts: RunFacts, what: str) -> Any:
    """Return a part as JSON has it, in which lists and tuples are one."""
    return json.loads(json.dumps(asdict(facts)[what]))


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return f"{keys[0]} {before.get(keys[0])!r}, not {now.get(keys[0])!r}"
    if isinstance(before, list) and isinstance(now, list):
        return _list_difference(before, now)
    return f"{before}, not {now}"


def _list_difference(before: list[Any], now: list[Any]) -> str:
    names = [[item["name"] if isinstance(item, Mapping) else item for item in side] for side in (before, now)]
    gone, new = ([name for name in a if name not in b] for a, b in (names, names[::-1]))
    if gone or new:
        return f"{', '.join(map(str, gone[:3])) or 'none'}, not {', '.join(map(str, new[:3])) or 'none'}"
    return "other options or another order"
