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

Doubles = npt.NDArray[np.float64]
_MDX_FLOOR = 1e-7
_POWER_FLOOR = 1e-8


def sdr(reference: Doubles, estimate: Doubles) -> float:
    """Whole-song SDR of the Music Demixing Challenge in dB, channels and time together."""
    true, found = _pair(reference, estimate)
    signal, noise = np.square(true).sum(), np.square(true - found).sum()
    return float(10 * np.log10((signal + _MDX_FLOOR) / (noise + _MDX_FLOOR)))


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
        true, found = _pair(reference, estimate)
        if self.weighting == "a":
            taps = _a_weighting(sample_rate)
            true, found = (
                scipy.signal.fftconvolve(x, taps[None], mode="same", axes=1) for x in (true, found)
            )
        terms = [_resolution(y, x, n_fft) for y, x in zip(true, found, strict=True) for n_fft in self.n_ffts]
        return float(np.mean(terms))


def log_mel_distance(
    reference: Doubles, estimate: Doubles, sample_rate: int, *, n_fft: int = 2048, bands: int = 128
) -> float:
    """Mean difference of log-mel magnitudes in dB: Slaney mel bands over the whole range, hop a quarter."""
    import librosa

    true, found = _pair(reference, estimate)
    filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=bands)
    levels = [20 * np.log10(np.maximum(filters @ _magnitudes(x, n_fft), 1e-5)) for x in (*true, *found)]
    half = len(levels) // 2
    return float(np.mean([np.abs(levels[i] - levels[half + i]).mean() for i in range(half)]))


def _pair(reference: Doubles, estimate: Doubles) -> tuple[Doubles, Doubles]:
    true, found = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    if true.shape != found.shape or true.ndim != 2 or not true.size:
        raise InputError(
            f"the reference has shape {true.shape}, the estimate {found.shape}",
            "give both as (channels, samples)",
        )
    return true, found


def _resolution(true: Doubles, found: Doubles, n_fft: int) -> float:
    y, x = _magnitudes(true, n_fft), _magnitudes(found, n_fft)
    convergence = np.linalg.norm(y - x) / np.linalg.norm(y)
    return float(convergence + np.abs(np.log(x) - np.log(y)).mean())


def _magnitudes(signal: Doubles, n_fft: int) -> Doubles:
    """Magnitudes of a channel, centred frames with reflect padding, floored; shape=(bins, frames)."""
    if len(signal) <= n_fft // 2:
        raise InputError(
            f"{len(signal)} samples are too short for a transform of {n_fft}", "score longer excerpts"
        )
    padded = np.pad(signal, n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[:: n_fft // 4]
    window = scipy.signal.get_window("hann", n_fft)
    spectra = scipy.fft.rfft(frames * window, axis=1)
    power = np.square(spectra.real) + np.square(spectra.imag)
    return np.asarray(np.sqrt(np.maximum(power, _POWER_FLOOR)).T)


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
