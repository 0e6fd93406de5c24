import json
import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.errors import OutputError
from stemwright.service.ledger import LEDGER_FILE, Event, InputPrint, Ledger, Row, read_rows, written_files
from stemwright.service.outcomes import ErrorFacts


def row(track: str, event: Event = "done", **changes: object) -> Row:
    facts: dict[str, object] = {
        "track": track,
        "event": event,
        "input": InputPrint(sha256="ab", size=3, mtime_ns=4),
        "model_sha256": "m",
        "settings_sha256": "s",
        **changes,
    }
    return Row(**facts)  # type: ignore[arg-type]


def test_the_last_row_of_a_track_counts_over_restarts(tmp_path: Path) -> None:
    error = ErrorFacts(code="unusable_input", message="no", remedy="yes")
    with Ledger(tmp_path) as ledger:
        assert ledger.empty
        ledger.append(row("a", "failed", error=error, input=None))
        ledger.append(row("b"), {"gain": 1})
        ledger.append(row("a", "publishing", seconds=2.5))
    with Ledger(tmp_path) as ledger:
        assert ledger.row("a") == row("a", "publishing", seconds=2.5)
        assert ledger.row("b") == row("b")
        assert ledger.row("c") is None
        assert ledger.count == 2
    lines = (tmp_path / LEDGER_FILE).read_text().splitlines()
    assert json.loads(lines[1])["result"] == {"gain": 1}


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1))
def test_a_ledger_cut_anywhere_has_all_whole_rows(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    folder = tmp_path_factory.mktemp("out")
    path = folder / LEDGER_FILE
    with Ledger(folder) as ledger:
        for index in range(5):
            ledger.append(row(f"träck {index}"))
    data = path.read_bytes()
    kept = data[: int(len(data) * share)]
    path.write_bytes(kept)
    whole = kept.count(b"\n")
    with Ledger(folder) as ledger:
        assert ledger.count == whole
        ledger.append(row("new"))
    assert len(read_rows(path)) == whole + 1


def test_one_batch_at_a_time(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(OutputError, match="another batch"):
        Ledger(tmp_path)
    Ledger(tmp_path).__exit__(None, None, None)


@pytest.mark.parametrize("text", ["hello\n", "{}\n", '{"schema": 99}\n', "[1]\n", "null\n"])
def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / LEDGER_FILE).write_text(text)
    with pytest.raises(OutputError, match="not the ledger"):
        Ledger(tmp_path)
    assert (tmp_path / LEDGER_FILE).read_text() == text


def test_files_are_known_again_after_a_rename(tmp_path: Path) -> None:
    (tmp_path / "staged.wav").write_bytes(b"abc")
    files = written_files([(PurePosixPath("song/a.wav"), tmp_path / "staged.wav")])
    published, done = row("a", "publishing", files=files), row("a", files=files)
    assert not published.complete(tmp_path)
    (tmp_path / "song").mkdir()
    (tmp_path / "staged.wav").rename(tmp_path / "song/a.wav")
    assert published.complete(tmp_path)
    os.utime(tmp_path / "song/a.wav", ns=(0, 0))
    assert not published.complete(tmp_path)
    assert done.complete(tmp_path)
    (tmp_path / "song/a.wav").write_bytes(b"abcd")
    assert not done.complete(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        Ledger(tmp_path / "file")
