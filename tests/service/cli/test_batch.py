import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stemwright.service.ledger import LEDGER_FILE
from tests.service.conftest import Ended, Workshop
from tests.service.recordings import read, recording
from tests.support.tiny_models import GAINS, STEMS, install_tiny_model


def musdb_hq(folder: Path = Path("db"), frames: int = 5000) -> Path:
    for index, track in enumerate(("train/A - One", "train/B - Two", "test/C - Three")):
        for stem in ("mixture", *STEMS):
            recording(folder / track / f"{stem}.wav", frames + index, seed=index)
    return folder


def songs(folder: Path = Path("in"), count: int = 3) -> Path:
    for index in range(count):
        recording(folder / f"album {index % 2}" / f"song {index}.flac", 5000 + index, seed=index)
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder but the ledger and the results, whose times differ."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (LEDGER_FILE, "result.json")
    }


def outcomes(ended: Ended) -> dict[str, str]:
    return {row["track"]: row["outcome"] for row in ended.rows}


def actions(ended: Ended) -> dict[str, tuple[str, str]]:
    return {row["track"]: (row["action"], row["why"]) for row in ended.rows}


def test_musdb_hq_is_laid_out_for_musdb_and_museval(workshop: Workshop) -> None:
    musdb_hq()
    ended = workshop.batch("db", "-o", "out")
    assert ended.code == 0, ended.err
    tracks = {"train/A - One": 5000, "train/B - Two": 5001, "test/C - Three": 5002}
    expected = {f"{track}/{stem}.wav" for track in tracks for stem in STEMS}
    assert workshop.files("out") == expected | {LEDGER_FILE}
    for track, frames in tracks.items():
        mixture = read(Path("db") / track / "mixture.wav")
        for stem, gain in zip(STEMS, GAINS, strict=True):
            path = Path("out") / track / f"{stem}.wav"
            assert (soundfile.info(path).frames, soundfile.info(path).samplerate) == (frames, 44100)
            np.testing.assert_allclose(read(path), mixture * gain, atol=1e-6)


def test_the_documented_walk_of_musdb_finds_exactly_the_tracks(workshop: Workshop) -> None:
    """musdb takes every folder at any depth below train/ and test/ for a track, whatever its name."""
    musdb_hq()
    Path("db/test/Broken").mkdir()
    workshop.batch("db", "-o", "out")
    found = [name for part in ("train", "test") for _, names, _ in os.walk(f"out/{part}") for name in names]
    assert sorted(found) == ["A - One", "B - Two", "C - Three"]
    for _, _, files in os.walk("out/test"):
        assert set(files) <= {f"{stem}.wav" for stem in STEMS}


def test_musdb_names_the_mixture_without_vocals(workshop: Workshop) -> None:
    musdb_hq()
    ended = workshop.batch("db", "-o", "out", "--two-stems", "vocals", "--split", "test", "--bit-depth", "16")
    assert ended.code == 0, ended.err
    track = "test/C - Three"
    assert workshop.files("out") == {f"{track}/vocals.wav", f"{track}/accompaniment.wav", LEDGER_FILE}
    assert soundfile.info(f"out/{track}/vocals.wav").subtype == "PCM_16"


def test_musdb18_separates_the_mixture(workshop: Workshop) -> None:
    song = recording(Path("song.wav"), 20_000, level=0.9)
    workshop.separate(song, "-o", "made", "--format", "stem.mp4")
    target = Path("db/test/A - One.stem.mp4")
    target.parent.mkdir(parents=True)
    shutil.copy("made/song/song.stem.mp4", target)
    ended = workshop.batch("db", "-o", "out", "--stems", "drums")
    assert ended.code == 0, ended.err
    assert workshop.files("out") == {"test/A - One/drums.wav", LEDGER_FILE}
    drums, mixture = read(Path("out/test/A - One/drums.wav")), read(song)
    assert drums.shape == mixture.shape
    assert np.corrcoef(drums.ravel(), mixture.ravel())[0, 1] > 0.9  # AAC at its limit: white noise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "flac"], "wav only"),
        (["--residual"], "residual"),
        (["--two-stems", "drums"], "no name for the mixture without drums"),
    ],
)
def test_musdb_refuses_what_museval_would_misread(
    workshop: Workshop, arguments: list[str], message: str
) -> None:
    musdb_hq()
    ended = workshop.batch("db", "-o", "out", *arguments)
    assert ended.code == 2
    assert ended.shows_error(message)
    assert not Path("out").exists()


