"""BSS Eval version 4: SDR, ISR, SIR and SAR of stereo images, frame by frame, with filters of the track.

Definitions (museval 0.4.1): for source j with reference image s, estimate e, projection P_j of e on
the reference j and P on all references,

    SDR = |s|^2 / |e - s|^2            ISR = |s|^2 / |P_j - s|^2
    SIR = |P_j|^2 / |P - P_j|^2        SAR = |P|^2 / |e - P|^2

in dB, energies over all channels and over the frame with the filters' tails. Each frame's references
are cut first and filtered then. All signals fit into the transform that filters them, so that their
energies are sums over the spectrum (Parseval) and nothing is transformed back.

References
----------
F.-R. Stöter, A. Liutkus, N. Ito, "The 2018 signal separation evaluation campaign", LVA/ICA 2018.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import scipy.fft

from stemwright.core.errors import InputError, OptionError
from stemwright.eval.bss_eval.projection import EXACT, ROBUST, Complexes, Correlations, Doubles, Loading

METRICS = ("SDR", "ISR", "SIR", "SAR")


class Pairs(Protocol):
    """References and their estimates, of equal length, read as often as needed."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the J sources."""

    @property
    def samples(self) -> int:
        """Length T."""

    @property
    def sample_rate(self) -> int:
        """Rate in Hz."""

    def blocks(self, size: int) -> Iterator[tuple[Doubles, Doubles]]:
        """Yield references and estimates from the start, shapes=(J, C, size); the last may be shorter."""


