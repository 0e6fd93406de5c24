"""Padding, framing and overlap-add of signals, one signal at a time (the host form's inner loops)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from stemwright.core.arrays import FloatArray

PaddingMode = Literal["reflect", "zero"]

_BLOCK_VALUES = 2**21  # frames are transformed in blocks of about this many values (8 MB), to stay in cache


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a signal of a given length is padded and cut into frames.

    Attributes
    ----------
    n_fft, hop
        Length and distance of frames.
    samples
        Length of the signal.
    outer_left, outer_right, outer_mode
        Padding of the family's own rule, put on first.
    centre, centre_mode
        Padding on each side that centres frames, put around that.
    frames
        Frames kept.
    first
        Start of the first kept frame in the padded signal.
    inverse_early
        So many samples before the signal's first one the inverse begins.
    """

    n_fft: int
    hop: int
    samples: int
    outer_left: int
    outer_right: int
    outer_mode: PaddingMode
    centre: int
    centre_mode: PaddingMode
    frames: int
    first: int
    inverse_early: int = 0

    @property
    def inverse_origin(self) -> int:
        """Where the inverse begins in the padded signal."""
        return self.origin - self.inverse_early

    @property
    def origin(self) -> int:
        """Where sample 0 lies in the padded signal."""
        return self.outer_left + self.centre

    @property
    def steps(self) -> int:
        """Number of hops that a frame spans, the last one perhaps in part."""
        return -(-self.n_fft // self.hop)

    @property
    def block(self) -> int:
        """Frames to be transformed at a time."""
        return min(self.frames, max(1, _BLOCK_VALUES // self.n_fft))

    def pad(self, row: FloatArray) -> FloatArray:
        """Pad one signal: float32, shape=(samples,) to shape=(padded samples,)."""
        outer = self.outer_left + self.samples + self.outer_right
        padded = np.empty(outer + 2 * self.centre, np.float32)
        padded[self.origin : self.origin + self.samples] = row
        inner = padded[self.centre : self.centre + outer]
        _fill(inner, self.outer_left, self.outer_right, self.outer_mode)
        _fill(padded, self.centre, self.centre, self.centre_mode)
        return padded

    def cut(self, sums: FloatArray, envelope: FloatArray | None, out: FloatArray) -> None:
        """Take the signal's samples out of overlapped frames and normalise them.

        Parameters
        ----------
        sums
            Overlapped frames, from the first kept frame's start on.
        envelope
            Factor of each sample, shape=(samples,), or `None`.
        out
            The signal, shape=(samples,); samples that no frame reaches become zero.
        """
        begin = self.inverse_origin - self.first
        covered = sums[max(begin, 0) : begin + self.samples]
        head = max(-begin, 0)
        reached = slice(head, head + len(covered))
        out[:head] = 0
        out[reached.stop :] = 0
        if envelope is None:
            out[reached] = covered
        else:
            np.multiply(covered, envelope[reached], out=out[reached])


def _fill(padded: FloatArray, left: int, right: int, mode: PaddingMode) -> None:
    end = len(padded) - right
    if mode == "zero":
        padded[:left] = 0
        padded[end:] = 0
        return
    padded[:left] = padded[2 * left : left : -1]
    padded[end:] = padded[end - right - 1 : end - 1][::-1]


def frame_spectra(
    row: FloatArray,
    framing: Framing,
    window: FloatArray,
    window_offset: int,
    real: FloatArray,
    imag: FloatArray,
    *,
    workers: int,
) -> None:
    """Pad and window one signal, and write its lowest `len(real)` bins.

    Parameters
    ----------
    row
        The signal, shape=(samples,).
    framing
        Its framing.
    window, window_offset
        Factors, shape=(window_span,), and where in the frame they start.
    real, imag
        Written to, shape=(bins, frames), any strides.
    workers
        Threads of the Fourier transform.
    """
    padded = framing.pad(row)
    span = slice(window_offset, window_offset + len(window))
    views = sliding_window_view(padded[span.start :], len(window))[framing.first :: framing.hop]
    block = np.zeros((framing.block, framing.n_fft), np.float32)
    for start in range(0, framing.frames, framing.block):
        stop = min(start + framing.block, framing.frames)
        frames = block[: stop - start]
        np.multiply(views[start:stop], window, out=frames[:, span])
        # Transforming the transposed view makes pocketfft write (bins, frames) at no extra cost.
        values = scipy.fft.rfft(frames.T, axis=0, workers=workers)
        real[:, start:stop] = values.real[: len(real)]
        imag[:, start:stop] = values.imag[: len(imag)]


def add_frames(
    real: FloatArray,
    imag: FloatArray,
    framing: Framing,
    window: FloatArray,
    zeroed_bins: int,
    *,
    workers: int,
) -> FloatArray:
    """Transform one signal's spectrum back, window the frames and overlap them.

    Parameters
    ----------
    real, imag
        shape=(bins, frames); bins above them count as zero.
    window
        shape=(n_fft,).
    zeroed_bins
        So many of the lowest bins are taken as zero.

    Returns
    -------
    FloatArray
        Sums from the first kept frame's start on, shape=((frames + steps - 1) * hop,).
    """
    sums = np.zeros((framing.frames + framing.steps - 1, framing.hop), np.float32)
    values = np.zeros((framing.n_fft // 2 + 1, framing.block), np.complex64)
    kept = slice(zeroed_bins, len(real))
    for start in range(0, framing.frames, framing.block):
        stop = min(start + framing.block, framing.frames)
        part = values[:, : stop - start]
        part.real[kept] = real[kept, start:stop]
        part.imag[kept] = imag[kept, start:stop]
        frames = scipy.fft.irfft(part.T, framing.n_fft, axis=-1, workers=workers)
        frames *= window
        for step in range(framing.steps):
            piece = frames[:, step * framing.hop : (step + 1) * framing.hop]
            sums[start + step : stop + step, : piece.shape[1]] += piece
    return sums.reshape(-1)