def test_plain_folder_keeps_its_shape(workshop: Workshop) -> None:
    songs()
    ended = workshop.batch("in", "-o", "out", "--format", "flac", "--stems", "bass")
    assert ended.code == 0, ended.err
    names = ("album 0/song 0", "album 0/song 2", "album 1/song 1")
    assert workshop.files("out") == {f"{n}/{f}" for n in names for f in ("bass.flac", "result.json")} | {
        LEDGER_FILE
    }
    assert ended.lines[0].split() == ["track", "outcome", "seconds", "factor", "note"]
    assert [line.split("  ")[0] for line in ended.lines[1:4]] == [f"{name}.flac" for name in names]
    assert ended.lines[-1] == "3 done"


def test_rows_of_the_ledger(workshop: Workshop) -> None:
    songs(count=1)
    workshop.batch("in", "-o", "out")
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in Path("out", LEDGER_FILE).read_text().splitlines()
    ]
    assert [row["event"] for row in rows] == ["publishing", "done"]
    row = rows[-1]
    data = Path("in/album 0/song 0.flac").read_bytes()
    assert row["input"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert len(row["model_sha256"]) == len(row["settings_sha256"]) == 64
    assert row["result"] == json.loads(Path("out/album 0/song 0/result.json").read_text())
    assert row["seconds"] == pytest.approx(5000 / 44100)


def test_one_bad_file_does_not_stop_the_rest(workshop: Workshop) -> None:
    songs()
    Path("in/album 0/bad.wav").write_text("no audio")
    Path("in/album 1/empty.mp3").touch()
    os.symlink("/etc/hostname", "in/link.wav")
    ended = workshop.batch("in", "-o", "out")
    assert ended.code == 3
    assert ended.lines[-1] == "3 done, 3 failed"
    for name in ("album 0/bad.wav", "album 1/empty.mp3", "link.wav"):
        assert ended.shows_error(name)
    assert not any(Path("out").glob("album 0/bad*"))


def test_all_bad_is_code_2(workshop: Workshop) -> None:
    Path("in").mkdir()
    Path("in/bad.wav").write_text("no audio")
    assert workshop.batch("in", "-o", "out").code == 2


def test_resume_redoes_nothing_that_is_done(workshop: Workshop) -> None:
    songs()
    Path("in/bad.wav").write_text("no audio")
    workshop.batch("in", "-o", "out")
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.*") if path.name != LEDGER_FILE}
    recording(Path("in/bad.wav"))
    again = workshop.batch("in", "-o", "out", "--resume", "--json")
    assert again.code == 0, again.err
    assert outcomes(again) == {
        "album 0/song 0.flac": "skipped",
        "album 0/song 2.flac": "skipped",
        "album 1/song 1.flac": "skipped",
        "bad.wav": "done",
    }
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_resume_redoes_what_changed(workshop: Workshop) -> None:
    songs()
    workshop.batch("in", "-o", "out")
    recording(Path("in/album 1/song 1.flac"), 7000, seed=9)
    Path("out/album 0/song 0/bass.wav").unlink()
    os.utime("in/album 0/song 2.flac")
    planned = actions(workshop.batch("in", "-o", "out", "--resume", "--dry-run", "--json"))
    assert planned == {
        "album 0/song 0.flac": ("redo", "its files are gone or changed"),
        "album 0/song 2.flac": ("skip", "done before"),
        "album 1/song 1.flac": ("redo", "the recording changed"),
    }
    assert workshop.batch("in", "-o", "out", "--resume").code == 0
    assert soundfile.info("out/album 1/song 1/bass.wav").frames == 7000
    assert Path("out/album 0/song 0/bass.wav").exists()


def test_resume_redoes_after_other_settings_or_model(workshop: Workshop) -> None:
    songs(count=1)
    workshop.batch("in", "-o", "out")
    for arguments, why in (
        (["--shifts", "1"], "other settings"),
        (["--stems", "bass"], "other settings"),
        (["-m", "loud"], "another model"),
        (["--workers", "4", "--threads", "1"], "done before"),
    ):
        planned = actions(workshop.batch("in", "-o", "out", "--resume", "--dry-run", "--json", *arguments))
        assert [reason for _, reason in planned.values()] == [why]
    assert workshop.batch("in", "-o", "out", "--resume", "--stems", "bass").code == 0
    assert workshop.files("out") == {"album 0/song 0/bass.wav", "album 0/song 0/result.json", LEDGER_FILE}


def test_an_earlier_batch_has_to_be_decided_about(workshop: Workshop) -> None:
    songs()
    workshop.batch("in", "-o", "out")
    before = tree(Path("out"))
    ended = workshop.batch("in", "-o", "out")
    assert ended.code == 2
    assert ended.shows_error("earlier batch, with 3 tracks", "--resume")
    assert tree(Path("out")) == before
    again = workshop.batch("in", "-o", "out", "--overwrite", "--json")
    assert set(outcomes(again).values()) == {"done"}
    assert tree(Path("out")) == before


def test_files_of_unknown_origin_are_not_replaced_unasked(workshop: Workshop) -> None:
    songs(count=1)
    stem = Path("out/album 0/song 0/bass.wav")
    stem.parent.mkdir(parents=True)
    stem.write_text("mine")
    ended = workshop.batch("in", "-o", "out")
    assert ended.code == 2
    assert ended.shows_error("exists already", "--overwrite")
    assert stem.read_text() == "mine"
    assert workshop.batch("in", "-o", "out", "--overwrite").code == 0
    assert stem.read_bytes()[:4] == b"RIFF"


def test_dry_run_does_nothing(workshop: Workshop) -> None:
    songs()
    before = workshop.files()
    ended = workshop.batch("in", "-o", "out", "--dry-run")
    assert ended.code == 0
    assert ended.lines[0] == "plain, 3 tracks"
    assert ended.lines[1] == "separate  album 0/song 0.flac -> out/album 0/song 0 (new)"
    assert workshop.files() == before


def test_output_inside_the_folder_is_not_taken_for_input(workshop: Workshop) -> None:
    songs()
    assert workshop.batch("in", "-o", "in/stems").code == 0
    assert workshop.batch("in", "-o", "in/stems", "--resume").lines[-1] == "3 skipped"


def test_damaged_model_stops_the_batch_at_once(workshop: Workshop) -> None:
    songs()
    graph = workshop.models / "tiny/model.onnx"
    graph.write_bytes(bytes(graph.stat().st_size))
    ended = workshop.batch("in", "-o", "out")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 2
    assert workshop.files("out") <= {LEDGER_FILE}


@pytest.mark.parametrize("workers", ["1", "3"])
def test_workers_do_not_change_the_result(workshop: Workshop, workers: str) -> None:
    songs(count=6)
    install_tiny_model(workshop.models, "normal", normalise=True)
    workshop.batch("in", "-o", "one", "--workers", "1", model="normal")
    workshop.batch("in", "-o", "many", "--workers", workers, model="normal")
    assert tree(Path("many")) == tree(Path("one"))


def test_only_one_batch_at_a_time_writes_to_a_folder(workshop: Workshop) -> None:
    from stemwright.service.ledger import Ledger

    songs(count=1)
    with Ledger(Path("out")):
        ended = workshop.batch("in", "-o", "out", "--resume")
    assert ended.code == 2
    assert ended.shows_error("another batch is at work")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["plain", "musdb"])
