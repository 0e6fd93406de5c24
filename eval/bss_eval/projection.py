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
Complexes = npt.NDArray[np.complex128]

_TRANSFORM_TAPS, _LEAST_TRANSFORM = 8, 1024
"""Transforms are at least so many times longer than filters (measured), and so long."""
_SINGULAR = 1e-11
"""Reciprocal condition below which digits depend on the way of solving, which is museval's then."""
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

    Sums are kept as spectra of short blocks, so that one inverse transform at the end serves all of them.

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
        self.taps = taps
        self._rows = channels
        self._size = _transform(taps)
        self._sums = np.zeros((self._size // 2 + 1, channels, channels + targets), np.complex128)
        self._past = np.zeros((channels, taps - 1))

        self.block = self.block_of(taps)
        """Samples of which a multiple is taken without waste."""

    @staticmethod
    def block_of(taps: int) -> int:
        """Return `block` of correlations with so many taps."""
        return _transform(taps) - (taps - 1)

    def add(self, references: Doubles, estimates: Doubles) -> None:
        """Take the next samples, shape=(channels, n)."""
        self.include(self.products(*self.cut(references, estimates)))

    def cut(self, references: Doubles, estimates: Doubles) -> tuple[Doubles, Doubles]:
        """Cut the next samples into blocks.

        Returns
        -------
        late
            References with the L-1 samples before each block, shape=(channels, blocks, size).
        new
            References and estimates with L-1 zeros after each block.
        """
        late = np.concatenate([self._past, references], axis=1)
        self._past = late[:, late.shape[1] - (self.taps - 1) :].copy()
        channels, length = len(references) + len(estimates), references.shape[1]
        count = -(-length // self.block)
        late = np.pad(late, ((0, 0), (0, count * self.block - length)))
        new = np.zeros((channels, count, self._size))
        for part, rows in ((references, new[: self._rows]), (estimates, new[self._rows :])):
            whole = length // self.block
            cut = part[:, : whole * self.block].reshape(len(part), whole, self.block)
            rows[:, :whole, : self.block] = cut
            rows[:, whole:, : length - whole * self.block] = part[:, None, whole * self.block :]
        return np.lib.stride_tricks.sliding_window_view(late, self._size, axis=1)[:, :: self.block], new

    def products(self, late: Doubles, new: Doubles) -> Complexes:
        """Sum the products of blocks' spectra; touches nothing, so that threads may."""
        late_spectra = scipy.fft.rfft(late)
        new_spectra = np.conj(scipy.fft.rfft(new))
        left = np.ascontiguousarray(late_spectra.transpose(2, 0, 1))
        right = np.ascontiguousarray(new_spectra.transpose(2, 1, 0))
        return np.asarray(left @ right)

    def include(self, products: Complexes) -> None:
        """Add what `products` gave."""
        self._sums += products

    def delays(self, rows: Sequence[int], columns: Sequence[int]) -> Doubles:
        """sum_t a[t] b[t + k], k = 0..L-1, shape=(rows, columns, L).

        Rows are the references' channels; columns too, and after them the estimates'.
        """
        chosen = self._sums[:, list(rows)][:, :, list(columns)].transpose(1, 2, 0)
        # Entry q is sum_n new[n] late[n + q]: every pair of samples at delay L-1-q, once.
        return np.asarray(scipy.fft.irfft(chosen, self._size)[..., self.taps - 1 :: -1])

    def gram(self, rows: Sequence[int]) -> Doubles:
        """Gram matrix of some channels' delays, shape=(len(rows) * L, len(rows) * L)."""
        taps, among = self.taps, self.delays(rows, rows)
        matrix = np.empty((len(rows) * taps, len(rows) * taps))
        for i in range(len(rows)):
            for j in range(i + 1):
                # Element (m, n) of the block is r_ij[m - n]: a window that moves over both sides of it.
                sides = np.concatenate([among[j, i, :0:-1], among[i, j]])
                block = np.lib.stride_tricks.sliding_window_view(sides, taps)[:, ::-1]
                here, there = np.s_[i * taps : (i + 1) * taps], np.s_[j * taps : (j + 1) * taps]
                matrix[here, there] = block
                matrix[there, here] = block.T
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
        across = self.delays(rows, [self._rows + target for target in targets])
        sides = across.transpose(0, 2, 1).reshape(-1, len(targets))
        solved = _solve_definite(self._loaded(rows, loading), sides)
        if solved is None:  # singular to the last digit: as museval does
            solved = _solve_any(self._loaded(rows, loading), sides)
        if solved is None:
            solved = np.asarray(np.linalg.lstsq(self._loaded(rows, loading), sides, rcond=None)[0])
        return solved.reshape(len(rows), self.taps, len(targets)).transpose(0, 2, 1)

    def _loaded(self, rows: Sequence[int], loading: Loading) -> Doubles:
        matrix = self.gram(rows)
        amount = loading.amount
        if loading.kind == "relative":
            amount *= float(np.trace(matrix)) / len(matrix)
        matrix.flat[:: len(matrix) + 1] += amount
        return matrix


def _transform(taps: int) -> int:
    return max(_LEAST_TRANSFORM, 1 << (_TRANSFORM_TAPS * taps - 1).bit_length())


def _solve_definite(matrix: Doubles, sides: Doubles) -> Doubles | None:
    """Solve by Cholesky's factor; None if the matrix is nearly singular. The matrix is overwritten."""
    lapack = scipy.linalg.lapack
    norm = lapack.dlange("1", matrix.T)
    # The transpose is the same matrix in LAPACK's order, which is not copied then.
    factor, failed = lapack.dpotrf(matrix.T, lower=True, clean=False, overwrite_a=True)
    if failed or lapack.dpocon(factor, norm, uplo="L")[0] < _SINGULAR:
        return None
    return np.asarray(lapack.dpotrs(factor, sides, lower=True)[0])


def _solve_any(matrix: Doubles, sides: Doubles) -> Doubles | None:
    """Solve by LU factors, as numpy's solve does; None if a pivot is 0. The matrix is overwritten."""
    _, _, solved, failed = scipy.linalg.lapack.dgesv(matrix.T, sides, overwrite_a=True)
    return None if failed else np.asarray(solved)
