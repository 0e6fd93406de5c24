"""Runs made of arrays, for tests."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from stemwright.eval.rows import MetricFacts, Run, RunFacts, StemScores, TrackScores


def make_run(model: str, values: dict[str, npt.NDArray[np.float64]], column: str = "SDR") -> Run:
    """A run whose stems have the given frames, shape=(tracks, frames), in one column."""
    count = len(next(iter(values.values())))
    rows = tuple(
        TrackScores(
            track=f"track {index}",
            seconds=float(frames.shape[1]),
            sample_rate=44100,
            channels=2,
            model=model,
            stems={
                stem: StemScores(
                    values={
                        column: float(np.nanmedian(table[index]))
                        if np.isfinite(table[index]).any()
                        else np.nan
                    },
                    frames={column: tuple(table[index])},
                )
                for stem, table in values.items()
            },
        )
        for index, frames in enumerate(next(iter(values.values()))[:, None, :])
    )
    facts = RunFacts(
        model=model,
        data="folder:songs",
        metrics=(MetricFacts(name="bsseval", columns=(column,), options={"window_s": 1.0, "hop_s": 1.0}),),
        tracks=tuple(row.track for row in rows),
    )
    assert len(rows) == count
    return Run(path=Path(model), facts=facts, tracks=rows)
