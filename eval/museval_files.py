"""Scores in museval's JSON form, which its own aggregation and others' tables read."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stemwright.eval.bss_eval.images import METRICS, ImageScores
from stemwright.eval.measures.contract import ScoreOptions
from stemwright.eval.rows import TrackScores

_DECIMALS = 5


def as_museval(scores: ImageScores) -> dict[str, Any]:
    """Return the data of museval 0.4.1's JSON files: 5 decimals, infinite values as NaN."""
    frames = {
        name: {metric: scores.values[row, source].tolist() for row, metric in enumerate(METRICS)}
        for source, name in enumerate(scores.names)
    }
    return _data(frames, scores.window_s, scores.hop_s)


def rows_as_museval(row: TrackScores, options: ScoreOptions) -> dict[str, Any]:
    """Return the same of a row that has BSS Eval's columns."""
    frames = {name: {metric: stem.frames[metric] for metric in METRICS} for name, stem in row.stems.items()}
    return _data(frames, min(options.window_s, row.seconds), options.hop_s)


def museval_json(scores: ImageScores) -> str:
    """Return the text of a file: JSON but for bare NaN, as museval writes and reads it."""
    return json.dumps(as_museval(scores), indent=2)


def _data(
    frames: Mapping[str, Mapping[str, Sequence[float]]], window_s: float, hop_s: float
) -> dict[str, Any]:
    targets = [
        {
            "name": name,
            "frames": [
                {
                    "time": index * hop_s,
                    "duration": window_s,
                    "metrics": {metric: _quantised(rows[metric][index]) for metric in METRICS},
                }
                for index in range(len(rows[METRICS[0]]))
            ],
        }
        for name, rows in frames.items()
    ]
    return {"targets": targets}


def _quantised(value: float) -> float:
    return round(float(value), _DECIMALS) if math.isfinite(value) else math.nan
