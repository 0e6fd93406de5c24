"""The numbers of a run, one for each stem and column.

References
----------
F.-R. Stöter, A. Liutkus, N. Ito, "The 2018 Signal Separation Evaluation Campaign", LVA/ICA 2018 (medians over
frames, then over tracks).
C.-L. Hsu, J.-S. R. Jang, "On the improvement of singing voice separation for monaural recordings", IEEE
TASLP 18(2), 2010 (means weighted by length).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stemwright.eval.bss_eval.sources import global_mean
from stemwright.eval.rows import Run, StemScores

Aggregate = Literal["median", "mean", "weighted-mean"]
"""Over the frames of a track, then over tracks: SiSEC's and MUSDB's papers take medians of medians, papers
of singing voices means weighted by the tracks' lengths, called GNSDR, GSIR and GSAR of the columns NSDR,
SIR_sources and SAR_sources."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A stem's numbers in a column, over all tracks.

    Parameters
    ----------
    stem, column
        What the numbers are of.
    value
        The aggregate; NaN where no track has a number.
    per_track
        Each track's number, in the run's order; NaN where it has none. shape=(tracks,)
    frames, missing_frames
        Number of frames, and of those without a number; 0 for columns that have no frames.
    """

    stem: str
    column: str
    value: float
    per_track: npt.NDArray[np.float64]
    frames: int
    missing_frames: int

    @property
    def tracks(self) -> int:
        """Number of tracks that have a number."""
        return int(np.isfinite(self.per_track).sum())

    @property
    def missing_tracks(self) -> int:
        """Number of tracks that have none."""
        return len(self.per_track) - self.tracks


def summarise(run: Run, aggregate: Aggregate = "median") -> list[Summary]:
    """Return the summaries of all stems and columns of a run, stems first, in the order of the run.

    A number that is missing, or infinite (a perfect estimate), counts for no aggregate.
    """
    return [
        _summary(run, stem, column, aggregate)
        for stem in run.stems
        for column in run.columns
        if any(stem in row.stems and column in row.stems[stem].values for row in run.tracks)
    ]


def track_values(run: Run, stem: str, column: str, aggregate: Aggregate) -> dict[str, float]:
    """Return the number of every track, by its name; NaN where it has none."""
    return {
        row.track: _number(row.stems[stem], column, aggregate) if stem in row.stems else np.nan
        for row in run.tracks
    }


def _summary(run: Run, stem: str, column: str, aggregate: Aggregate) -> Summary:
    values = np.array(list(track_values(run, stem, column, aggregate).values()), np.float64)
    frames = [
        value for row in run.tracks if stem in row.stems for value in row.stems[stem].frames.get(column, ())
    ]
    return Summary(
        stem=stem,
        column=column,
        value=_over_tracks(run, values, aggregate),
        per_track=values,
        frames=len(frames),
        missing_frames=int((~np.isfinite(frames)).sum()) if frames else 0,
    )


def _number(scores: StemScores, column: str, aggregate: Aggregate) -> float:
    """Return a track's number: of its frames, or where the column has none its value."""
    if column in scores.frames:
        return _aggregated(np.array(scores.frames[column], np.float64), aggregate)
    return scores.values.get(column, np.nan)


def _over_tracks(run: Run, values: npt.NDArray[np.float64], aggregate: Aggregate) -> float:
    if aggregate != "weighted-mean":
        return _aggregated(values, aggregate)
    return global_mean(values.tolist(), [row.seconds for row in run.tracks])


def _aggregated(values: npt.NDArray[np.float64], aggregate: Aggregate) -> float:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return float("nan")
    return float(np.median(finite) if aggregate == "median" else finite.mean())
