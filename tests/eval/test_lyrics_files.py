"""Lyrics of files, and `stemwright eval lyrics-text`."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from stemwright.core.errors import InputError
from stemwright.eval.lyrics_files import open_lyrics
from stemwright.service.cli.main import run
from tests.support.paths import shared

WORDS = "start_s,end_s,line,word\n0.5,0.8,0,Hello\n1,1.5,0,you\n2,2.2,1,again\n"


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def scores(capsys: pytest.CaptureFixture[str], *options: str) -> dict:  # type: ignore[type-arg]
    assert run(["eval", "lyrics-text", *options, "--json"]) == 0
    data: dict = json.loads(capsys.readouterr().out)  # type: ignore[type-arg]
    return data


def test_songs_are_paired_by_name_and_pooled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true, found = tmp_path / "true", tmp_path / "found"
    put(true / "a.txt", "one two three four\n")
    put(true / "deep" / "b.txt", "five six\n")
    put(found / "a.txt", "one two three for\n")
    put(found / "deep" / "b.txt", "")
    put(found / "extra.txt", "x")
    data = scores(capsys, "--reference", str(true), "--estimate", str(found))
    assert data["songs"]["a"]["words"]["rates"]["WER"] == 0.25
    assert data["songs"]["deep/b"]["words"]["rates"]["WER"] == 1
    assert data["all"]["words"]["rates"]["WER"] == 0.5
    assert data["all"]["words"]["near_misses"] == 1  # four and for
    assert data["all"]["times"] is None


def test_tables_give_times_and_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = put(tmp_path / "true.csv", WORDS)
    found = put(tmp_path / "found.csv", WORDS.replace("0.5,", "0.7,").replace("2,2.2", "3,3.2"))
    data = scores(capsys, "--reference", str(true), "--estimate", str(found))["all"]
    assert data["words"]["rates"]["WER"] == 0
    assert data["words"]["rates"]["F1_line"] == 1
    assert data["times"]["matched"] == 3
    assert data["times"]["median_s"] == pytest.approx(0.2)
    assert data["times"]["mean_s"] == pytest.approx(0.4)
    assert data["times"]["share_in_time"] == pytest.approx(2 / 3)
    lines = put(tmp_path / "lines.csv", 'start_s,end_s,text\n0.5,1.5,"Hello, you"\n2,2.2,again\n')
    (song,) = open_lyrics(lines, lines).songs
    assert song.reference.text == "Hello, you\nagain"


def test_a_text_comes_before_its_table(tmp_path: Path) -> None:
    put(tmp_path / "song.txt", "Hello you\nagain, \N{EM DASH} yes")
    put(tmp_path / "song.csv", WORDS)
    put(tmp_path / "license.txt", "no lyrics")
    (song,) = open_lyrics(tmp_path, tmp_path, ["song.*"]).songs
    assert song.reference.text.endswith("yes")
    assert len(song.reference.times) == 3


@pytest.mark.slow
def test_whole_songs_shifted_by_a_fifth_of_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true = shared("data", "lyrics_songs")
    words = 0
    for file in true.glob("*/words.csv"):
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        words += len(rows)
        place = tmp_path / file.parent.name / file.name
        place.parent.mkdir()
        with place.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0].keys())
            writer.writeheader()
            for row in rows:
                late = {key: f"{float(row[key]) + 0.2:.3f}" for key in ("start_s", "end_s")}
                writer.writerow({**row, **late})
        shutil.copy(file.with_name("lyrics.txt"), place.parent)
    names = ["--files", "words.csv", "--files", "lyrics.txt"]
    data = scores(capsys, "--reference", str(true), "--estimate", str(tmp_path), *names)["all"]
    assert data["words"]["rates"]["WER"] == data["words"]["cer"] == 0
    assert data["times"]["matched"] == pytest.approx(words, rel=0.001)
    assert data["times"]["median_s"] == pytest.approx(0.2, abs=1e-6)
    assert data["times"]["share_in_time"] == 1


def test_the_tables_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true, found = put(tmp_path / "true.csv", WORDS), put(tmp_path / "found.csv", WORDS)
    command = ["eval", "lyrics-text", "--reference", str(true), "--estimate", str(found), "--normalise"]
    assert run(command) == 0
    text = capsys.readouterr().out
    assert "all songs      3  0.0 %  0.0 %" in text
    assert "line breaks" in text and "within 0.3 s" in text


def test_what_cannot_be_scored_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true, found = tmp_path / "true", tmp_path / "found"
    put(true / "a.txt", "words")
    put(found / "b.txt", "words")
    assert run(["eval", "lyrics-text", "--reference", str(true), "--estimate", str(found)]) == 2
    assert "has no lyrics of a" in capsys.readouterr().err
    with pytest.raises(InputError, match="is no folder"):
        open_lyrics(true, found / "b.txt")
    with pytest.raises(InputError, match="has no lyrics"):
        open_lyrics(true, found, ["*.csv"])
    for text, message in (
        ("start_s,word\n1,a\n", "lacks a column"),
        ("start_s,end_s,word\n2,1,a\n", "row 2"),
        ("start_s,end_s,word\n1,2,a\nnan,2,b\n", "row 3"),
    ):
        file = put(tmp_path / "bad.csv", text)
        with pytest.raises(InputError, match=message):
            open_lyrics(file, file)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="UTF-8"):
        open_lyrics(tmp_path / "bytes.txt", tmp_path / "bytes.txt")
