"""Data folders of speech and of sound events."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from stemwright.core.errors import InputError
from stemwright.training.data.listing import LABEL_FILES, Entry, Fault, audio_files, parted

# ESC's names: fold, Freesound's number, take, and in ESC-50 the class.
_ESC = re.compile(r"(?:^|.*_)(?P<fold>\d)-(?P<origin>\d+)-[A-Z](-\d+)?")
_ESC_FOLDER = re.compile(r"\d{3} - (?P<label>.+)")
_FILE_COLUMNS = ("file", "filename", "fname")
_LABEL_COLUMNS = ("label", "labels", "category")
_SPLIT_COLUMNS = ("split", "fold", "esc_fold")


def speech(root: Path) -> tuple[list[Entry], list[Fault]]:
    """Utterances in folders of their speakers."""
    sexes = _sexes(root)
    entries, faults = [], []
    for path in audio_files(root):
        relative = PurePosixPath(path.relative_to(root))
        split, rest = parted(relative) if len(relative.parts) > 2 else ("", relative)
        if len(rest.parts) < 2:
            faults.append(Fault(name=str(relative), reason="is not in the folder of a speaker"))
            continue
        speaker = rest.parts[0]
        labels = (sexes[speaker],) if speaker in sexes else ()
        entries.append(Entry(path=path, name=str(relative), group=speaker, split=split, labels=labels))
    return entries, faults


def events(root: Path) -> tuple[list[Entry], list[Fault]]:
    """Clips with the classes that sound somewhere in them."""
    table = next((root / name for name in LABEL_FILES if (root / name).is_file()), None)
    return _by_folders(root) if table is None else _by_table(root, table)


def clips(root: Path) -> tuple[list[Entry], list[Fault]]:
    """Clips of anything, each a group of its own."""
    names = [(path, str(PurePosixPath(path.relative_to(root)))) for path in audio_files(root)]
    return [Entry(path=path, name=name, group=name) for path, name in names], []


def _by_folders(root: Path) -> tuple[list[Entry], list[Fault]]:
    entries, faults = [], []
    for path in audio_files(root):
        relative = PurePosixPath(path.relative_to(root))
        split, rest = parted(relative) if len(relative.parts) > 2 else ("", relative)
        if len(rest.parts) < 2:
            faults.append(Fault(name=str(relative), reason="is not in the folder of a class"))
            continue
        match = _ESC_FOLDER.fullmatch(rest.parts[0])
        label = match["label"] if match else rest.parts[0]
        fold, origin = _esc_facts(path.stem)
        entries.append(
            Entry(path=path, name=str(relative), group=origin, split=split or fold, labels=(label,))
        )
    return entries, faults


def _by_table(root: Path, table: Path) -> tuple[list[Entry], list[Fault]]:
    files = {path.name: path for path in audio_files(root)} | {
        str(PurePosixPath(path.relative_to(root))): path for path in audio_files(root)
    }
    entries, faults = [], []
    for row in _rows(table):
        name = _column(row, _FILE_COLUMNS)
        label = _column(row, _LABEL_COLUMNS)
        if name is None or label is None:
            raise InputError(
                f"{table} has no column of files and of labels", "name them file and label in the first line"
            )
        path = files.get(name) or next((files[n] for n in (f"{name}.wav",) if n in files), None)
        if path is None:
            faults.append(Fault(name=name, reason="is in the table of labels but not in the folder"))
            continue
        fold, origin = _esc_facts(path.stem)
        split = _column(row, _SPLIT_COLUMNS) or fold
        labels = _labels(label, several="labels" in row)
        entries.append(
            Entry(
                path=path, name=str(PurePosixPath(path.relative_to(root))), group=origin,
                split=f"fold{split}" if split.isdigit() else split, labels=labels,
            )
        )  # fmt: skip
    return entries, faults


def _labels(text: str, *, several: bool) -> tuple[str, ...]:
    """Split labels at semicolons; those of a column `labels` at commas where there is no semicolon."""
    mark = "," if several and ";" not in text else ";"
    return tuple(part.strip() for part in text.split(mark) if part.strip())


def _esc_facts(stem: str) -> tuple[str, str]:
    """Return (fold, group) of a clip by an ESC name; other clips are a group each."""
    match = _ESC.fullmatch(stem)
    return (f"fold{match['fold']}", match["origin"]) if match else ("", stem)


def _sexes(root: Path) -> dict[str, str]:
    table = root / "speakers.csv"
    if not table.is_file():
        return {}
    return {row["speaker"]: row["sex"] for row in _rows(table) if row.get("speaker") and row.get("sex")}


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            return list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {table}: {error}", "give a CSV file in UTF-8") from error


def _column(row: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((row[name] for name in names if row.get(name)), None)
