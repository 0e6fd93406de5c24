"""Least-squares filters from references to estimates, from correlations alone.

An estimate's channel is projected on the references' channels, each delayed by 0..L-1 samples. With
r_ab[k] = sum_t a[t] b[t + k] over the zero-padded track, the Gram matrix of the delayed channels is
block Toeplitz: G[(a, i), (b, j)] = r_ab[i - j]. Correlations are accumulated over blocks, so that
memory does not depend on the length of the track.

References
----------
E. Vincent, R. Gribonval, C. Févotte, "Performance measurement in blind audio source separation",
IEEE TASLP 14(4), 2006; museval 0.4.1, `metrics._compute_reference_correlations` and `_project`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.linalg

Doubles = npt.NDArray[np.float64]

RELATIVE_LOADING = 1e-6
MUSEVAL_LOADING = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What is added to the diagonal of the Gram matrix.

    References without energy in some band (from MP3, say) make it singular.

    kind
        `relative`: `amount` times the mean of the diagonal; `absolute`: `amount` itself.
    """

    kind: Literal["relative", "absolute"]
    amount: float


ROBUST = Loading(kind="relative", amount=RELATIVE_LOADING)
"""Brings SIR and SAR of band-limited references back to what they are (metrics of white ones move by
less than 0.3 dB, and only ISR)."""
EXACT = Loading(kind="absolute", amount=MUSEVAL_LOADING)
"""What museval does: without effect on real audio."""


class Correlations:
    """Correlations among the references' channels, and between those and the estimates' channels.

    Parameters
    ----------
    channels
        Number of all references' channels.
    targets
        Number of all estimates' channels.
    taps
        Length L of the filters.
    """

    def __init__(self, channels: int, targets: int, taps: int) -> None:
        self.channels, self.taps = channels, taps
        self.among = np.zeros((channels, channels, taps))
        """r_ab[k], k = 0..L-1."""
        self.across = np.zeros((channels, targets, taps))
        """sum_t a[t] e[t + k], k = 0..L-1."""
        self._past = np.zeros((channels, taps - 1))

    def add(self, references: Doubles, estimates: Doubles) -> None:
        """Take the next samples, shape=(channels, n)."""
        late = np.concatenate([self._past, references], axis=1)
        size = scipy.fft.next_fast_len(late.shape[1], real=True)
        late_spectra = scipy.fft.rfft(late, size)
        for sums, new in ((self.among, references), (self.across, estimates)):
            new_spectra = np.conj(scipy.fft.rfft(new, size))
            for a, spectrum in enumerate(late_spectra):
                # Entry q is sum_n new[n] late[n + q]: every pair of samples at delay L-1-q, once.
                sums[a] += scipy.fft.irfft(spectrum * new_spectra, size)[:, self.taps - 1 :: -1]
        self._past = late[:, late.shape[1] - (self.taps - 1) :]

    def gram(self, rows: Sequence[int]) -> Doubles:
        """Gram matrix of some channels' delays, shape=(len(rows) * L, len(rows) * L)."""
        taps = self.taps
        matrix = np.empty((len(rows) * taps, len(rows) * taps))
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                block = scipy.linalg.toeplitz(self.among[a, b], self.among[b, a])
                matrix[i * taps : (i + 1) * taps, j * taps : (j + 1) * taps] = block
        return matrix

    def filters(self, rows: Sequence[int], targets: Sequence[int], loading: Loading) -> Doubles:
        """Solve for the filters that project estimates on some references.

        Parameters
        ----------
        rows
            Channels of the references.
        targets
            Channels of the estimates.
        loading
            What is added to the diagonal.

        Returns
        -------
        array
            float64, shape=(len(rows), len(targets), L).
        """
        matrix = self.gram(rows)
        amount = loading.amount
        if loading.kind == "relative":
            amount *= float(np.trace(matrix)) / len(matrix)
        matrix.flat[:: len(matrix) + 1] += amount
        sides = self.across[np.ix_(rows, targets)].transpose(0, 2, 1).reshape(len(matrix), len(targets))
        solved = _solve(matrix, sides, loading)
        return solved.reshape(len(rows), self.taps, len(targets)).transpose(0, 2, 1)


def _solve(matrix: Doubles, sides: Doubles, loading: Loading) -> Doubles:
    if loading.kind == "relative":  # positive definite by its loading
        factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(scipy.linalg.cho_solve(factor, sides, check_finite=False))
    try:
        return np.asarray(np.linalg.solve(matrix, sides))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(matrix, sides, rcond=None)[0])
