"""SDR of whole songs and SI-SDR, and what either gains over the mixture, in two readings of the track.

All are ratios of energies over the whole track. The first reading finds inner products, which give the
scale of SI-SDR; the second the energy of what is left, which a difference of the first's sums would give
with too few digits where an estimate is very good.

Definitions and references: stemwright.eval.signal_metrics.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stemwright.eval.bss_eval.images import decibels
from stemwright.eval.bss_eval.projection import Doubles
from stemwright.eval.measures.contract import Metric, ScoreOptions, Track
from stemwright.eval.measures.reading import mixed_blocks, pair_blocks
from stemwright.eval.rows import StemScores
from stemwright.eval.signal_metrics import MDX_FLOOR


def _score(track: Track, metrics: tuple[Metric, ...], options: ScoreOptions) -> dict[str, StemScores]:
    columns = tuple(metric.columns[0] for metric in metrics)
    mixed = any("mixture" in metric.needs for metric in metrics)
    energies = _energies(track, mixed)
    sdr, kept, removed = energies.song_sdr(), energies.si_sdr("kept"), energies.si_sdr("removed")
    values = {"SDR_song": sdr[0], "SI-SDR": kept[0], "SI-SDR_zero_mean": removed[0]}
    if mixed:
        with np.errstate(invalid="ignore"):  # a mixture that is the stem: infinite minus infinite
            values["SDRi_song"], values["SI-SDRi"] = sdr[0] - sdr[1], kept[0] - kept[1]
    return {
        name: StemScores(
            values={column: float(values[column][index]) for column in columns},
            notes=tuple(
                f"{column}: {_reason(energies, index)}"
                for column in columns
                if np.isnan(values[column][index])
            ),
        )
        for index, name in enumerate(track.pairs.names)
    }


@dataclass
class _Energies:
    """Sums over time of references s and found signals e: estimates, and the mixture for every stem.

    Shapes=(J, C) of what concerns references only, (K, J, C) of all else, K = 1 or 2.
    """

    count: int
    s: Doubles
    ss: Doubles
    e: Doubles
    se: Doubles
    ee: Doubles
    plain: Doubles
    """Energy of e - s."""
    kept: Doubles
    """Energy of e - a s."""
    removed: Doubles
    """Energy of e - a s without their means."""

    @property
    def scale(self) -> Doubles:
        """The factor a = <s, e> / <s, s>."""
        return _ratio(self.se, self.ss)

    @property
    def centred_scale(self) -> Doubles:
        """The same without means."""
        return _ratio(self.se - self.s * self.e / self.count, self.centred_ss)

    @property
    def centred_ss(self) -> Doubles:
        """Energy of the references without their means."""
        return np.maximum(self.ss - np.square(self.s) / self.count, 0)

    def song_sdr(self) -> Doubles:
        """Whole-song SDR, shape=(K, J); NaN where the reference is silent."""
        signal, noise = self.ss.sum(axis=-1), self.plain.sum(axis=-1)
        levels = 10 * np.log10((signal + MDX_FLOOR) / (noise + MDX_FLOOR))
        return np.where(signal > 0, levels, np.nan)

    def si_sdr(self, means: str) -> Doubles:
        """SI-SDR, the mean over the channels, shape=(K, J); NaN where a channel is silent."""
        scale, power, rest = (
            (self.scale, self.ss, self.kept)
            if means == "kept"
            else (self.centred_scale, self.centred_ss, self.removed)
        )
        levels = decibels(np.square(scale) * power, rest)
        sounds = (power > 0) & (self.ee > 0)
        return np.asarray(np.where(sounds, levels, np.nan).mean(axis=-1))


def _energies(track: Track, mixed: bool) -> _Energies:
    sums: _Energies | None = None
    for s, e in _readings(track, mixed):
        if sums is None:
            few, many = np.zeros(s.shape[:2]), np.zeros(e.shape[:3])
            sums = _Energies(0, few, few.copy(), *(many.copy() for _ in range(6)))
        sums.count += s.shape[-1]
        sums.s += s.sum(axis=-1)
        sums.ss += np.square(s).sum(axis=-1)
        sums.e += e.sum(axis=-1)
        sums.se += (s * e).sum(axis=-1)
        sums.ee += np.square(e).sum(axis=-1)
    if sums is None:
        raise AssertionError("pair_blocks yields something or raises")
    kept, removed = sums.scale[..., None], sums.centred_scale[..., None]
    mean_s, mean_e = (total[..., None] / sums.count for total in (sums.s, sums.e))
    for s, e in _readings(track, mixed):
        sums.plain += np.square(e - s).sum(axis=-1)
        sums.kept += np.square(e - kept * s).sum(axis=-1)
        sums.removed += np.square(e - mean_e - removed * (s - mean_s)).sum(axis=-1)
    return sums


def _readings(track: Track, mixed: bool) -> Iterator[tuple[Doubles, Doubles]]:
    """Yield references, shape=(J, C, n), and what was found, shape=(K, J, C, n)."""
    if not mixed:
        for references, estimates in pair_blocks(track):
            yield references, estimates[None]
        return
    for references, estimates, mixture in mixed_blocks(track):
        yield references, np.stack([estimates, np.broadcast_to(mixture, estimates.shape)])


def _ratio(numerator: Doubles, denominator: Doubles) -> Doubles:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _reason(energies: _Energies, index: int) -> str:
    if not energies.ss[index].all():
        return "the reference is silent" if not energies.ss[index].any() else "a channel of it is silent"
    if not energies.ee[0, index].all():
        return "the estimate, or a channel of it, is silent"
    return "the difference of two infinite values, or of values that are not there"


ENERGY_METRICS = (
    Metric(
        name="sdr",
        columns=("SDR_song",),
        better="higher",
        unit="dB",
        meaning="SDR of whole songs, channels and time together (Music Demixing Challenge)",
        engine=_score,
    ),
    Metric(
        name="sdri",
        columns=("SDRi_song",),
        better="higher",
        unit="dB",
        meaning="what sdr gains over the mixture",
        engine=_score,
        needs=frozenset({"mixture"}),
    ),
    Metric(
        name="si-sdr",
        columns=("SI-SDR",),
        better="higher",
        unit="dB",
        meaning="scale-invariant SDR, means kept (torchmetrics' default); the mean over the channels",
        engine=_score,
        options={"means": "kept"},
    ),
    Metric(
        name="si-sdr-zero-mean",
        columns=("SI-SDR_zero_mean",),
        better="higher",
        unit="dB",
        meaning="scale-invariant SDR, means removed (asteroid, Conv-TasNet); the mean over the channels",
        engine=_score,
        options={"means": "removed"},
    ),
    Metric(
        name="si-sdri",
        columns=("SI-SDRi",),
        better="higher",
        unit="dB",
        meaning="what si-sdr gains over the mixture",
        engine=_score,
        needs=frozenset({"mixture"}),
        options={"means": "kept"},
    ),
)
