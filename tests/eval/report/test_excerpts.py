"""Which tracks and frames are chosen, and the samples of their excerpts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.audio.source import open_source
from stemwright.core.errors import InputError
from stemwright.eval.datasets.opening import open_data
from stemwright.eval.report.choosing import noted_frames, noted_tracks, ranked_tracks, spread
from stemwright.eval.report.excerpts import EXCERPT_S, encoded, excerpts, open_references
from stemwright.eval.rows import MetricFacts, Run, RunFacts, StemScores, TrackScores
from tests.eval.report.runs import make_run
from tests.support.data_sets import RATE, noise, write

SECONDS = 12
FRAMES = (5.0, 4.0, 3.0, float("nan"), 9.0, 7.0, 6.0, 8.0, 10.0, 1.0, 2.0, 11.0)


def make_kept(root: Path, *, notes: tuple[str, ...] = (), folder: str = "estimates/song") -> Run:
    """A run whose estimates are the references and a little noise; s1 and s2 exchanged where notes say so."""
    for index, stem in enumerate(("s1", "s2")):
        write(root / "data" / "song" / f"{stem}.wav", noise(index, SECONDS * RATE))
        other = 1 - index if notes else index
        estimate = noise(other, SECONDS * RATE) + 0.1 * noise(7, SECONDS * RATE)
        write(root / "run" / folder / f"{'x' if notes else ''}{stem}.wav", estimate)
    scores = StemScores(values={"SDR": 5.0}, frames={"SDR": FRAMES})
    row = TrackScores(
        track="song", seconds=SECONDS, sample_rate=RATE, channels=2, stems={"s1": scores, "s2": scores},
        estimates=folder, notes=notes,
    )  # fmt: skip
    metric = MetricFacts(name="bsseval", columns=("SDR",), options={"window_s": 1.0, "hop_s": 1.0})
    facts = RunFacts(model="m", data=f"folder:{root / 'data'}", metrics=(metric,), tracks=("song",))
    return Run(path=root / "run", facts=facts, tracks=(row,))


def whole(path: Path) -> np.ndarray:
    with open_source(path) as source:
        return np.concatenate(list(source.blocks()), axis=1)


def test_excerpts_are_the_samples_around_the_frames(tmp_path: Path) -> None:
    made = make_kept(tmp_path)
    found = list(excerpts([made], open_data(f"folder:{tmp_path / 'data'}"), "song", "SDR"))
    assert [(one.stem, one.what, one.start_s, one.value) for one in found] == [
        ("s1", "median", 4.0, 6.0),  # of 11 numbers the sixth; frame 6 is 6 to 7 s, its middle 6.5
        ("s1", "worst", 7.0, 1.0),
        ("s2", "median", 4.0, 6.0),
        ("s2", "worst", 7.0, 1.0),
    ]
    one = found[3]
    cut = slice(7 * RATE, 7 * RATE + round(EXCERPT_S * RATE))
    true, estimate = (
        whole(tmp_path / place / "s2.wav")[:, cut] for place in ("data/song", "run/estimates/song")
    )
    np.testing.assert_allclose(one.signals["reference"], true * one.gain, atol=1e-7)
    np.testing.assert_allclose(one.signals["m: estimate"], estimate * one.gain, atol=1e-7)
    np.testing.assert_allclose(one.signals["m: residual"], (estimate - true) * one.gain, atol=1e-6)
    assert max(np.abs(signal).max() for signal in one.signals.values()) <= 1


def test_estimates_stand_where_the_run_found_that_they_belong(tmp_path: Path) -> None:
    made = make_kept(tmp_path, notes=("s1 is the estimate xs2", "s2 is the estimate xs1"))
    for one in excerpts([made], open_data(f"folder:{tmp_path / 'data'}"), "song", "SDR"):
        residual, true = one.signals["m: residual"], one.signals["reference"]
        assert np.square(residual).sum() < 0.02 * np.square(true).sum()


def test_a_run_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    made = make_kept(tmp_path, folder="../elsewhere")
    with pytest.raises(InputError, match="outside of itself"):
        list(excerpts([made], open_data(f"folder:{tmp_path / 'data'}"), "song", "SDR"))


def test_references_are_looked_for_where_the_run_had_them(tmp_path: Path) -> None:
    made = make_kept(tmp_path)
    for stem in ("bass", "drums", "mixture", "other", "vocals"):
        write(tmp_path / "hq" / "train" / "song" / f"{stem}.wav", noise(1, RATE))

    def of(data: str) -> list[Run]:
        return [replace(made, facts=replace(made.facts, data=data))]

    assert open_references([made]).label == made.facts.data
    hq = open_references(of(f"musdb-hq:{tmp_path / 'hq'} (train)"))
    assert [track.name for track in hq.tracks] == ["song"]
    assert open_references(of("folder:/nowhere"), made.facts.data).label == made.facts.data
    with pytest.raises(InputError, match="the references are not at folder:/nowhere"):
        open_references(of("folder:/nowhere"))
    with pytest.raises(InputError, match="no run kept"):
        open_references([make_run("a", {"s": np.ones((2, 1))})])


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (8000, 1), (11000, 2), (48000, 6)])
def test_clips_are_what_was_encoded(rate: int, channels: int, tmp_path: Path) -> None:
    times = np.arange(rate) / rate
    tone = np.tile(0.5 * np.sin(2 * np.pi * 440 * times), (channels, 1)).astype(np.float32)
    data, media_type = encoded(tone, rate)
    file = tmp_path / ("clip.mp3" if media_type == "audio/mpeg" else "clip.ogg")
    file.write_bytes(data)
    assert len(data) < 20_000
    decoded = whole(file)[0, : len(times)]
    spectrum = np.abs(np.fft.rfft(decoded))
    assert spectrum.argmax() * rate / len(decoded) == pytest.approx(440, abs=2)
    middle = decoded[rate // 4 : -rate // 4]
    assert np.sqrt(np.mean(np.square(middle))) == pytest.approx(
        0.5 / np.sqrt(2), rel=0.06
    )  # LAME scales some rates by 0.95


def test_tracks_are_ranked_by_what_is_worse() -> None:
    made = make_run("a", {"s": np.array([[3.0], [1.0], [np.nan], [2.0]])})
    assert ranked_tracks(made, "SDR") == ["track 1", "track 3", "track 0"]
    assert noted_tracks(made, "SDR", "s") == {"worst": "track 1", "median": "track 3"}
    distances = make_run("a", {"s": np.array([[3.0], [1.0], [2.0]])}, column="mse:cdpam")
    assert ranked_tracks(distances, "mse:cdpam") == ["track 0", "track 2", "track 1"]


def test_frames_without_a_number_are_passed_over() -> None:
    scores = StemScores(values={}, frames={"SDR": FRAMES, "none": (float("nan"),), "one": (1.0,)})
    assert noted_frames(scores, "SDR") == {"median": 6, "worst": 9}
    assert noted_frames(scores, "none") == {}
    assert noted_frames(scores, "one") == {"median": 0}


@given(st.integers(0, 12), st.integers(0, 30))
def test_chosen_tracks_are_as_many_as_asked_for(count: int, tracks: int) -> None:
    ranking = [str(index) for index in range(tracks)]
    chosen = spread(ranking, count)
    assert len(chosen) == min(count, tracks)
    assert len(set(chosen)) == len(chosen)
    if 1 < count and tracks > 1:
        assert chosen[0] == "0"
    if count > 2 and tracks > 2:
        assert chosen[-1] == ranking[-1]
