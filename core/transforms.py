"""Short-time Fourier transforms as data, and their host form.

A model's manifest states its transform as a `Transform`; nothing else in the project knows a
family's windows or paddings. `forward` and `inverse` are the host form (scipy, float32);
`stemwright.models.graphs.transforms` builds the same arithmetic from the same data as ONNX nodes.

Where a sample goes, in the coordinates of the padded signal: the signal gets an outer padding
(a rule of some families), then n_fft / 2 samples on each side if frames are centred. Frame i
starts at `i * hop`. Some families drop frames at each edge after that.
"""

from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stemwright.core.arrays import ComplexArray, FloatArray
from stemwright.core.framing import Framing, add_frames, frame_spectra

MAX_N_FFT = 65536  # chosen here: no known model is above 7680; bounds what a manifest can make us allocate
_MAX_OVERLAP = 128  # chosen here: no known model is above 16; bounds the work per sample likewise
_COVERED = 1e-11  # a share of the envelope's peak below which no window reaches a sample, as in torch.istft


class Transform(BaseModel):
    """A short-time Fourier transform and its inverse.

    The defaults are those of `torch.stft(x, n_fft, hop, window=hann_window(n_fft))` and
    `torch.istft`: periodic window of n_fft samples, centred frames, reflect padding.

    Phases are torch's: the first sample of a frame's n_fft samples has phase zero. A family whose
    own code puts phase zero at the window's centre (IBM-CNN) differs by the factor (-1)^k at bin
    k, which magnitudes, masks and round trips do not see.

    Parameters
    ----------
    n_fft
        Length of the Fourier transform, in samples; even.
    hop
        Distance of frames, in samples.
    window
        `hann` (periodic) or `rectangular`.
    window_length
        Length of the window, centred in the n_fft samples; `None` means n_fft.
    window_scale
        `unit_sum`: the window is divided by its sum (IBM-CNN), so that a full-scale sine has
        magnitude 0.5.
    spectrum_scale
        `unitary`: the spectrum is divided by sqrt(n_fft), torch's `normalized=True`.
    padding
        `reflect` or `zero`: frames are centred, n_fft / 2 samples are put on each side. `none`:
        frame 0 starts at sample 0 and no frame passes the end.
    outer_padding
        Padding before that one. `hop_aligned` (Demucs): reflected, 3/2 hop on the left, and on
        the right 3/2 hop plus what brings the length up to a multiple of the hop.
        `hop_aligned_early` (older hybrid Demucs): the same with zeros, and the inverse begins where
        the padding does, 3/2 hop before the signal; networks that were trained with this slip make
        up for it. `even_frames`
        (SCNet): zeros on the right, at least one, up to a multiple of the hop that makes the
        number of frames even.
    frame_count
        `torch`: as many frames as fit; `ceil`: ceil(samples / hop) (IBM-CNN), one fewer when the
        hop divides the length.
    dropped_edge_frames
        Frames dropped at each edge. The inverse puts zeros there, and its normalisation counts
        these frames as present (Demucs).
    kept_bins
        The lowest so many bins are kept; the inverse sets the others to zero. `None` means all
        n_fft / 2 + 1.
    zeroed_analysis_bins
        So many of the lowest bins are set to zero by `forward` (MDX-Net: 3).
    zeroed_synthesis_bins
        So many of the lowest bins are set to zero by `inverse` (RoFormer's `zero_dc`: 1).
    synthesis
        What frames are multiplied with before they are added up: `window` (again, unscaled),
        `central_cut` (1 inside the window's span, 0 outside; IBM-CNN) or `none`.
    normalisation
        `window_sum`: divided by the sum of the windows that reach the sample, as torch.istft
        does; `steady_state`: by that sum's constant value in the middle, so that edges fade.
    mirror
        How the inverse completes a frame's spectrum above n_fft / 2. `exact`: bin n_fft - k is the
        conjugate of bin k. `off_by_one`: that of bin k + 1, a slip in the code of IBM-CNN's authors
        that their published scores carry; a spectrum that was not changed comes back at 33.9 dB only.

    References
    ----------
    torch.stft and torch.istft, version 2; demucs 4.1.0, `HTDemucs._spec` and `_ispec`; for `mirror`
    EdwardLin2014/CNN-with-IBM-for-Singing-Voice-Separation at 2aa6c93, `SineModel.dftSynth`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_fft: int = Field(ge=4, le=MAX_N_FFT, multiple_of=2)
    hop: int = Field(ge=1, le=MAX_N_FFT)
    window: Literal["hann", "rectangular"] = "hann"
    window_length: Annotated[int, Field(ge=1, le=MAX_N_FFT)] | None = None
    window_scale: Literal["none", "unit_sum"] = "none"
    spectrum_scale: Literal["none", "unitary"] = "none"
    padding: Literal["reflect", "zero", "none"] = "reflect"
    outer_padding: Literal["none", "hop_aligned", "hop_aligned_early", "even_frames"] = "none"
    frame_count: Literal["torch", "ceil"] = "torch"
    dropped_edge_frames: int = Field(default=0, ge=0, le=2)
    kept_bins: Annotated[int, Field(ge=1)] | None = None
    zeroed_analysis_bins: int = Field(default=0, ge=0)
    zeroed_synthesis_bins: int = Field(default=0, ge=0)
    synthesis: Literal["window", "central_cut", "none"] = "window"
    normalisation: Literal["window_sum", "steady_state"] = "window_sum"
    mirror: Literal["exact", "off_by_one"] = "exact"

    @model_validator(mode="after")
    def _bins_fit(self) -> "Transform":
        if self.bins > self.n_fft // 2 + 1:
            raise ValueError(f"kept_bins {self.bins} is more than the {self.n_fft // 2 + 1} bins there are")
        if max(self.zeroed_analysis_bins, self.zeroed_synthesis_bins) > self.bins:
            raise ValueError("more bins are set to zero than are kept")
        if self.mirror == "off_by_one" and (self.bins <= self.n_fft // 2 or self.zeroed_synthesis_bins):
            raise ValueError("mirror off_by_one needs all bins in the inverse")
        return self

    @model_validator(mode="after")
    def _padding_fits(self) -> "Transform":
        if self.padding == "none" and self.outer_padding != "none":
            raise ValueError("outer_padding needs centred frames (padding reflect or zero)")
        if self.frame_count == "ceil" and (self.padding == "none" or self.outer_padding != "none"):
            raise ValueError("frame_count ceil needs centred frames and no outer_padding")
        if self.dropped_edge_frames and not self._hop_aligned:
            raise ValueError("dropped_edge_frames needs outer_padding hop_aligned")
        if self._hop_aligned and self.hop % 2:
            raise ValueError("outer_padding hop_aligned needs an even hop")
        return self

    @model_validator(mode="after")
    def _window_fits(self) -> "Transform":
        if self.window_span > self.n_fft:
            raise ValueError(f"window_length {self.window_span} is more than n_fft {self.n_fft}")
        if self.hop > self.window_span:
            raise ValueError(f"hop {self.hop} is more than the window's {self.window_span} samples")
        if self.hop * _MAX_OVERLAP < self.n_fft:
            raise ValueError(f"hop {self.hop} is less than n_fft / {_MAX_OVERLAP}")
        cycle = self._steady_state
        if cycle.min() <= 1e-6 * cycle.max():
            raise ValueError("hop too long: the inverse has samples that no window reaches")
        if self.normalisation == "steady_state" and np.ptp(cycle) > 1e-6 * cycle.max():
            raise ValueError("normalisation steady_state needs windows that add up to a constant at this hop")
        return self

    @property
    def window_span(self) -> int:
        """Length of the window in samples."""
        return self.n_fft if self.window_length is None else self.window_length

    @property
    def bins(self) -> int:
        """Number of bins of a spectrum (F)."""
        return self.n_fft // 2 + 1 if self.kept_bins is None else self.kept_bins

    @property
    def window_offset(self) -> int:
        """Where the window starts in a frame's n_fft samples."""
        return (self.n_fft - self.window_span) // 2

    def framing(self, samples: int) -> Framing:
        """Compute padding and frames for a signal of this length.

        Raises
        ------
        ValueError
            The signal is too short for one frame, or for its reflections.
        """
        return _framing(self, samples)

    def frames(self, samples: int) -> int:
        """Count the frames of a signal of `samples` samples (N); raises ValueError as framing does."""
        return self.framing(samples).frames

    @property
    def analysis_window(self) -> FloatArray:
        """What a frame is multiplied with, scales included: float32, shape=(window_span,), read-only."""
        return _windows(self)[0]

    @property
    def synthesis_window(self) -> FloatArray:
        """What an inverse frame is multiplied with, scales included: float32, shape=(n_fft,), read-only.

        With `steady_state` the normalisation is in it too.
        """
        return _windows(self)[1]

    def inverse_envelope(self, samples: int) -> FloatArray | None:
        """Reciprocal of the windows' sum at each sample: float32, shape=(samples,), read-only.

        Samples that no window reaches have zero. `None` with `steady_state`, which needs none.
        """
        if self.normalisation == "steady_state":
            return None
        return _inverse_envelope(self, samples)

    def forward(self, waveform: FloatArray, *, workers: int = 1) -> ComplexArray:
        """Compute the spectrum of a waveform.

        Parameters
        ----------
        waveform
            float32, shape=(..., samples).
        workers
            Threads of the Fourier transform.

        Returns
        -------
        ComplexArray
            complex64, shape=(..., bins, frames), C order.

        Raises
        ------
        ValueError
            The waveform is too short, see `framing`.
        """
        framing = self.framing(waveform.shape[-1])
        out = np.empty((*waveform.shape[:-1], self.bins, framing.frames), np.complex64)
        self._forward_into(waveform, framing, out.real, out.imag, workers)
        return out

    def forward_planes(self, waveform: FloatArray, *, workers: int = 1) -> FloatArray:
        """Compute the spectrum of a waveform with real and imaginary parts apart.

        As `forward`, but float32, shape=(..., 2, bins, frames).
        """
        framing = self.framing(waveform.shape[-1])
        out = np.empty((*waveform.shape[:-1], 2, self.bins, framing.frames), np.float32)
        self._forward_into(waveform, framing, out[..., 0, :, :], out[..., 1, :, :], workers)
        return out

    def inverse(self, spectrum: ComplexArray, samples: int, *, workers: int = 1) -> FloatArray:
        """Compute the waveform of a spectrum.

        Parameters
        ----------
        spectrum
            complex64, shape=(..., bins, frames), any strides.
        samples
            Length of the waveform; `frames(samples)` must be the spectrum's number of frames.
        workers
            Threads of the Fourier transform.

        Returns
        -------
        FloatArray
            float32, shape=(..., samples), C order.

        Raises
        ------
        ValueError
            The spectrum's shape does not belong to a waveform of this length.
        """
        return self.inverse_planes(spectrum.real, spectrum.imag, samples, workers=workers)

    def inverse_planes(
        self,
        real: FloatArray,
        imag: FloatArray,
        samples: int,
        *,
        out: FloatArray | None = None,
        workers: int = 1,
    ) -> FloatArray:
        """Compute the waveform of a spectrum whose real and imaginary parts lie apart.

        As `inverse`; `real` and `imag` are float32, shape=(..., bins, frames), any strides. The
        waveform is written to `out` if given (any strides).
        """
        framing = self.framing(samples)
        if real.shape[-2:] != (self.bins, framing.frames) or imag.shape != real.shape:
            raise ValueError(
                f"spectrum has shape {real.shape} and {imag.shape}, not (..., {self.bins}, {framing.frames})"
            )
        if self.mirror == "off_by_one":
            real, imag = _off_by_one(real), _off_by_one(imag)
        lead = real.shape[:-2]
        out = np.empty((*lead, samples), np.float32) if out is None else out
        envelope = self.inverse_envelope(samples)
        for row in np.ndindex(*lead):
            sums = add_frames(
                real[row],
                imag[row],
                framing,
                self.synthesis_window,
                self.zeroed_synthesis_bins,
                workers=workers,
            )
            framing.cut(sums, envelope, out[row])
        return out

    def _forward_into(
        self, waveform: FloatArray, framing: Framing, real: FloatArray, imag: FloatArray, workers: int
    ) -> None:
        window, offset = self.analysis_window, self.window_offset
        for row in np.ndindex(*waveform.shape[:-1]):
            frame_spectra(waveform[row], framing, window, offset, real[row], imag[row], workers=workers)
        real[..., : self.zeroed_analysis_bins, :] = 0
        imag[..., : self.zeroed_analysis_bins, :] = 0

    @property
    def _window(self) -> NDArray[np.float64]:
        if self.window == "rectangular":
            return np.ones(self.window_span)
        return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self.window_span) / self.window_span)

    @property
    def _hop_aligned(self) -> bool:
        return self.outer_padding in ("hop_aligned", "hop_aligned_early")

    @property
    def _window_gain(self) -> float:
        return 1.0 / float(self._window.sum()) if self.window_scale == "unit_sum" else 1.0

    @property
    def _spectrum_gain(self) -> float:
        return float(self.n_fft) ** -0.5 if self.spectrum_scale == "unitary" else 1.0

    @property
    def _synthesis_shape(self) -> NDArray[np.float64]:
        if self.synthesis == "none":
            return np.ones(self.n_fft)
        shape = np.zeros(self.n_fft)
        span = slice(self.window_offset, self.window_offset + self.window_span)
        shape[span] = self._window if self.synthesis == "window" else 1.0
        return shape

    @property
    def _frame_weight(self) -> NDArray[np.float64]:
        """What one frame's samples are worth after analysis and synthesis, shape=(steps, hop)."""
        steps = -(-self.n_fft // self.hop)
        weight = np.zeros(steps * self.hop)
        span = slice(self.window_offset, self.window_offset + self.window_span)
        weight[span] = self._window * self._window_gain
        weight[: self.n_fft] *= self._synthesis_shape
        return weight.reshape(steps, self.hop)

    @property
    def _steady_state(self) -> NDArray[np.float64]:
        """Sum of the frames' weights far from the edges, one cycle of `hop` samples."""
        cycle: NDArray[np.float64] = self._frame_weight.sum(axis=0)
        return cycle


def _off_by_one(part: FloatArray) -> FloatArray:
    """Give the spectrum whose exact inverse is the off-by-one inverse of another; shape=(..., bins, frames).

    The real part of the inverse is that of sum_k (X[k] + X[k + 1]) / 2 where phase zero lies in the window's
    centre; here it lies at the frame's start, and neighbours differ in sign.
    """
    mixed = part.copy()
    mixed[..., 1:-1, :] -= part[..., 2:, :]
    mixed[..., 1:-1, :] *= 0.5
    return mixed


# The caches stand outside of the class: pydantic compares whatever an instance holds.


@lru_cache(maxsize=64)
def _windows(transform: Transform) -> tuple[FloatArray, FloatArray]:
    """Analysis and synthesis window."""
    analysis = transform._window * transform._window_gain * transform._spectrum_gain
    gain = 1.0 / transform._spectrum_gain
    if transform.normalisation == "steady_state":
        gain /= float(transform._steady_state.mean())
    windows = analysis.astype(np.float32), (transform._synthesis_shape * gain).astype(np.float32)
    for window in windows:
        window.flags.writeable = False
    return windows


@lru_cache(maxsize=64)
def _framing(transform: Transform, samples: int) -> Framing:
    left, right = _outer_padding(transform, samples)
    centre = 0 if transform.padding == "none" else transform.n_fft // 2
    outer = left + samples + right
    reflected = transform.padding == "reflect" and outer <= centre
    if reflected or (transform.outer_padding == "hop_aligned" and samples <= max(left, right)):
        raise ValueError(f"{samples} samples are too few to reflect for n_fft {transform.n_fft}")
    if outer + 2 * centre < transform.n_fft or samples < 1:
        raise ValueError(f"{samples} samples are too few for a frame of n_fft {transform.n_fft}")
    if transform.frame_count == "ceil":
        frames = -(-samples // transform.hop)
    else:
        frames = (outer + 2 * centre - transform.n_fft) // transform.hop + 1
    return Framing(
        n_fft=transform.n_fft,
        hop=transform.hop,
        samples=samples,
        outer_left=left,
        outer_right=right,
        outer_mode="reflect" if transform.outer_padding == "hop_aligned" else "zero",
        centre=centre,
        centre_mode="reflect" if transform.padding == "reflect" else "zero",
        frames=frames - 2 * transform.dropped_edge_frames,
        first=transform.dropped_edge_frames * transform.hop,
        inverse_early=left if transform.outer_padding == "hop_aligned_early" else 0,
    )


def _outer_padding(transform: Transform, samples: int) -> tuple[int, int]:
    hop = transform.hop
    if transform._hop_aligned:
        return 3 * hop // 2, 3 * hop // 2 + -samples % hop
    if transform.outer_padding == "even_frames":
        hops = samples // hop + 1
        return 0, (hops + (hops + 1) % 2) * hop - samples
    return 0, 0


@lru_cache(maxsize=8)
def _inverse_envelope(transform: Transform, samples: int) -> FloatArray:
    framing = transform.framing(samples)
    weight = transform._frame_weight
    frames = framing.frames + 2 * transform.dropped_edge_frames
    sums = np.zeros((frames + len(weight) - 1, transform.hop))
    for step, values in enumerate(weight):
        sums[step : step + frames] += values
    envelope = np.zeros(samples)
    covered = sums.reshape(-1)[framing.inverse_origin : framing.inverse_origin + samples]
    reached = covered > _COVERED * transform._steady_state.max()
    np.divide(1.0, covered, out=envelope[: len(covered)], where=reached)
    result = envelope.astype(np.float32)
    result.flags.writeable = False
    return result
