"""BSS Eval version 3, sources: any filter of 512 taps between reference and estimate is forgiven.

With the projections P_j and P of an estimate e on one reference and on all of them,

    SDR = |P_j|^2 / |e - P_j|^2     SIR = |P_j|^2 / |P - P_j|^2     SAR = |P|^2 / |e - P|^2

in dB. The filters are found anew for every signal that is given: a whole recording, or one window. A source
may have several channels, each of which is projected on all channels of the references, and whose energies
add up; of mono sources these are mir_eval's scores, of others museval's. A recording is read twice, in
blocks: for its correlations, and to filter it.

References
----------
E. Vincent, R. Gribonval, C. Févotte, "Performance measurement in blind audio source separation",
IEEE TASLP 14(4), 2006; mir_eval 0.8.2, `separation.bss_eval_sources`; museval 0.4.1, `bss_eval_sources`.
C.-L. Hsu, J.-S. R. Jang, "On the improvement of singing voice separation for monaural recordings",
IEEE TASLP 18(2), 2010 (NSDR and its mean weighted by length).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.optimize

from stemwright.core.errors import InputError
from stemwright.eval.bss_eval.images import decibels
from stemwright.eval.bss_eval.projection import EXACT, Complexes, Correlations, Doubles, Loading

TAPS = 512
_BLOCK = 1 << 16

Reader = Callable[[], Iterator[tuple[Doubles, Doubles]]]
"""Reads references, shape=(J, C, n), and estimates, shape=(M, C, n), from the start."""


@dataclass(frozen=True, kw_only=True)
class SourceScores:
    """Scores in dB of each reference's estimate, shape=(J,); NaN where something is silent.

    `permutation[j]` is the estimate that reference j was given.
    """

    sdr: Doubles
    sir: Doubles
    sar: Doubles
    permutation: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CrossScores:
    """Scores in dB of estimates (columns) against references (rows), shape=(J, M).

    NaN where a pair was not asked for or where one of the two is silent throughout.
    """

    sdr: Doubles
    sir: Doubles
    sar: Doubles


def score_sources(
    references: Doubles,
    estimates: Doubles,
    *,
    permute: bool = True,
    taps: int = TAPS,
    loading: Loading = EXACT,
) -> SourceScores:
    """Score estimates against references, in memory.

    Parameters
    ----------
    references, estimates
        shape=(J, T), or (J, C, T).
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
    if true.shape != found.shape or true.ndim not in (2, 3):
        raise InputError(
            f"references have shape {true.shape}, estimates {found.shape}",
            "give both as (sources, samples) or (sources, channels, samples)",
        )
    if not (np.isfinite(true).all() and np.isfinite(found).all()):
        raise InputError("the audio holds values that are not finite", "write the stems again")
    count, samples = len(true), true.shape[-1]
    if not (_sounds(true).all() and _sounds(found).all()):
        nothing = np.full(count, np.nan)
        return SourceScores(sdr=nothing, sir=nothing, sar=nothing, permutation=tuple(range(count)))
    shape = (count, -1, samples)

    def read() -> Iterator[tuple[Doubles, Doubles]]:
        for start in range(0, samples, _BLOCK):
            span = np.s_[..., start : start + _BLOCK]
            yield true.reshape(shape)[span], found.reshape(shape)[span]

    wanted = np.ones((count, count), bool) if permute else np.eye(count, dtype=bool)
    scores = cross_scores(read, wanted, taps=taps, loading=loading)
    chosen = _best(scores.sir) if permute else np.arange(count)
    place = np.arange(count), chosen
    return SourceScores(
        sdr=scores.sdr[place],
        sir=scores.sir[place],
        sar=scores.sar[place],
        permutation=tuple(int(c) for c in chosen),
    )


def normalised_sdr(voice: Doubles, mixture: Doubles, estimate: Doubles) -> float:
    """NSDR in dB: the estimate's SDR minus the mixture's, both as sources; shapes=(T,)."""
    both = [score_sources(voice[None], other[None], permute=False).sdr[0] for other in (estimate, mixture)]
    return float(both[0] - both[1])


def global_mean(values: Sequence[float], lengths: Sequence[float]) -> float:
    """Mean over clips weighted by their lengths: GNSDR, GSIR, GSAR of NSDR, SIR, SAR.

    Clips without a value do not count; NaN if none has one.
    """
    pairs = [(value, length) for value, length in zip(values, lengths, strict=True) if np.isfinite(value)]
    if not pairs:
        return float("nan")
    kept, weights = zip(*pairs, strict=True)
    return float(np.average(kept, weights=weights))


def cross_scores(
    read: Reader, wanted: np.ndarray, *, taps: int = TAPS, loading: Loading = EXACT
) -> CrossScores:
    """Score estimates against references in two readings.

    A reference that is silent throughout takes no part in the projections.

    Parameters
    ----------
    read
        Starts a reading.
    wanted
        Which estimates to score against which references: bool, shape=(J, M).
    taps, loading
        Of the filters.
    """
    scores = CrossScores(**{name: np.full(wanted.shape, np.nan) for name in ("sdr", "sir", "sar")})
    survey = _survey(read, taps)
    kept = np.flatnonzero(survey.references)
    places = [(j, m) for j, m in np.argwhere(wanted) if survey.references[j] and survey.estimates[m]]
    if not places:
        return scores
    energies = _project(read, survey, kept, places, loading)
    for (j, m), (own, rest, interference, every, artefacts) in zip(places, energies, strict=True):
        scores.sdr[j, m] = decibels(own, rest)
        scores.sir[j, m] = decibels(own, interference)
        scores.sar[j, m] = decibels(every, artefacts)
    return scores


