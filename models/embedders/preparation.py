"""What is done to a sound before an embedder hears it, and how it is cut into windows: all of it is data.

References
----------
fadtk (2025) as the study of embedding metrics uses it: mean of channels, resampling by
`torchaudio.transforms.Resample`, a 16-bit file, its integers divided by 32768.
"""

from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.sinc_resample import sinc_resampled
from stemwright.core.errors import InputError
from stemwright.models.manifest import EmbedderWindows, Preparation

_CLAP_SCALE = np.float32(32767.0)
_LEAST_VARIANCE = np.float32(1e-7)


def mono_of(samples: FloatArray) -> FloatArray:
    """Return the mean of the channels: shape=(channels, n) -> (n,), float32.

    Raises
    ------
    ValueError
        Another shape, or no samples.
    InputError
        A sample is not finite.
    """
    if samples.ndim != 2 or 0 in samples.shape:
        raise ValueError(f"samples have shape {samples.shape}, expected (channels, n), both at least 1")
    mono: FloatArray = samples.mean(axis=0, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise InputError(
            "the sound has samples that are not finite", "write it again without NaN and infinity"
        )
    return mono


def prepared(mono: FloatArray, in_rate: int, rate: int, steps: Preparation) -> FloatArray:
    """Bring a sound to what an embedder's windows are cut out of.

    Parameters
    ----------
    mono
        float32, shape=(n,), n >= 1.
    in_rate, rate
        Rate of the sound and of the embedder, in Hz.
    steps
        See `Preparation`.

    Returns
    -------
    FloatArray
        float32, shape=(m,).
    """
    sound = sinc_resampled(mono, in_rate, rate, steps.resampling)
    if steps.pcm16 != "none":
        sound = through_pcm16(sound, down=steps.pcm16 == "down")
    if steps.max_samples is not None:
        sound = sound[: steps.max_samples]
    if steps.second_pcm16 != "none":
        sound = np.trunc(np.clip(sound, -1, 1) * _CLAP_SCALE) / _CLAP_SCALE
    if len(sound) < steps.min_samples:
        sound = np.pad(sound, (0, steps.min_samples - len(sound)))
    if steps.normalise != "none":
        sound = (sound - np.mean(sound)) / np.sqrt(np.var(sound) + _LEAST_VARIANCE)
    return np.asarray(sound * np.float32(steps.scale), np.float32)


def through_pcm16(sound: FloatArray, *, down: bool) -> FloatArray:
    """Pass samples through 16 bits.

    Parameters
    ----------
    sound
        float32, any shape; what is outside -1..1 is clipped.
    down
        Cut off, as libsndfile does when it clips (the low 16 of 32 bits are dropped), instead of rounding.
    """
    if down:  # libsndfile rounds to 32 bits first
        integers = np.floor(np.rint(sound.astype(np.float64) * 2.0**31) / 2.0**16)
    else:
        integers = np.rint(sound.astype(np.float64) * 2.0**15)
    return np.asarray(np.clip(integers, -32768, 32767) / 32768.0, np.float32)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a sound that is one call: from sample `start` on, `samples` long, zeros behind the end."""

    start: int
    samples: int


def windows_of(length: int, rule: EmbedderWindows) -> tuple[Window, ...]:
    """Cut a sound of `length` samples into windows, perhaps into none."""
    full = length if rule.samples is None else rule.samples
    hop = full if rule.hop is None else rule.hop
    made = []
    for start in range(0, length, hop):
        samples = min(full, length - start)
        if samples < full and rule.tail == "dropped":
            break
        if samples < full and rule.tail == "zeros":
            samples = full
        elif samples < full or rule.samples is None:
            count = (samples - rule.rest) // rule.multiple
            samples = count * rule.multiple + rule.rest
            if count < 1:
                break
        made.append(Window(start=start, samples=samples))
    return tuple(made)
