"""Position codes: constants of transformers that are computed, not stored.

The reference implementation of HTDemucs (Rouard et al., ICASSP 2023) makes them in float32, where
the rounding of a rate in its last place already moves the largest phases by 1e-4. Every step that is
rounded there is therefore rounded to float32 here; each function in between is computed in float64,
so that the codes do not depend on the machine's float32 functions.
"""

import math

import numpy as np

from stemwright.core.arrays import FloatArray

MAX_PERIOD = 10_000.0


def sinusoid_1d(*, length: int, dim: int, max_period: float = MAX_PERIOD) -> FloatArray:
    """Code of a sequence: cosines in the first half of the channels, sines in the second.

    Frequencies are `max_period ** (-i / (dim / 2 - 1))`, so that the slowest one is exactly
    1 / max_period.

    Returns
    -------
    FloatArray, shape=(length, dim)
    """
    half = dim // 2
    exponent = np.arange(half, dtype=np.float32) / np.float32(half - 1)
    period = (max_period ** exponent.astype(np.float64)).astype(np.float32)
    phase = (np.arange(length, dtype=np.float32)[:, None] / period[None, :]).astype(np.float64)
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=1).astype(np.float32)


def sinusoid_2d(*, count: int, dim: int, half: int, max_period: float = MAX_PERIOD) -> FloatArray:
    """One axis' part of the code of a two-dimensional grid; the parts of both axes are added.

    Axis 0 (`half` 0) is coded in the first half of the channels, axis 1 in the second; in each,
    even channels are sines and odd ones cosines of the same phase. The other half is zero.

    Returns
    -------
    FloatArray, shape=(count, dim)
    """
    width = dim // 2
    exponent = np.arange(0, width, 2, dtype=np.float32) * np.float32(-(math.log(max_period) / width))
    rates = np.exp(exponent.astype(np.float64)).astype(np.float32)
    phase = (np.arange(count, dtype=np.float32)[:, None] * rates[None, :]).astype(np.float64)
    code = np.zeros((count, 2, width), np.float32)
    code[:, half, 0::2] = np.sin(phase)
    code[:, half, 1::2] = np.cos(phase)
    return code.reshape(count, dim)
