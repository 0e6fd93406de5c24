"""Scores in museval's JSON form, which its own aggregation and others' tables read."""

import json
import math
from typing import Any

from stemwright.eval.bss_eval.images import METRICS, ImageScores

_DECIMALS = 5


def as_museval(scores: ImageScores) -> dict[str, Any]:
    """Return the data of museval 0.4.1's JSON files: 5 decimals, infinite values as NaN."""
    targets = []
    for source, name in enumerate(scores.names):
        frames = [
            {
                "time": index * scores.hop_s,
                "duration": scores.window_s,
                "metrics": {
                    metric: _quantised(scores.values[row, source, index])
                    for row, metric in enumerate(METRICS)
                },
            }
            for index in range(scores.values.shape[2])
        ]
        targets.append({"name": name, "frames": frames})
    return {"targets": targets}


def museval_json(scores: ImageScores) -> str:
    """Return the text of a file: JSON but for bare NaN, as museval writes and reads it."""
    return json.dumps(as_museval(scores), indent=2)


def _quantised(value: float) -> float:
    return round(float(value), _DECIMALS) if math.isfinite(value) else math.nan
