"""Spectral distances over a whole track, in one reading.

Definitions: stemwright.eval.signal_metrics.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from stemwright.eval.bss_eval.projection import Doubles
from stemwright.eval.measures.contract import Metric, ScoreOptions, Track
from stemwright.eval.measures.reading import pair_blocks
from stemwright.eval.rows import StemScores
from stemwright.eval.signal_metrics import LogMelSums, SpectralDistance, SpectralSums

_MRSTFT, _LOGMEL = "MR-STFT", "LogMel"


def _score(track: Track, metrics: tuple[Metric, ...], options: ScoreOptions) -> dict[str, StemScores]:
    columns = [metric.columns[0] for metric in metrics]
    stems = [_Stem(columns, track.pairs.sample_rate) for _ in track.pairs.names]
    with ThreadPoolExecutor(options.threads) as executor:
        for references, estimates in pair_blocks(track):
            list(executor.map(_Stem.add, stems, references, estimates))
    return {name: stem.scores() for name, stem in zip(track.pairs.names, stems, strict=True)}


class _Stem:
    """The sums of a stem's distances."""

    def __init__(self, columns: Sequence[str], sample_rate: int) -> None:
        self._sums: dict[str, SpectralSums | LogMelSums] = {}
        for column in columns:
            mrstft = column == _MRSTFT
            self._sums[column] = (
                SpectralSums(SpectralDistance(), sample_rate) if mrstft else LogMelSums(sample_rate)
            )
        self._sounds = False

    def add(self, reference: Doubles, estimate: Doubles) -> None:
        """Take the next samples, shape=(channels, n)."""
        self._sounds |= bool(reference.any())
        for sums in self._sums.values():
            sums.add(reference, estimate)

    def scores(self) -> StemScores:
        """Return the mean over the channels, where the reference sounds."""
        values = {column: float(sums.finish().mean()) for column, sums in self._sums.items()}
        if self._sounds:
            return StemScores(values=values)
        return StemScores(
            values=dict.fromkeys(values, float("nan")),
            notes=(f"{', '.join(values)}: the reference is silent",),
        )


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
