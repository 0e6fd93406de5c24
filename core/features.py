"""Features of a sound as data: logarithms of bands on a spectrum's bins, as taggers take them.

The bands are triangles whose corners are equally spaced on a mel scale. Two conventions are in use and
differ in more than the formula: TensorFlow's triangles are straight on the mel axis, librosa's on the
axis of Hz. A manifest's `FeatureBands` names one of them; `Features` computes them on the spectrum of its
`Transform`.

References
----------
tensorflow, `tf.signal.linear_to_mel_weight_matrix` (scale `htk`); librosa 0.11, `librosa.filters.mel`
(scale `slaney`).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stemwright.core.arrays import FloatArray
from stemwright.core.transforms import Transform

# Slaney's Auditory Toolbox: linear below 1 kHz with 200/3 Hz a mel, then 27 mels for a factor of 6.4.
_SLANEY_HZ_A_MEL = 200.0 / 3.0
_SLANEY_CORNER_HZ = 1000.0
_SLANEY_CORNER_MEL = _SLANEY_CORNER_HZ / _SLANEY_HZ_A_MEL
_SLANEY_STEP = np.log(6.4) / 27.0
# HTK: mel = 1127 ln(1 + f / 700), the constants of tf.signal.
_HTK_MELS = 1127.0
_HTK_CORNER_HZ = 700.0


class FeatureBands(BaseModel):
    """Bands on a spectrum's bins and what is made of their values, for taggers and embedders.

    bands, low_hz, high_hz
        Triangular bands, their corners equally spaced on the mel scale between two frequencies.
    scale
        `htk`: HTK's mel formula, triangles straight on the mel axis and bin 0 left out (TensorFlow);
        `slaney`: Slaney's formula, triangles straight on the axis of Hz (librosa's default).
    norm
        `none`, or `slaney`: each band divided by half its width in Hz.
    power
        1 for bands of magnitudes, 2 for bands of powers.
    log
        `natural`: ln(value + floor); `db`: 10 log10(max(value, floor)).
    floor
        See `log`.
    value_steps, weight_steps
        For models made with products of 8 bits: each frame's magnitudes or powers are rounded to whole
        multiples of the frame's largest over so many steps, and all weights to those of the largest weight.
        0: as they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    bands: int = Field(ge=1, le=1024)
    low_hz: float = Field(ge=0)
    high_hz: float = Field(gt=0)
    scale: Literal["htk", "slaney"]
    norm: Literal["none", "slaney"] = "none"
    power: Literal[1, 2] = 1
    log: Literal["natural", "db"]
    floor: float = Field(gt=0)
    value_steps: int = Field(default=0, ge=0, le=65_535)
    weight_steps: int = Field(default=0, ge=0, le=65_535)

    @model_validator(mode="after")
    def _ends_in_order(self) -> "FeatureBands":
        if self.low_hz >= self.high_hz:
            raise ValueError("low_hz must lie below high_hz")
        return self

    def matrix(self, *, n_fft: int, bins: int, sample_rate: int) -> FloatArray:
        """Compute the weight of each bin in each band.

        Parameters
        ----------
        n_fft, bins
            Length of the Fourier transform, and how many of its lowest bins there are.
        sample_rate
            In Hz.

        Returns
        -------
        FloatArray
            float32, shape=(bands, bins), read-only.
        """
        return _matrix(self, n_fft, bins, sample_rate)


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a tagger takes: logarithms of bands of a spectrum.

    Parameters
    ----------
    transform
        The spectrum. Without padding, the first frame's *window* (not its n_fft samples) starts at the
        first sample and the last one's ends with the last sample or before.
    bands
        The bands.
    sample_rate
        Of the waveform, in Hz.
    """

    transform: Transform
    bands: FeatureBands
    sample_rate: int

    def frames(self, samples: int) -> int:
        """Count the frames of `samples` samples; raises ValueError if they are too few for one."""
        return self.transform.frames(samples + sum(self._margins))

    def samples(self, frames: int) -> int:
        """Return the fewest samples that give so many frames, at least one."""
        hop = self.transform.hop
        if self.transform.padding == "none":
            return self.transform.window_span + (frames - 1) * hop
        # Reflections need more samples than they are long.
        return max((frames - 1) * hop, self.transform.n_fft // 2 + 1)

    def compute(self, waveform: FloatArray) -> FloatArray:
        """Compute the features of a waveform.

        Parameters
        ----------
        waveform
            float32, shape=(..., samples), range -1..1.

        Returns
        -------
        FloatArray
            float32, shape=(..., frames, bands).

        Raises
        ------
        ValueError
            The waveform is too short for one frame.
        """
        if any(self._margins):
            waveform = np.pad(waveform, [(0, 0)] * (waveform.ndim - 1) + [self._margins])
        spectrum = self.transform.forward(waveform)
        values = np.square(spectrum.real) + np.square(spectrum.imag)
        if self.bands.power == 1:
            np.sqrt(values, out=values)
        if self.bands.value_steps:
            values = _in_steps(values, self.bands.value_steps, axis=-2)
        weights = self.bands.matrix(
            n_fft=self.transform.n_fft, bins=self.transform.bins, sample_rate=self.sample_rate
        )
        banded = np.moveaxis(values, -1, -2) @ weights.T
        floor = np.float32(self.bands.floor)
        if self.bands.log == "natural":
            return np.asarray(np.log(banded + floor), np.float32)
        return np.asarray(10.0 * np.log10(np.maximum(banded, floor)), np.float32)

    @property
    def _margins(self) -> tuple[int, int]:
        """Zeros at either end that put the first window onto the first sample."""
        transform = self.transform
        if transform.padding != "none":
            return 0, 0
        left = transform.window_offset
        return left, transform.n_fft - transform.window_span - left


def _hz_to_mel(hz: NDArray[np.float64], scale: Literal["htk", "slaney"]) -> NDArray[np.float64]:
    if scale == "htk":
        return _HTK_MELS * np.log1p(hz / _HTK_CORNER_HZ)
    high = _SLANEY_CORNER_MEL + np.log(np.maximum(hz, 1e-10) / _SLANEY_CORNER_HZ) / _SLANEY_STEP
    return np.where(hz >= _SLANEY_CORNER_HZ, high, hz / _SLANEY_HZ_A_MEL)


def _mel_to_hz(mel: NDArray[np.float64], scale: Literal["htk", "slaney"]) -> NDArray[np.float64]:
    if scale == "htk":
        return _HTK_CORNER_HZ * np.expm1(mel / _HTK_MELS)
    high = _SLANEY_CORNER_HZ * np.exp(_SLANEY_STEP * (mel - _SLANEY_CORNER_MEL))
    return np.where(mel >= _SLANEY_CORNER_MEL, high, mel * _SLANEY_HZ_A_MEL)


@lru_cache(maxsize=16)
def _matrix(bands: FeatureBands, n_fft: int, bins: int, sample_rate: int) -> FloatArray:
    ends = _hz_to_mel(np.asarray([bands.low_hz, bands.high_hz]), bands.scale)
    corners = np.linspace(ends[0], ends[1], bands.bands + 2, dtype=np.float64)
    corners_hz = _mel_to_hz(corners, bands.scale)
    places = np.arange(bins, dtype=np.float64) * (sample_rate / n_fft)
    if bands.scale == "htk":
        places = _hz_to_mel(places, "htk")
    else:
        corners = corners_hz
    rise = (places - corners[:-2, None]) / np.diff(corners)[:-1, None]
    fall = (corners[2:, None] - places) / np.diff(corners)[1:, None]
    weights = np.maximum(0.0, np.minimum(rise, fall))
    if bands.scale == "htk":
        weights[:, 0] = 0.0
    if bands.norm == "slaney":
        weights *= 2.0 / (corners_hz[2:] - corners_hz[:-2])[:, None]
    made: FloatArray = weights.astype(np.float32)
    if bands.weight_steps:
        made = _in_steps(made, bands.weight_steps, axis=None)
    made.flags.writeable = False
    return made


def _in_steps(values: FloatArray, steps: int, axis: int | None) -> FloatArray:
    """Round values that are nowhere negative to multiples of the largest along an axis over `steps`."""
    step = values.max(axis=axis, keepdims=True) / np.float32(steps)
    step = np.maximum(step, np.finfo(np.float32).tiny)  # silence stays silence
    return np.asarray(np.rint(values / step) * step, np.float32)