@dataclass
class _Survey:
    """What the first reading finds: correlations, and what sounds at all, shapes=(J,) and (M,)."""

    correlations: Correlations
    channels: int
    references: np.ndarray
    estimates: np.ndarray


def _survey(read: Reader, taps: int) -> _Survey:
    survey: _Survey | None = None
    for true, found in read():
        channels = true.shape[1]
        rows, targets = true.reshape(-1, true.shape[-1]), found.reshape(-1, found.shape[-1])
        if survey is None:
            correlations = Correlations(len(rows), len(targets), taps)
            survey = _Survey(correlations, channels, np.zeros(len(true), bool), np.zeros(len(found), bool))
        survey.correlations.add(rows, targets)
        survey.references |= _sounds(true)
        survey.estimates |= _sounds(found)
    if survey is None:
        raise InputError("the audio has no samples", "check the files")
    return survey


def _project(
    read: Reader, survey: _Survey, kept: np.ndarray, places: list[tuple[int, int]], loading: Loading
) -> Doubles:
    """Energies of P_j, e - P_j, P - P_j, P and e - P, shape=(len(places), 5)."""
    channels, taps = survey.channels, survey.correlations.taps
    heard = sorted({m for _, m in places})
    rows = [j * channels + c for j in kept for c in range(channels)]
    targets = [m * channels + c for m in heard for c in range(channels)]
    on_all = survey.correlations.filters(rows, targets, loading)
    on_own = {}
    for j in sorted({j for j, _ in places}):
        mine = [m for k, m in places if k == j]
        spans = [m * channels + c for m in mine for c in range(channels)]
        filters = survey.correlations.filters(
            [j * channels + c for c in range(channels)], spans, loading
        ).reshape(channels, len(mine), channels, taps)
        on_own.update({(j, m): filters[:, index] for index, m in enumerate(mine)})
    energies = np.zeros((len(places), 5))
    convolver: _Convolver | None = None
    for true, found in _with_tail(read(), taps - 1):
        convolver = convolver or _Convolver(len(rows), taps, true.shape[-1])
        spectra = convolver.spectra(true.reshape(-1, true.shape[-1])[rows])
        every = convolver.filtered(spectra, on_all, true.shape[-1]).reshape(len(heard), channels, -1)
        for index, (j, m) in enumerate(places):
            first = int(np.searchsorted(kept, j)) * channels
            own = convolver.filtered(spectra[first : first + channels], on_own[j, m], true.shape[-1])
            all_of_it = every[heard.index(m)]
            parts = (own, found[m] - own, all_of_it - own, all_of_it, found[m] - all_of_it)
            energies[index] += [np.square(part).sum() for part in parts]
    return energies


class _Convolver:
    """Filters signals that arrive in blocks of at most `size` samples: overlap-save."""

    def __init__(self, rows: int, taps: int, size: int) -> None:
        self._taps, self._size = taps, scipy.fft.next_fast_len(size + taps - 1, real=True)
        self._past = np.zeros((rows, taps - 1))
        self._known: dict[int, Complexes] = {}

    def spectra(self, block: Doubles) -> Complexes:
        """Take the next block, shape=(rows, n); return the spectra that `filtered` needs."""
        late = np.concatenate([self._past, block], axis=1)
        self._past = late[:, late.shape[1] - (self._taps - 1) :]
        return np.asarray(scipy.fft.rfft(late, self._size))

    def filtered(self, spectra: Complexes, filters: Doubles, count: int) -> Doubles:
        """Sum of the filtered rows, shape=(targets, count); filters have shape (rows, targets, L)."""
        if id(filters) not in self._known:
            self._known[id(filters)] = np.asarray(scipy.fft.rfft(filters, self._size))
        mixed = np.einsum("rf,rtf->tf", spectra, self._known[id(filters)])
        return np.asarray(scipy.fft.irfft(mixed, self._size)[:, self._taps - 1 : self._taps - 1 + count])


def _with_tail(reading: Iterator[tuple[Doubles, Doubles]], count: int) -> Iterator[tuple[Doubles, Doubles]]:
    """Add `count` zeros, in blocks no longer than those before."""
    size, shapes = 0, ((0, 0), (0, 0))
    for true, found in reading:
        size = max(size, true.shape[-1])
        shapes = true.shape[:2], found.shape[:2]
        yield true, found
    for start in range(0, count, size):
        length = min(size, count - start)
        yield np.zeros((*shapes[0], length)), np.zeros((*shapes[1], length))


def _sounds(signals: Doubles) -> np.ndarray:
    """Tell which sources have a value that is not zero, shape=(J,)."""
    return np.asarray(signals.any(axis=tuple(range(1, signals.ndim))))


def _best(sir: Doubles) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    if len(sir) == 1:
        return np.zeros(1, np.intp)
    usable = np.nan_to_num(sir, nan=-1e6, posinf=1e6, neginf=-1e6)
    _, columns = scipy.optimize.linear_sum_assignment(-usable)
    chosen: np.ndarray[tuple[int], np.dtype[np.intp]] = columns
    return chosen
