"""Resampling by a windowed sinc whose parameters are data, as scores need it that were published with one.

`stemwright.core.audio.resample` is the resampler for sound; this one exists because every step before an
embedding shifts the numbers made of it, so that a score is that of its publication only with its resampler.

References
----------
torchaudio.functional.resample, version 2.11, method `sinc_interp_kaiser`: the filter is computed in float64
and rounded to float32, the signal is padded with zeros at both ends, and ceil(n * out / in) samples are kept.
"""

from functools import lru_cache
from math import ceil, gcd

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided
from pydantic import BaseModel, ConfigDict, Field

from stemwright.core.arrays import FloatArray

_PIECE = 1 << 16  # output samples of one phase that are computed at a time: bounds the memory


class KaiserSinc(BaseModel):
    """A sinc with a Kaiser window: the parameters of torchaudio's `sinc_interp_kaiser`.

    lowpass_filter_width
        Zero crossings of the sinc on either side.
    rolloff
        Cut-off frequency, as a share of half the lower of both rates.
    beta
        Shape of the window.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    lowpass_filter_width: int = Field(ge=1, le=1024)
    rolloff: float = Field(gt=0, le=1)
    beta: float = Field(ge=0)


PAPER_SINC = KaiserSinc(lowpass_filter_width=64, rolloff=0.9475937167399596, beta=14.769656459379492)
"""What fadtk (2025) resamples with, and the study of embedding metrics that is built on it."""


def sinc_resampled(samples: FloatArray, in_rate: int, out_rate: int, design: KaiserSinc) -> FloatArray:
    """Resample a signal.

    Parameters
    ----------
    samples
        float32, shape=(n,).
    in_rate, out_rate
        In Hz. Equal rates give the samples back as they are.
    design
        The filter.

    Returns
    -------
    FloatArray
        float32, shape=(ceil(n * out_rate / in_rate),).

    Raises
    ------
    ValueError
        A rate below 1, or samples of another shape.
    """
    if samples.ndim != 1 or min(in_rate, out_rate) < 1:
        raise ValueError(f"samples of shape {samples.shape} from {in_rate} to {out_rate} Hz")
    divisor = gcd(in_rate, out_rate)
    step, phases = in_rate // divisor, out_rate // divisor
    if step == phases:
        return samples
    wanted = ceil(len(samples) * phases / step)
    weights, starts, width = _filter(step, phases, design)
    taps = weights.shape[1]
    blocks = -(-wanted // phases)
    padded = np.zeros((blocks - 1) * step + int(starts.max()) + taps, np.float32)
    kept = min(len(samples), len(padded) - width)
    padded[width : width + kept] = samples[:kept]
    out = np.empty((blocks, phases), np.float32)
    for phase, (row, start) in enumerate(zip(weights, starts, strict=True)):
        for first in range(0, blocks, _PIECE):
            count = min(_PIECE, blocks - first)
            windows = as_strided(
                padded[start + first * step :], (count, taps), (step * 4, 4), writeable=False
            )
            out[first : first + count, phase] = windows @ row
    return out.reshape(-1)[:wanted]


@lru_cache(maxsize=16)
def _filter(step: int, phases: int, design: KaiserSinc) -> tuple[FloatArray, npt.NDArray[np.int64], int]:
    """Compute the filter of each phase, without the zeros around it.

    Returns
    -------
    tuple
        Weights float32, shape=(phases, taps); where each phase's weights begin in its padded block,
        shape=(phases,); zeros before the first sample.
    """
    cutoff = min(step, phases) * design.rolloff
    width = ceil(design.lowpass_filter_width * step / cutoff)
    taps = 2 * width + 1
    starts = np.arange(phases) * step // phases
    # Tap k of a phase lies at sample starts + k - width of its block, in units of the sinc's zero crossings.
    # Phases and beta pass through float32 in torchaudio, whose float64 filter is a little off for that.
    places = (starts[:, None] + np.arange(-width, width + 1)) / step
    offsets = (np.arange(phases) / np.float32(phases)).astype(np.float32).astype(np.float64)
    beta = np.float64(np.float32(design.beta))
    times = (places - offsets[:, None]) * cutoff
    inside = np.abs(times) < design.lowpass_filter_width
    shape = np.sqrt(np.maximum(1.0 - np.square(times / design.lowpass_filter_width), 0.0))
    window = np.i0(beta * shape) / np.float64(np.float32(np.i0(beta)))
    weights = np.where(inside, np.sinc(times) * window, 0.0) * (cutoff / step)
    assert weights.shape == (phases, taps)
    return weights.astype(np.float32), starts, width
