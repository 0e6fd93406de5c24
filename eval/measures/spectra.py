"""Spectral distances over a whole track, in one reading.

Definitions: stemwright.eval.signal_metrics.
"""

import numpy as np

from stemwright.eval.measures.contract import Metric, ScoreOptions, Track
from stemwright.eval.measures.reading import pair_blocks
from stemwright.eval.rows import StemScores
from stemwright.eval.signal_metrics import LogMelSums, SpectralDistance, SpectralSums

_MRSTFT, _LOGMEL = "MR-STFT", "LogMel"


def _score(track: Track, metrics: tuple[Metric, ...], options: ScoreOptions) -> dict[str, StemScores]:
    rate = track.pairs.sample_rate
    sums: dict[str, SpectralSums | LogMelSums] = {}
    for metric in metrics:
        (column,) = metric.columns
        sums[column] = SpectralSums(SpectralDistance(), rate) if column == _MRSTFT else LogMelSums(rate)
    sounds = np.zeros(len(track.pairs.names), bool)
    for references, estimates in pair_blocks(track):
        sounds |= references.any(axis=(1, 2))
        for one in sums.values():
            one.add(references, estimates)
    values = {column: one.finish().mean(axis=-1) for column, one in sums.items()}
    return {
        name: StemScores(
            values={c: float(row[index]) if sounds[index] else np.nan for c, row in values.items()},
            notes=() if sounds[index] else (f"{', '.join(values)}: the reference is silent",),
        )
        for index, name in enumerate(track.pairs.names)
    }


SPECTRAL_METRICS = (
    Metric(
        name="mrstft",
        columns=(_MRSTFT,),
        better="lower",
        unit="",
        meaning="distance of A-weighted spectra of five resolutions; the mean over the channels",
        engine=_score,
        options={"n_ffts": "256 512 1024 2048 4096", "weighting": "a"},
    ),
    Metric(
        name="logmel",
        columns=(_LOGMEL,),
        better="lower",
        unit="dB",
        meaning="mean difference of log-mel levels; the mean over the channels",
        engine=_score,
        options={"n_fft": 2048, "bands": 128},
    ),
)
