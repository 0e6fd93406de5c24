"""Changing tempo, pitch and speed, with numpy and scipy alone: data is mixed where no audio library is.

References
----------
W. Verhelst, M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality
time-scale modification of speech", ICASSP 1993.
"""

from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import firwin, resample_poly

from stemwright.core.arrays import FloatArray

# Of SoundTouch at its default tempo: the piece that is copied, its blended ends, how far is searched.
_PIECE_S, _BLEND_S, _SEARCH_S = 0.082, 0.008, 0.015
_VOICE_PIECE_S = 0.040
_LARGEST_FACTOR = 256


def stretched(samples: FloatArray, factor: float, sample_rate: int, *, voice: bool = False) -> FloatArray:
    """Change the duration and not the pitch.

    Parameters
    ----------
    samples
        shape=(channels, n).
    factor
        Of the duration, such as 1.1 for 10 % longer.
    sample_rate
        In Hz.
    voice
        Shorter pieces, which suit a single voice.

    Returns
    -------
    FloatArray
        shape=(channels, round(n * factor)).
    """
    wanted = round(samples.shape[1] * factor)
    if factor == 1 or wanted == 0:
        return samples[:, :wanted]
    piece = round((_VOICE_PIECE_S if voice else _PIECE_S) * sample_rate)
    blend, search = max(1, round(_BLEND_S * sample_rate)), round(_SEARCH_S * sample_rate)
    step = max(1, piece - blend)
    padded = np.pad(samples, ((0, 0), (0, piece + 2 * search + blend)))
    guide = padded.astype(np.float64)
    out = np.zeros((samples.shape[0], wanted + piece + blend), np.float32)
    rising = (np.arange(blend, dtype=np.float32) + 0.5) / blend
    source = 0
    for target in range(0, wanted, step):
        if target > 0:
            ideal = min(round(target / factor), samples.shape[1])
            source = _most_alike(guide, source + step, ideal, blend, search)
        chunk = padded[:, source : source + step + blend].copy()
        if target > 0:
            chunk[:, :blend] *= rising
        out[:, target : target + step] += chunk[:, :step]
        out[:, target + step : target + step + blend] = chunk[:, step:] * rising[::-1]
    return out[:, :wanted]


def _most_alike(guide: npt.NDArray[np.float64], natural: int, ideal: int, blend: int, search: int) -> int:
    """Return the place around `ideal` that sounds, in all channels, most like what would go on naturally."""
    template = guide[:, natural : natural + blend]
    first = max(0, ideal - search)
    window = guide[:, first : ideal + search + blend]
    if template.shape[1] < blend or window.shape[1] < blend:
        last: int = guide.shape[1] - blend
        return min(ideal, last)
    products = sum(np.correlate(*pair, mode="valid") for pair in zip(window, template, strict=True))
    energies = np.cumsum(np.concatenate([[0.0], np.square(window).sum(axis=0)]))
    powers = np.maximum(energies[blend:] - energies[:-blend], 1e-12)
    best: int = np.argmax(products / np.sqrt(powers)).item()
    return first + best


def resampled_by(samples: FloatArray, factor: float) -> FloatArray:
    """Change speed, and with it the pitch: `factor` 1.1 plays 10 % faster.

    Parameters
    ----------
    samples
        shape=(channels, n).
    factor
        0.5..2; it is met to within 0.01 % by a fraction of small numbers.

    Returns
    -------
    FloatArray
        shape=(channels, about n / factor).
    """
    ratio = Fraction(factor).limit_denominator(_LARGEST_FACTOR)
    if ratio == 1:
        return samples
    down, up = ratio.numerator, ratio.denominator
    out: FloatArray = resample_poly(samples, up, down, axis=1, window=_low_pass(max(up, down))).astype(
        np.float32
    )
    return out


@lru_cache(maxsize=64)
def _low_pass(larger: int) -> npt.NDArray[np.float32]:
    """Return a filter for resampling by a fraction whose larger part this is."""
    taps: npt.NDArray[np.float32] = firwin(2 * 16 * larger + 1, 0.95 / larger, window=("kaiser", 8.0)).astype(
        np.float32
    )
    return taps


def repitched(
    samples: FloatArray, *, semitones: float, tempo: float, sample_rate: int, voice: bool = False
) -> FloatArray:
    """Change pitch and tempo, each by itself.

    Parameters
    ----------
    samples
        shape=(channels, n).
    semitones
        Up if positive.
    tempo
        Factor: 1.1 is 10 % faster.
    sample_rate
        In Hz.
    voice
        As for `stretched`.

    Returns
    -------
    FloatArray
        shape=(channels, round(n / tempo)).
    """
    wanted = round(samples.shape[1] / tempo)
    ratio = 2.0 ** (semitones / 12)
    longer = stretched(samples, ratio / tempo, sample_rate, voice=voice)
    out = resampled_by(longer, ratio) if semitones else longer
    return np.pad(out[:, :wanted], ((0, 0), (0, max(0, wanted - out.shape[1]))))
