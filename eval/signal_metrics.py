"""Scores of one estimate against its reference that need no filters: SDR, SI-SDR, spectral distances.

Signals are float arrays, shape=(channels, samples), of equal shape.

References
----------
Y. Mitsufuji et al., "Music Demixing Challenge 2021", Frontiers in Signal Processing 2022 (whole-song SDR).
J. Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019 (SI-SDR).
R. Yamamoto et al., "Parallel WaveGAN", ICASSP 2020; C. Steinmetz, J. Reiss, auraloss 0.4.0 (distances
over several resolutions).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from stemwright.core.errors import InputError
from stemwright.eval.framing import CentredFrames

Doubles = npt.NDArray[np.float64]
MDX_FLOOR = 1e-7
"""Added to both energies of the whole-song SDR."""
_POWER_FLOOR = 1e-8
_MEL_FLOOR = 1e-5


def sdr(reference: Doubles, estimate: Doubles) -> float:
    """Whole-song SDR of the Music Demixing Challenge in dB, channels and time together."""
    true, found = _pair(reference, estimate)
    signal, noise = np.square(true).sum(), np.square(true - found).sum()
    return float(10 * np.log10((signal + MDX_FLOOR) / (noise + MDX_FLOOR)))


def si_sdr(reference: Doubles, estimate: Doubles, *, means: Literal["kept", "removed"] = "kept") -> float:
    """Scale-invariant SDR in dB: the mean over the channels of each one's own.

    Parameters
    ----------
    reference, estimate
        The signals.
    means
        `kept`: as they are (torchmetrics' default, the generative-separation paper); `removed`: both
        signals' means are subtracted first (Conv-TasNet's training, asteroid).

    Returns
    -------
    float
        +inf for an estimate that is the reference times a factor, NaN if either is silent.
    """
    true, found = _pair(reference, estimate)
    if means == "removed":
        true, found = true - true.mean(axis=1, keepdims=True), found - found.mean(axis=1, keepdims=True)
    power = np.square(true).sum(axis=1)
    if not power.all() or not found.any(axis=1).all():
        return float("nan")
    target = ((true * found).sum(axis=1) / power)[:, None] * true
    signal, noise = np.square(target).sum(axis=1), np.square(target - found).sum(axis=1)
    with np.errstate(divide="ignore"):  # no noise is +inf, nothing of the target is -inf
        return float(np.mean(10 * np.log10(signal) - 10 * np.log10(noise)))


@dataclass(frozen=True, kw_only=True)
class SpectralDistance:
    """Multi-resolution STFT distance; the defaults are those of the generative-separation paper.

    Parameters
    ----------
    n_ffts
        Lengths of the transforms, and of their Hann windows; the hop is a quarter.
    weighting
        `a`: both signals pass an A-weighting filter first; `none`.
    """

    n_ffts: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    weighting: Literal["a", "none"] = "a"

    def __call__(self, reference: Doubles, estimate: Doubles, sample_rate: int) -> float:
        """Return the mean over the channels; 0 for equal signals. The two are not interchangeable.

        Per resolution: the Frobenius norm of the magnitudes' difference over that of the reference's,
        plus the mean difference of their natural logarithms.
        """
        sums = SpectralSums(self, sample_rate)
        sums.add(*_pair(reference, estimate))
        return float(sums.finish().mean())


class SpectralSums:
    """The sums that a SpectralDistance is made of, over signals that arrive in blocks.

    Parameters
    ----------
    distance
        What is computed.
    sample_rate
        In Hz.
    """

    def __init__(self, distance: SpectralDistance, sample_rate: int) -> None:
        self._weighting = _Weighting(sample_rate) if distance.weighting == "a" else None
        self._resolutions = [_Resolution(n_fft) for n_fft in distance.n_ffts]

    def add(self, references: Doubles, estimates: Doubles) -> None:
        """Take the next samples of both, shape=(..., n)."""
        self._take(
            self._weighting.push(references, estimates) if self._weighting else (references, estimates)
        )

    def finish(self) -> Doubles:
        """Return the distance of each signal, shape=(...)."""
        if self._weighting:
            self._take(self._weighting.finish())
        return np.asarray(np.mean([resolution.finish() for resolution in self._resolutions], axis=0))

    def _take(self, both: tuple[Doubles, Doubles]) -> None:
        for resolution in self._resolutions:
            resolution.add(*both)


class LogMelSums:
    """The sums that the log-mel distance is made of, over signals that arrive in blocks.

    Parameters
    ----------
    sample_rate
        In Hz.
    n_fft, bands
        Of the transform, whose hop is a quarter, and of the Slaney mel filters over the whole range.
    """

    def __init__(self, sample_rate: int, *, n_fft: int = 2048, bands: int = 128) -> None:
        import librosa

        self._filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=bands).T.astype(np.float64)
        self._frames = _PairFrames(n_fft)
        self._sum: Doubles | float = 0.0
        self._count = 0

    def add(self, references: Doubles, estimates: Doubles) -> None:
        """Take the next samples of both, shape=(..., n)."""
        self._take(self._frames.push(references, estimates))

    def finish(self) -> Doubles:
        """Return the distance of each signal in dB, shape=(...)."""
        self._take(self._frames.finish())
        return np.asarray(self._sum / self._count)

    def _take(self, both: tuple[Doubles, Doubles]) -> None:
        y, x = (20 * np.log10(np.maximum(part @ self._filters, _MEL_FLOOR)) for part in both)
        self._sum = self._sum + np.abs(x - y).sum(axis=(-2, -1))
        self._count += y.shape[-2] * y.shape[-1]


def log_mel_distance(reference: Doubles, estimate: Doubles, sample_rate: int) -> float:
    """Mean difference of log-mel magnitudes in dB; see LogMelSums."""
    sums = LogMelSums(sample_rate)
    sums.add(*_pair(reference, estimate))
    return float(sums.finish().mean())


def _pair(reference: Doubles, estimate: Doubles) -> tuple[Doubles, Doubles]:
    true, found = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    if true.shape != found.shape or true.ndim != 2 or not true.size:
        raise InputError(
            f"the reference has shape {true.shape}, the estimate {found.shape}",
            "give both as (channels, samples)",
        )
    return true, found


class _PairFrames:
    """Magnitudes of two signals' frames, floored."""

    def __init__(self, n_fft: int) -> None:
        self._frames = CentredFrames(n_fft, n_fft // 4)
        self._window = scipy.signal.get_window("hann", n_fft)

    def push(self, references: Doubles, estimates: Doubles) -> tuple[Doubles, Doubles]:
        """Magnitudes of the frames that new samples complete, shapes=(..., frames, bins)."""
        return self._magnitudes(self._frames.push(np.stack([references, estimates])))

    def finish(self) -> tuple[Doubles, Doubles]:
        """Magnitudes of the frames at the end."""
        return self._magnitudes(self._frames.finish())

    def _magnitudes(self, frames: Doubles) -> tuple[Doubles, Doubles]:
        if not frames.shape[-2]:  # scipy transforms nothing of no signals
            none = np.empty((*frames.shape[1:-1], frames.shape[-1] // 2 + 1))
            return none, none
        spectra = scipy.fft.rfft(frames * self._window, axis=-1)
        power = np.square(spectra.real) + np.square(spectra.imag)
        y, x = np.sqrt(np.maximum(power, _POWER_FLOOR))
        return y, x


class _Resolution:
    """Sums of one resolution: squared differences, squared references, absolute logarithms."""

    def __init__(self, n_fft: int) -> None:
        self._frames = _PairFrames(n_fft)
        self._apart: Doubles | float = 0.0
        self._true: Doubles | float = 0.0
        self._logs: Doubles | float = 0.0
        self._count = 0

    def add(self, references: Doubles, estimates: Doubles) -> None:
        self._take(self._frames.push(references, estimates))

    def finish(self) -> Doubles:
        self._take(self._frames.finish())
        return np.asarray(np.sqrt(self._apart / self._true) + self._logs / self._count)

    def _take(self, both: tuple[Doubles, Doubles]) -> None:
        y, x = both
        self._apart = self._apart + np.square(y - x).sum(axis=(-2, -1))
        self._true = self._true + np.square(y).sum(axis=(-2, -1))
        self._logs = self._logs + np.abs(np.log(x / y)).sum(axis=(-2, -1))
        self._count += y.shape[-2] * y.shape[-1]


class _Weighting:
    """A-weighting of two signals, aligned with them; zeros before and after."""

    def __init__(self, sample_rate: int) -> None:
        self._taps = _a_weighting(sample_rate)
        self._half = len(self._taps) // 2
        self._held: Doubles | None = None

    def push(self, references: Doubles, estimates: Doubles) -> tuple[Doubles, Doubles]:
        return self._filter(np.stack([references, estimates]))

    def finish(self) -> tuple[Doubles, Doubles]:
        if self._held is None:
            raise InputError("the audio has no samples", "check the files")
        return self._filter(np.zeros((*self._held.shape[:-1], self._half)))

    def _filter(self, block: Doubles) -> tuple[Doubles, Doubles]:
        if self._held is None:
            self._held = np.zeros((*block.shape[:-1], self._half))
        joined = np.concatenate([self._held, block], axis=-1)
        ready = max(0, joined.shape[-1] - 2 * self._half)
        self._held = joined[..., ready:]
        if not ready:
            empty = joined[..., :0]
            return empty[0], empty[1]
        taps = self._taps.reshape((1,) * (block.ndim - 1) + (-1,))
        y, x = scipy.signal.oaconvolve(joined, taps, mode="valid", axes=-1)
        return y, x


@lru_cache(maxsize=8)
def _a_weighting(sample_rate: int, taps: int = 101) -> Doubles:
    """Linear-phase filter fitted to the A curve of IEC 61672-1, as auraloss fits it."""
    low, mid, high, top = (2 * np.pi * f for f in (20.598997, 107.65265, 737.86223, 12194.217))
    numerator = [top**2 * 10 ** (1.9997 / 20), 0, 0, 0, 0]
    denominator = np.polymul([1, 2 * top, top**2], [1, 2 * low, low**2])
    denominator = np.polymul(np.polymul(denominator, [1, high]), [1, mid])
    digital = scipy.signal.bilinear(numerator, denominator, fs=sample_rate)
    frequencies, response = scipy.signal.freqz(*digital, worN=512, fs=sample_rate)
    return np.asarray(scipy.signal.firls(taps, frequencies, np.abs(response), fs=sample_rate))