def test_killed_at_any_moment_and_resumed_is_as_if_undisturbed(workshop: Workshop, layout: str) -> None:
    folder = songs(count=12) if layout == "plain" else musdb_hq(frames=60_000)
    assert workshop.batch(folder, "-o", "calm").code == 0
    expected = tree(Path("calm"))
    command = workshop.fresh_command(
        "batch", folder, "-o", "out", "-m", "tiny", "--device", "cpu", "--resume"
    )
    moments = np.random.default_rng(5).uniform(0.0, 0.5, 6)
    for moment in moments:
        _kill_after(command, float(moment))
        _check_that_nothing_is_half_written(Path("out"), expected)
    ended = workshop.batch(folder, "-o", "out", "--resume", "--json")
    assert ended.code == 0, ended.err
    assert tree(Path("out")) == expected
    assert set(outcomes(workshop.batch(folder, "-o", "out", "--resume", "--json")).values()) == {"skipped"}


KILL_AT_STEP = """
import os, sys
from pathlib import Path
left = int(sys.argv.pop(1))

def counted(function):
    def step(*arguments, **settings):
        global left
        left -= 1
        if left == 0:
            os._exit(137)
        return function(*arguments, **settings)
    return step

os.fsync = counted(os.fsync)
for name in ("rename", "replace", "unlink"):
    setattr(Path, name, counted(getattr(Path, name)))
from stemwright.service.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "other settings"])
def test_killed_at_every_step_of_publishing(workshop: Workshop, before: str) -> None:
    """Steps are what makes files visible or durable; a track that arrived is not done again."""
    songs(count=2)
    workshop.batch("in", "-o", "calm", "--stems", "bass,drums")
    expected = tree(Path("calm"))
    command = [
        *(sys.executable, "-c", KILL_AT_STEP, "STEP", "batch", "in", "-o", "out", "-m", "tiny"),
        *("--device", "cpu", "--stems", "bass,drums", "--resume", "--workers", "1"),
    ]
    for step in range(1, 40, 4):
        shutil.rmtree("out", ignore_errors=True)
        if before != "nothing":
            workshop.batch("in", "-o", "out", "--stems", "drums,vocals", "--shifts", "1")
        command[3] = str(step)
        ended = subprocess.run(command, capture_output=True, timeout=60)
        assert ended.returncode in (0, 137), ended.stderr
        if before == "nothing":
            _check_that_nothing_is_half_written(Path("out"), expected)
        arrived = {path.parent for path in Path("out").glob("*/*/result.json")}
        again = workshop.batch("in", "-o", "out", "--stems", "bass,drums", "--resume", "--json")
        assert again.code == 0, again.err
        assert tree(Path("out")) == expected
        if before == "nothing":
            skipped = [name for name, outcome in outcomes(again).items() if outcome == "skipped"]
            assert len(skipped) == len(arrived)
        if ended.returncode == 0:
            return


def _kill_after(command: list[str], seconds: float) -> None:
    """Kill a batch some time after it began to write; or let it be done."""
    before = _size(Path("out", LEDGER_FILE))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < until:
            if any(Path("out").glob(".*.partial-*")) or _size(Path("out", LEDGER_FILE)) > before:
                break
            time.sleep(0.002)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_that_nothing_is_half_written(out: Path, expected: dict[str, str]) -> None:
    visible = {name: digest for name, digest in tree(out).items() if not name.startswith(".")}
    assert visible.items() <= expected.items()
    for folder in {Path(name).parent for name in visible}:
        siblings = {name for name in expected if Path(name).parent == folder}
        assert siblings <= visible.keys()
