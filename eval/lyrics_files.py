"""Lyrics as files: texts, and tables of words or lines with their times, paired by name.

A text is a `.txt` file, one sung line a line. A table is a `.csv` file with the columns `start_s`, `end_s`,
and `word` (perhaps with `line`, the number of its line) or `text` (a row a line). `SONG.txt` and `SONG.csv`
beside each other are of one song; a song that has only a table has its words for a text.
"""

import csv
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stemwright.core.errors import InputError
from stemwright.eval.lyrics_scores import TimedWord

_TEXT, _TABLE = ".txt", ".csv"


@dataclass(frozen=True, kw_only=True)
class Lyrics:
    """Lyrics of a song as one side has them; `times` is empty where it has none."""

    text: str
    times: tuple[TimedWord, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LyricsSong:
    """A song on both sides."""

    name: str
    reference: Lyrics
    estimate: Lyrics


@dataclass(frozen=True, kw_only=True)
class LyricsSongs:
    """Songs of two folders; `left_out` are those that only the estimates have."""

    songs: tuple[LyricsSong, ...]
    left_out: tuple[str, ...] = field(default=())


def open_lyrics(reference: Path, estimate: Path, patterns: Sequence[str] = ("*",)) -> LyricsSongs:
    """Read lyrics and pair them: two files with each other, files of two folders by their names.

    Parameters
    ----------
    reference, estimate
        Two files or two folders, of which sub-folders are read too.
    patterns
        Of the names of files that are read in folders.

    Raises
    ------
    InputError
        A file and a folder, nothing to read, a true song without an estimate, or a file that is none.
    """
    if reference.is_file() and estimate.is_file():
        pair = (_read([reference]), _read([estimate]))
        return LyricsSongs(songs=(LyricsSong(name=reference.stem, reference=pair[0], estimate=pair[1]),))
    true, found = _songs(reference, patterns), _songs(estimate, patterns)
    missing = [name for name in true if name not in found]
    if missing:
        raise InputError(
            f"{estimate} has no lyrics of {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            "give every song a file of the same name, an empty one where nothing was found, or --files",
        )
    return LyricsSongs(
        songs=tuple(
            LyricsSong(name=name, reference=_read(files), estimate=_read(found[name]))
            for name, files in true.items()
        ),
        left_out=tuple(name for name in found if name not in true),
    )


def _songs(folder: Path, patterns: Sequence[str]) -> dict[str, list[Path]]:
    """Return the files of each song, by its path without the ending."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", "give two folders, or two files")
    songs: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        chosen = any(fnmatch.fnmatchcase(file.name, pattern) for pattern in patterns)
        if chosen and file.suffix.lower() in (_TEXT, _TABLE) and file.is_file():
            songs.setdefault(file.relative_to(folder).with_suffix("").as_posix(), []).append(file)
    if not songs:
        raise InputError(f"{folder} has no lyrics", "put .txt or .csv files there, or change --files")
    return songs


def _read(files: Sequence[Path]) -> Lyrics:
    texts = [_text(file) for file in files if file.suffix.lower() != _TABLE]
    tables = [_table(file) for file in files if file.suffix.lower() == _TABLE]
    lines, times = tables[0] if tables else ("", ())
    return Lyrics(text=texts[0] if texts else lines, times=times)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file} as text in UTF-8: {error}", "check the file") from error


def _table(file: Path) -> tuple[str, tuple[TimedWord, ...]]:
    """Return the text that a table holds, and its words or lines with their times."""
    reader = csv.DictReader(_text(file).splitlines(keepends=True))
    names = reader.fieldnames or ()
    column = next((name for name in ("word", "text") if name in names), None)
    if column is None or not {"start_s", "end_s"} <= set(names):
        raise InputError(f"{file} lacks a column start_s, end_s, word or text", f"it has {', '.join(names)}")
    rows = [(row, _timed(file, row, column, number)) for number, row in enumerate(reader, 2)]
    lines: dict[str, list[str]] = {}
    for index, (row, word) in enumerate(rows):
        line = str(index) if column == "text" else row.get("line") or ""
        lines.setdefault(line, []).append(word.text)
    return "\n".join(" ".join(words) for words in lines.values()), tuple(word for _, word in rows)


def _timed(file: Path, row: dict[str, str | None], column: str, number: int) -> TimedWord:
    try:
        start, end = float(row["start_s"] or ""), float(row["end_s"] or "")
    except ValueError:
        start = end = math.nan
    if not (math.isfinite(start) and math.isfinite(end) and start <= end):
        raise InputError(
            f"{file}, row {number}: from {row['start_s']!r} to {row['end_s']!r} are no times",
            "give seconds, the end not before the start",
        )
    return TimedWord(text=row[column] or "", start=start, end=end)
