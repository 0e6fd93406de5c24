"""Scores of estimates against targets: the same for a network under training and for the served model."""

from collections.abc import Sequence
from itertools import permutations
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from stemwright.core.arrays import FloatArray
from stemwright.training.data.examples import Example

Kind = Literal["speakers", "stems", "query"]
"""`speakers`: SI-SDR improvement in the best order; `stems`: SDR of each stem; `query`: SDR improvement."""

SCORE = "score"
_ALL_ORDERS = 4
_SILENT = 1e-8  # mean square; a target below it has no score
_SMALLEST = 1e-12


def score_items(
    kind: Kind, stems: Sequence[str], items: Sequence[Example], estimates: Sequence[FloatArray]
) -> dict[str, float]:
    """Score items.

    Parameters
    ----------
    kind
        What is measured.
    stems
        Names of the targets.
    items
        With their targets, shape=(S, C, T).
    estimates
        shape=(S, C, T) for each.

    Returns
    -------
    dict
        In dB, means over the items: `score`, the larger the better; `si_sdri` (speakers), `sdri`, and for
        stems `sdr` and `sdri_STEM` of each. Silent targets count nowhere; nan where all are silent.
    """
    rows = [
        _speakers(item, made) if kind == "speakers" else _stems(stems, item, made)
        for item, made in zip(items, estimates, strict=True)
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    means = {name: _mean([row[name] for row in rows if name in row]) for name in names}
    return {SCORE: means.get("si_sdri" if kind == "speakers" else "sdri", float("nan"))} | means


def si_sdr(estimate: FloatArray, reference: FloatArray) -> float:
    """Scale-invariant SDR in dB of zero-mean signals, over all axes."""
    made = estimate.astype(np.float64).ravel()
    true = reference.astype(np.float64).ravel()
    made, true = made - made.mean(), true - true.mean()
    target = (made @ true) / max(float(true @ true), _SMALLEST) * true
    return _decibels(float(target @ target), float(np.square(made - target).sum()))


def sdr(estimate: FloatArray, reference: FloatArray) -> float:
    """Energy of a reference over that of the error, in dB."""
    true = reference.astype(np.float64)
    return _decibels(float(np.square(true).sum()), float(np.square(true - estimate).sum()))


def _speakers(item: Example, made: FloatArray) -> dict[str, float]:
    heard = [index for index, target in enumerate(item.targets) if not _silent(target)]
    if not heard:
        return {}
    values = np.array([[si_sdr(estimate, item.targets[index]) for index in heard] for estimate in made])
    chosen = _best(values)
    before = [si_sdr(item.mixture, item.targets[index]) for index in heard]
    return {"si_sdri": float(np.mean(chosen) - np.mean(before)), "si_sdr": float(np.mean(chosen))}


def _best(values: FloatArray) -> FloatArray:
    """Values, shape=(references,), in the best assignment of shape=(estimates, references)."""
    estimates, references = values.shape
    if estimates <= _ALL_ORDERS:
        places = np.arange(references)
        return max(
            (values[list(order), places] for order in permutations(range(estimates), references)),
            key=lambda chosen: float(chosen.sum()),
        )
    rows, columns = linear_sum_assignment(values, maximize=True)
    return np.asarray(values[rows, columns])


def _stems(stems: Sequence[str], item: Example, made: FloatArray) -> dict[str, float]:
    after, gains, row = [], [], {}
    for stem, estimate, target in zip(stems, made, item.targets, strict=True):
        if _silent(target):
            continue
        value = sdr(estimate, target)
        after.append(value)
        gains.append(value - sdr(item.mixture, target))
        if len(stems) > 1:
            row[f"sdri_{stem}"] = gains[-1]
    return row | {"sdr": _mean(after), "sdri": _mean(gains)} if after else row


def _silent(target: FloatArray) -> bool:
    return float(np.square(target, dtype=np.float64).mean()) < _SILENT


def _decibels(signal: float, error: float) -> float:
    return 10.0 * float(np.log10(max(signal, _SMALLEST) / max(error, _SMALLEST)))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
