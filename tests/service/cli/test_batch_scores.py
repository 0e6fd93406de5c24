"""`stemwright batch --evaluate`: the scores beside the stems of MUSDB are those of the stems."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.eval.datasets.opening import open_data
from stemwright.eval.rows import read_run
from stemwright.eval.signal_metrics import sdr
from tests.service.conftest import Workshop
from tests.service.recordings import recording
from tests.support.tiny_models import STEMS

TRACKS = ("train/A - One", "test/B - Two")


def musdb_hq() -> None:
    for index, track in enumerate(TRACKS):
        for place, stem in enumerate(("mixture", *STEMS)):
            recording(Path("db") / track / f"{stem}.wav", 9000 + index, seed=10 * index + place)


def read(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    samples: np.ndarray[tuple[int, int], np.dtype[np.float64]] = soundfile.read(path, always_2d=True)[0]
    return samples.T


def test_scores_lie_beside_the_stems(workshop: Workshop) -> None:
    musdb_hq()
    ended = workshop.batch("db", "-o", "out", "--evaluate", "--metric", "sdr")
    assert ended.code == 0, ended.err
    run = read_run(Path("out/scores"))
    assert [row.track for row in run.tracks] == ["A - One", "B - Two"]
    assert run.facts.model == "tiny"
    assert [
        track.name for split in ("train", "test") for track in open_data(run.facts.data, split).tracks
    ] == ["A - One", "B - Two"]
    for row, track in zip(run.tracks, TRACKS, strict=True):
        for stem in STEMS:
            true, found = read(Path("db") / track / f"{stem}.wav"), read(Path("out") / track / f"{stem}.wav")
            assert row.stems[stem].values["SDR_song"] == pytest.approx(sdr(true, found), abs=1e-6)
    assert "medians over 2 tracks" in ended.out


def test_a_batch_that_goes_on_scores_what_is_not_scored(workshop: Workshop) -> None:
    musdb_hq()
    assert workshop.batch("db", "-o", "out").code == 0
    arguments = ("db", "-o", "out", "--resume", "--evaluate", "--metric", "sdr")
    assert workshop.batch(*arguments).code == 0
    rows = Path("out/scores/tracks.jsonl").read_bytes()
    assert rows.count(b"\n") == 2
    assert workshop.batch(*arguments).code == 0
    assert Path("out/scores/tracks.jsonl").read_bytes() == rows
    assert workshop.batch("db", "-o", "out", "--overwrite", "--evaluate").code == 0
    assert read_run(Path("out/scores")).columns == ("SDR", "ISR", "SIR", "SAR")


def test_the_pair_of_vocals_and_accompaniment(workshop: Workshop) -> None:
    musdb_hq()
    arguments = ("--split", "test", "--two-stems", "vocals", "--evaluate", "--metric", "sdr")
    assert workshop.batch("db", "-o", "out", *arguments).code == 0
    (row,) = read_run(Path("out/scores")).tracks
    others = [read(Path("db/test/B - Two") / f"{stem}.wav") for stem in STEMS if stem != "vocals"]
    true, found = np.sum(others, axis=0), read(Path("out/test/B - Two/accompaniment.wav"))
    assert row.stems["accompaniment"].values["SDR_song"] == pytest.approx(sdr(true, found), abs=1e-6)


def test_stems_that_cannot_be_scored_are_there_all_the_same(workshop: Workshop) -> None:
    musdb_hq()
    Path("db/test/B - Two/bass.wav").unlink()
    ended = workshop.batch("db", "-o", "out", "--evaluate", "--metric", "sdr")
    assert ended.code == 3
    assert ended.shows_error("B - Two could not be scored")
    assert Path("out/test/B - Two/vocals.wav").exists()
    assert [row.track for row in read_run(Path("out/scores")).failed] == ["B - Two"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "sdr"], "--metric is for --evaluate"),
        (["--evaluate", "--metric", "sdrr"], "there is no metric sdrr"),
        (["--evaluate", "--bit-depth", "16"], "turned down or clipped"),
    ],
)
def test_what_cannot_be_asked(workshop: Workshop, arguments: list[str], message: str) -> None:
    musdb_hq()
    ended = workshop.batch("db", "-o", "out", *arguments)
    assert ended.code == 2
    assert ended.shows_error(message)


def test_recordings_without_true_stems(workshop: Workshop) -> None:
    recording(Path("in/song.wav"), 5000)
    ended = workshop.batch("in", "-o", "out", "--evaluate")
    assert ended.code == 2
    assert ended.shows_error("is not MUSDB")
