"""BSS Eval version 3, sources: any filter of 512 taps between reference and estimate is forgiven.

With the projections P_j and P of an estimate e on one reference and on all of them,

    SDR = |P_j|^2 / |e - P_j|^2     SIR = |P_j|^2 / |P - P_j|^2     SAR = |P|^2 / |e - P|^2

in dB. The filters are found anew for every signal that is given: a whole file, or one window.

References
----------
E. Vincent, R. Gribonval, C. Févotte, "Performance measurement in blind audio source separation",
IEEE TASLP 14(4), 2006; mir_eval 0.8.2, `separation.bss_eval_sources`.
C.-L. Hsu, J.-S. R. Jang, "On the improvement of singing voice separation for monaural recordings",
IEEE TASLP 18(2), 2010 (NSDR and its mean weighted by length).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.optimize

from stemwright.core.errors import InputError
from stemwright.eval.bss_eval.images import decibels, spectral_energy
from stemwright.eval.bss_eval.projection import EXACT, Correlations, Doubles, Loading

TAPS = 512


@dataclass(frozen=True, kw_only=True)
class SourceScores:
    """Scores in dB of each reference's estimate, shape=(J,); NaN where something is silent.

    `permutation[j]` is the estimate that reference j was given.
    """

    sdr: Doubles
    sir: Doubles
    sar: Doubles
    permutation: tuple[int, ...]


def score_sources(
    references: Doubles,
    estimates: Doubles,
    *,
    permute: bool = True,
    taps: int = TAPS,
    loading: Loading = EXACT,
) -> SourceScores:
    """Score mono estimates against mono references.

    Parameters
    ----------
    references, estimates
        shape=(J, T).
    permute
        Give each reference the estimate with which the mean SIR over all is best; else the one in its
        place.
    taps, loading
        Of the filters.

    Raises
    ------
    InputError
        Other shapes, or values that are not finite.
    """
    true, found = np.asarray(references, np.float64), np.asarray(estimates, np.float64)
    if true.shape != found.shape or true.ndim != 2:
        raise InputError(
            f"references have shape {true.shape}, estimates {found.shape}", "give both as (sources, samples)"
        )
    if not (np.isfinite(true).all() and np.isfinite(found).all()):
        raise InputError("the audio holds values that are not finite", "write the stems again")
    count = len(true)
    if not (true.any(axis=1).all() and found.any(axis=1).all()):
        nothing = np.full(count, np.nan)
        return SourceScores(sdr=nothing, sir=nothing, sar=nothing, permutation=tuple(range(count)))
    sdr, sir, sar = _all_pairs(true, found, taps, loading)
    chosen = _best(sir) if permute else np.arange(count)
    place = np.arange(count), chosen
    return SourceScores(
        sdr=sdr[place], sir=sir[place], sar=sar[place], permutation=tuple(int(c) for c in chosen)
    )


def normalised_sdr(voice: Doubles, mixture: Doubles, estimate: Doubles) -> float:
    """NSDR in dB: the estimate's SDR minus the mixture's, both as sources; shapes=(T,)."""
    both = [score_sources(voice[None], other[None], permute=False).sdr[0] for other in (estimate, mixture)]
    return float(both[0] - both[1])


def global_mean(values: Sequence[float], lengths: Sequence[float]) -> float:
    """Mean over clips weighted by their lengths: GNSDR, GSIR, GSAR of NSDR, SIR, SAR."""
    return float(np.average(values, weights=lengths))


def _all_pairs(
    true: Doubles, found: Doubles, taps: int, loading: Loading
) -> tuple[Doubles, Doubles, Doubles]:
    """SDR, SIR and SAR of every estimate (columns) against every reference (rows)."""
    count, samples = true.shape
    correlations = Correlations(count, taps)
    correlations.add(true, found)
    size = scipy.fft.next_fast_len(samples + taps - 1, real=True)
    spectra, estimated = scipy.fft.rfft(true, size), scipy.fft.rfft(found, size)
    everyone = range(count)
    on_all = np.zeros_like(estimated)
    for row, filters in zip(spectra, correlations.filters(everyone, everyone, loading), strict=True):
        on_all += row * scipy.fft.rfft(filters, size)
    sdr, sir, sar = (np.empty((count, count)) for _ in range(3))
    for j in everyone:
        (filters,) = correlations.filters([j], everyone, loading)
        on_own = spectra[j] * scipy.fft.rfft(filters, size)
        target = spectral_energy(on_own, size)
        sdr[j] = decibels(target, spectral_energy(estimated - on_own, size))
        sir[j] = decibels(target, spectral_energy(on_all - on_own, size))
        sar[j] = decibels(spectral_energy(on_all, size), spectral_energy(estimated - on_all, size))
    return sdr, sir, sar


def _best(sir: Doubles) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    if len(sir) == 1:
        return np.zeros(1, np.intp)
    usable = np.nan_to_num(sir, nan=-1e6, posinf=1e6, neginf=-1e6)
    _, columns = scipy.optimize.linear_sum_assignment(-usable)
    chosen: np.ndarray[tuple[int], np.dtype[np.intp]] = columns
    return chosen