@dataclass(frozen=True)
class ArrayPairs:
    """Pairs in memory, shapes=(J, C, T)."""

    names: tuple[str, ...]
    references: Doubles
    estimates: Doubles
    sample_rate: int

    def __post_init__(self) -> None:
        if self.references.shape != self.estimates.shape or self.references.ndim != 3:
            raise InputError(
                f"references have shape {self.references.shape}, estimates {self.estimates.shape}",
                "give both as (sources, channels, samples)",
            )

    @property
    def samples(self) -> int:
        """Length T."""
        return int(self.references.shape[-1])

    def blocks(self, size: int) -> Iterator[tuple[Doubles, Doubles]]:
        """See Pairs.blocks."""
        for start in range(0, self.samples, size):
            span = np.s_[..., start : start + size]
            yield self.references[span].astype(np.float64), self.estimates[span].astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class ImagesOptions:
    """How images are scored.

    Parameters
    ----------
    window_s, hop_s
        Frames in seconds; a rest shorter than a window is not scored.
    taps
        Length of the filters.
    exact
        Do as museval does: no loading of the diagonal to speak of, and a source that is silent over the
        whole track is an error. Otherwise such a source has no scores, and if it is the reference that is
        silent it takes no part in the projections.
    threads
        Frames scored at a time.
    """

    window_s: float = 1.0
    hop_s: float = 1.0
    taps: int = 512
    exact: bool = False
    threads: int = 2

    @property
    def loading(self) -> Loading:
        """What is added to the diagonal."""
        return EXACT if self.exact else ROBUST


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Scores of every source.

    Parameters
    ----------
    names
        The sources.
    values
        dB, shape=(4, J, frames), in the order of METRICS; NaN in frames where a reference or an estimate
        is silent.
    window_s, hop_s
        Frames.
    reasons
        Why a source has no scores at all, by its name.
    """

    names: tuple[str, ...]
    values: Doubles
    window_s: float
    hop_s: float
    reasons: dict[str, str] = field(default_factory=dict)

    def median(self, metric: str) -> dict[str, float]:
        """Median over the frames that have a value, NaN where none has; infinite values do not count."""
        rows = self.values[METRICS.index(metric)]
        kept = [row[np.isfinite(row)] for row in rows]
        return {
            name: float(np.median(row)) if row.size else float("nan")
            for name, row in zip(self.names, kept, strict=True)
        }


def score_images(pairs: Pairs, options: ImagesOptions | None = None) -> ImageScores:
    """Score estimates against references.

    Raises
    ------
    OptionError
        Frames or filters that make no sense.
    InputError
        Samples that are not finite; with `exact`, a source that is silent throughout.
    """
    options = options or ImagesOptions()
    window, hop = int(options.window_s * pairs.sample_rate), int(options.hop_s * pairs.sample_rate)
    if window < 1 or hop < 1 or options.taps < 1:
        raise OptionError("windows, hops and filters need at least one sample", "use 1 s, 1 s and 512 taps")
    window = min(window, pairs.samples)
    with ThreadPoolExecutor(options.threads) as executor:
        survey = _Survey(pairs, options, executor)
        reasons = survey.reasons(pairs.names)
        if reasons and options.exact:
            names = ", ".join(reasons)
            raise InputError(
                f"silent over the whole track: {names}", "leave the source out, or score without exact"
            )
        scored = [index for index, name in enumerate(pairs.names) if name not in reasons]
        count = (pairs.samples - window + hop) // hop
        values = np.full((len(METRICS), len(pairs.names), count), np.nan)
        if scored:
            scorer = _FrameScorer(survey, scored, window, options)
            frames = _frames(pairs, window, hop, count)
            for index, scores in enumerate(_ordered(executor, scorer.score, frames, options.threads)):
                values[:, scored, index] = scores
    return ImageScores(
        names=pairs.names,
        values=values,
        window_s=window / pairs.sample_rate,
        hop_s=hop / pairs.sample_rate,
        reasons=reasons,
    )


class _Survey:
    """What the first reading finds: correlations of all channels, and which sources sound at all."""

    def __init__(self, pairs: Pairs, options: ImagesOptions, executor: ThreadPoolExecutor) -> None:
        self._pairs, self._taps = pairs, options.taps
        self._references = np.zeros(len(pairs.names), bool)
        self._estimates = np.zeros(len(pairs.names), bool)
        self._correlations: Correlations | None = None
        self.channels = 0
        for products in _ordered(executor, self._products, self._cuts(), options.threads):
            self.correlations.include(products)

    @property
    def correlations(self) -> Correlations:
        """Correlations of all channels."""
        if self._correlations is None:
            raise InputError("the audio has no samples", "check the files")
        return self._correlations

    @property
    def basis(self) -> list[int]:
        """Sources whose references sound, on which estimates are projected."""
        return [int(index) for index in np.flatnonzero(self._references)]

    def reasons(self, names: tuple[str, ...]) -> dict[str, str]:
        """Why sources have no scores."""
        silent = {False: "the reference is silent throughout", True: "the estimate is silent throughout"}
        rows = zip(names, self._references, self._estimates, strict=True)
        return {name: silent[bool(true)] for name, true, found in rows if not (true and found)}

    def _cuts(self) -> Iterator[tuple[Doubles, Doubles]]:
        size = max(self._pairs.sample_rate, self._taps)
        size += -size % Correlations.block_of(self._taps)
        for references, estimates in self._pairs.blocks(size):
            if not (np.isfinite(references).all() and np.isfinite(estimates).all()):
                raise InputError("the audio holds values that are not finite", "write the stems again")
            self.channels = references.shape[1]
            count = len(self._pairs.names) * self.channels
            if self._correlations is None:
                self._correlations = Correlations(count, count, self._taps)
            self._references |= ~_silent(references)
            self._estimates |= ~_silent(estimates)
            yield self._correlations.cut(references.reshape(count, -1), estimates.reshape(count, -1))

    def _products(self, cut: tuple[Doubles, Doubles]) -> Complexes:
        return self.correlations.products(*cut)


def _silent(sources: Doubles) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which sources' channels add up to zero at every sample, as museval does (L = -R is silent)."""
    silent: np.ndarray[tuple[int], np.dtype[np.bool_]] = ~sources.sum(axis=1).any(axis=1)
    return silent


