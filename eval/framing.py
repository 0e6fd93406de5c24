"""Frames of signals that arrive in blocks, centred as torch and librosa do it: reflected at both ends."""

import numpy as np
import numpy.typing as npt

from stemwright.core.errors import InputError

Doubles = npt.NDArray[np.float64]


class CentredFrames:
    """Cuts signals into frames of `n_fft` samples, the first of them centred at the first sample.

    Parameters
    ----------
    n_fft, hop
        Lengths in samples.
    """

    def __init__(self, n_fft: int, hop: int) -> None:
        self.n_fft, self._hop, self._half = n_fft, hop, n_fft // 2
        self._held: Doubles | None = None
        self._begun = False
        self._start = 0
        """Where the next frame starts in what is held."""

    def push(self, block: Doubles) -> Doubles:
        """Take the next samples, shape=(..., n); return the frames they complete, shape=(..., m, n_fft)."""
        self._held = block if self._held is None else np.concatenate([self._held, block], axis=-1)
        if not self._begun:
            if self._held.shape[-1] <= self._half:
                return self._cut(0)
            head = self._held[..., self._half : 0 : -1]
            self._held, self._begun = np.concatenate([head, self._held], axis=-1), True
        return self._cut((self._held.shape[-1] - self._start - self.n_fft) // self._hop + 1)

    def finish(self) -> Doubles:
        """Return the frames at the end.

        Raises
        ------
        InputError
            The signals are no longer than half a frame.
        """
        if self._held is None or not self._begun:
            length = 0 if self._held is None else self._held.shape[-1]
            raise InputError(
                f"{length} samples are too short for a transform of {self.n_fft}", "score longer excerpts"
            )
        tail = self._held[..., -2 : -2 - self._half : -1]
        self._held = np.concatenate([self._held, tail], axis=-1)
        return self._cut((self._held.shape[-1] - self._start - self.n_fft) // self._hop + 1)

    def _cut(self, count: int) -> Doubles:
        if self._held is None:
            raise AssertionError("push comes first")
        if count <= 0:
            return np.empty((*self._held.shape[:-1], 0, self.n_fft))
        windows = np.lib.stride_tricks.sliding_window_view(self._held, self.n_fft, axis=-1)
        last = self._start + (count - 1) * self._hop
        frames = windows[..., self._start : last + 1 : self._hop, :]
        self._start = last + self._hop
        # What is held must reach back half a frame from the end, for the reflection there.
        spare = max(0, min(self._start, self._held.shape[-1] - self._half - 1))
        self._held, self._start = self._held[..., spare:], self._start - spare
        return frames
