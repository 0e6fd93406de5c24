"""Numbers over tracks."""

import numpy as np
import pytest

from stemwright.eval.report.summary import summarise
from stemwright.eval.rows import Run, StemScores, TrackScores
from tests.eval.report.runs import make_run

FRAMES = np.array([[1.0, 2.0, 9.0], [np.nan, 4.0, np.nan], [np.nan, np.nan, np.nan], [np.inf, 0.0, 5.0]])


def test_medians_are_taken_over_frames_and_then_over_tracks() -> None:
    (summary,) = summarise(make_run("a", {"vocals": FRAMES}))
    assert summary.per_track.tolist()[:2] == [2.0, 4.0]
    assert np.isnan(summary.per_track[2])
    assert summary.per_track[3] == 2.5  # a perfect frame has no number
    assert summary.value == 2.5  # of 2, 4 and 2.5, where the median of all frames is 3
    assert (summary.tracks, summary.missing_tracks, summary.frames, summary.missing_frames) == (3, 1, 12, 6)


def test_means_are_another_number() -> None:
    (summary,) = summarise(make_run("a", {"vocals": FRAMES}), "mean")
    assert summary.value == pytest.approx((4 + 4 + 2.5) / 3)


def test_means_weighted_by_length_of_tracks() -> None:
    """GNSDR: clips of 2, 6 and 1 s, the last without a number."""
    rows = tuple(
        TrackScores(
            track=str(seconds),
            seconds=seconds,
            sample_rate=16000,
            channels=1,
            stems={"voice": StemScores(values={"NSDR": value})},
        )
        for seconds, value in ((2.0, 10.0), (6.0, 2.0), (1.0, np.nan))
    )
    run = make_run("a", {"vocals": FRAMES})
    (summary,) = summarise(Run(path=run.path, facts=run.facts, tracks=rows), "weighted-mean")
    assert summary.value == pytest.approx((2 * 10 + 6 * 2) / 8)