def _frames(pairs: Pairs, window: int, hop: int, count: int) -> Iterator[tuple[Doubles, Doubles]]:
    """Yield windows of both, shapes=(J, C, window)."""
    held: list[Doubles] | None = None
    start = given = 0
    for block in pairs.blocks(max(window, hop)):
        held = (
            list(block)
            if held is None
            else [np.concatenate(two, axis=-1) for two in zip(held, block, strict=True)]
        )
        while given < count and given * hop - start + window <= held[0].shape[-1]:
            first = given * hop - start
            yield held[0][..., first : first + window], held[1][..., first : first + window]
            given += 1
        done = min(max(given * hop - start, 0), held[0].shape[-1])
        held = [part[..., done:] for part in held]
        start += done


Item = TypeVar("Item")
Result = TypeVar("Result")


def _ordered(
    executor: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterator[Item], ahead: int
) -> Iterator[Result]:
    """Map in order with at most `ahead` items in memory beyond the one that is given out."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(executor.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _FrameScorer:
    """Scores frames with the filters of a track.

    Parameters
    ----------
    survey
        The track.
    scored
        Sources whose estimates are scored.
    window
        Samples of a frame.
    options
        Filters and loading.
    """

    def __init__(self, survey: _Survey, scored: list[int], window: int, options: ImagesOptions) -> None:
        channels, correlations = survey.channels, survey.correlations
        self._basis, self._scored = survey.basis, scored
        self._places = [self._basis.index(source) for source in scored]
        self._length = window + options.taps - 1
        self._size = scipy.fft.next_fast_len(self._length, real=True)
        rows, targets = (
            [source * channels + channel for source in sources for channel in range(channels)]
            for sources in (self._basis, scored)
        )
        self._on_all = self._spectra(correlations.filters(rows, targets, options.loading))
        own = []
        for source in scored:
            mine = [source * channels + channel for channel in range(channels)]
            own.append(self._spectra(correlations.filters(mine, mine, options.loading)))
        self._on_own = np.stack(own)

    def score(self, frame: tuple[Doubles, Doubles]) -> Doubles:
        """Scores of a frame, shape=(4, scored sources)."""
        basis, estimates = frame[0][self._basis], frame[1][self._scored]
        scores = np.full((len(METRICS), len(self._scored)), np.nan)
        if _silent(basis).any() or _silent(estimates).any():
            return scores
        everything, estimated = self._spectra(basis), self._spectra(estimates)
        references, spectra = basis[self._places], everything[self._places]
        flat = everything.reshape(-1, everything.shape[-1])
        on_all = np.einsum("rf,rtf->tf", flat, self._on_all).reshape(estimated.shape)
        on_own = np.einsum("jrf,jrtf->jtf", spectra, self._on_own)
        signal = np.square(references).sum(axis=(1, 2))
        noise = np.square(estimates - references).sum(axis=(1, 2))
        scores[0] = decibels(signal, noise)
        scores[1] = decibels(signal, self._energy(on_own - spectra))
        scores[2] = decibels(self._energy(on_own), self._energy(on_all - on_own))
        scores[3] = decibels(self._energy(on_all), self._energy(estimated - on_all))
        return scores

    def _energy(self, spectra: Complexes) -> Doubles:
        return np.asarray(spectral_energy(spectra, self._size).sum(axis=-1))  # over the channels

    def _spectra(self, signals: Doubles) -> Complexes:
        return np.asarray(scipy.fft.rfft(signals, self._size))


def spectral_energy(spectra: Complexes, size: int) -> Doubles:
    """Energy of signals from their half spectra, shape=(..., size // 2 + 1) in, (...) out."""
    power = np.square(spectra.real) + np.square(spectra.imag)
    total = 2 * power.sum(axis=-1) - power[..., 0]
    if size % 2 == 0:
        total -= power[..., -1]
    return np.asarray(total / size)


def decibels(signal: Doubles, noise: Doubles) -> Doubles:
    """10 log10 of the ratio; +inf where there is no noise at all."""
    ratio = np.divide(signal, noise, out=np.full_like(signal, np.inf), where=noise != 0)
    with np.errstate(divide="ignore"):  # no signal at all is -inf
        return np.asarray(10 * np.log10(ratio))
