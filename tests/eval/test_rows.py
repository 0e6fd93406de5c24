"""Rows and runs on the disk: strict JSON, torn lines, damage; and museval's own files as a run."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.errors import InputError, OptionError, OutputError
from stemwright.eval.metric_names import METRIC_NAMES, check_metric_names
from stemwright.eval.metrics import METRICS
from stemwright.eval.museval_folders import read_museval_folder
from stemwright.eval.rows import (
    FailedTrack,
    MetricFacts,
    RunFacts,
    StemScores,
    TrackScores,
    parse_row,
    read_run,
    row_json,
)
from stemwright.eval.run_log import RunLog
from tests.support.paths import shared

FACTS = RunFacts(
    model="m", data="folder:x", metrics=(MetricFacts(name="sdr", columns=("SDR_song",)),), tracks=("b", "a")
)
NUMBERS = st.floats(width=64)


def row(track: str, value: float = 1.5) -> TrackScores:
    stems = {"v": StemScores(values={"SDR_song": value}, frames={"SDR": (value, math.nan)})}
    return TrackScores(track=track, seconds=2.0, sample_rate=8000, channels=2, stems=stems, model="m")


@given(st.text(), NUMBERS, st.lists(NUMBERS))
def test_a_row_comes_back_with_nan_for_what_is_not_finite(
    track: str, value: float, frames: list[float]
) -> None:
    stems = {"v": StemScores(values={"SDR": value}, frames={"SDR": tuple(frames)})}
    line = row_json(TrackScores(track=track, seconds=1.0, sample_rate=1, channels=1, stems=stems))
    assert "\n" not in line
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    back = parse_row(line)
    assert isinstance(back, TrackScores) and back.track == track
    found = back.stems["v"]
    for before, after in ((value, found.values["SDR"]), *zip(frames, found.frames["SDR"], strict=True)):
        assert after == before if math.isfinite(before) else math.isnan(after)
    assert bool(found.notes) == math.isinf(value)


def test_a_failed_track_comes_back() -> None:
    failed = FailedTrack(track="t", code="unusable_input", message="it is silent", remedy="play louder")
    assert parse_row(row_json(failed)) == failed


def test_a_run_is_read_in_the_data_s_order_and_its_last_rows_count(tmp_path: Path) -> None:
    with RunLog(tmp_path, FACTS) as log:
        log.append(FailedTrack(track="a", code="c", message="m"))
        log.append(row("a", 2.0))
        log.append(row("b"))
    run = read_run(tmp_path)
    assert [track.track for track in run.tracks] == ["b", "a"]
    assert run.tracks[1].stems["v"].values == {"SDR_song": 2.0}
    assert (run.failed, run.stems, run.columns) == ((), ("v",), ("SDR_song",))
    assert run.facts == FACTS


def test_a_torn_line_is_cut_away(tmp_path: Path) -> None:
    with RunLog(tmp_path, FACTS) as log:
        log.append(row("a"))
    whole = (tmp_path / "tracks.jsonl").read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "tracks.jsonl").write_bytes(whole + whole[:cut])
        assert len(read_run(tmp_path).tracks) == 1
        with RunLog(tmp_path, FACTS) as log:
            assert log.done("a") is not None and log.done("b") is None
        assert (tmp_path / "tracks.jsonl").read_bytes() == whole


def test_what_a_killed_run_was_writing_is_swept(tmp_path: Path) -> None:
    left = tmp_path / ".partial-abc" / "stems"
    left.mkdir(parents=True)
    (left / "v.wav").write_bytes(b"x")
    with RunLog(tmp_path, FACTS):
        assert not left.parent.exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with RunLog(tmp_path, FACTS), pytest.raises(OutputError, match="another run is at work"):
        RunLog(tmp_path, FACTS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "n"}, "other model: m, not n"),
        ({"data": "folder:y"}, "other data: folder:x, not folder:y"),
        ({"metrics": (MetricFacts(name="si-sdr", columns=("SI-SDR",)),)}, "other metrics: sdr, not si-sdr"),
        ({"options": {"shifts": 2}}, "other options: shifts None, not 2"),
        ({"tracks": ("a",)}, "other tracks: b, not none"),
    ],
)
def test_a_run_of_something_else_is_left_alone(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    with RunLog(tmp_path, FACTS):
        pass
    facts = RunFacts(**{**vars(FACTS), **changed})
    with pytest.raises(OptionError, match=message):
        RunLog(tmp_path, facts)


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no run\.json"):
        read_run(tmp_path)
    with RunLog(tmp_path, FACTS):
        pass
    (tmp_path / "tracks.jsonl").write_text('{"schema": 9}\n')
    with pytest.raises(InputError, match="line 1 is no row"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match="not of a run"):
        read_run(tmp_path)


def test_museval_s_own_file_is_a_run(tmp_path: Path) -> None:
    given = shared("data", "fixtures", "musdb_7s_sample", "Music Delta - 80s Rock.json")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / given.name).write_bytes(given.read_bytes())
    run = read_museval_folder(tmp_path)
    assert [track.track for track in run.tracks] == ["Music Delta - 80s Rock"]
    frames = json.loads(given.read_text())["targets"][0]["frames"]
    name = json.loads(given.read_text())["targets"][0]["name"]
    stem = run.tracks[0].stems[name]
    assert stem.frames["SDR"] == tuple(frame["metrics"]["SDR"] for frame in frames)
    assert sorted(stem.frames["SDR"])[2] <= stem.values["SDR"] <= sorted(stem.frames["SDR"])[3]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / given.name).write_bytes(given.read_bytes())
    with pytest.raises(InputError, match="two files of the track"):
        read_museval_folder(tmp_path)


def test_folders_without_museval_s_files(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError):
            read_museval_folder(folder)
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InputError, match="not a JSON file of museval"):
        read_museval_folder(tmp_path)


def test_names_of_metrics_are_those_of_the_table() -> None:
    assert tuple(METRICS) == METRIC_NAMES
    check_metric_names((*METRIC_NAMES, "mse:cdpam"))
    with pytest.raises(OptionError) as refused:
        check_metric_names(("sisdr",))
    assert "si-sdr" in refused.value.remedy
