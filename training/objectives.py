"""What networks are trained to minimise.

*Conventions*: waveforms have shape=(B, S, C, T), B items and S sources of C channels; SI-SNR is in dB.
Losses are means over the batch, so that those of equal parts of a batch average to that of the whole, as
training on several devices needs.

References
----------
Luo & Mesgarani, arXiv 1809.07454 (SI-SNR, uPIT); Lin et al., arXiv 1812.01278 (ideal binary masks); Kong et
al., arXiv 2305.07447 (L1 of waveforms); Yamamoto et al., "Parallel WaveGAN", ICASSP 2020 (multi-resolution
STFT loss).
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

ALL_ORDERS = 4
"""Up to so many sources all orders are tried (24); beyond, the best one is found by assignment."""

VOICE, NOT_VOICE = 0.98, 0.02
"""Smoothed labels of the ideal binary mask."""

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""FFT size, hop and window length of the multi-resolution STFT loss, those of Parallel WaveGAN."""

_SMALLEST = 1e-8
_SMALLEST_POWER = 1e-7  # of a bin; below it the logarithm's slope is none


def waveform_l1(estimates: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference."""
    return functional.l1_loss(estimates, targets)


def waveform_mse(estimates: Tensor, targets: Tensor) -> Tensor:
    """Mean square difference."""
    return functional.mse_loss(estimates, targets)


def si_snr(estimates: Tensor, references: Tensor, *, limit_db: float | None = None) -> Tensor:
    """Scale-invariant signal-to-noise ratio over the last axis, both made zero-mean.

    Parameters
    ----------
    estimates, references
        shape=(..., T), broadcast against each other.
    limit_db
        What a perfect estimate gets: a noise this far below the reference is added to every error.

    Returns
    -------
    Tensor
        dB, shape=(...).
    """
    estimates = estimates - estimates.mean(dim=-1, keepdim=True)
    references = references - references.mean(dim=-1, keepdim=True)
    energy = references.square().sum(dim=-1, keepdim=True)
    scale = (estimates * references).sum(dim=-1, keepdim=True) / (energy + _SMALLEST)
    target = scale * references
    signal = target.square().sum(dim=-1)
    error = (estimates - target).square().sum(dim=-1)
    if limit_db is not None:
        error = error + 10 ** (-limit_db / 10) * signal
    return 10 * torch.log10((signal + _SMALLEST) / (error + _SMALLEST))


def best_order(values: Tensor) -> Tensor:
    """Find the order of the estimates that makes the mean value largest, one for each item.

    Parameters
    ----------
    values
        shape=(B, S, S): of estimate i against reference j.

    Returns
    -------
    Tensor
        shape=(B, S): the estimate that belongs to each reference.
    """
    sources = values.shape[1]
    if sources <= ALL_ORDERS:
        return order_by_trial(values)
    return order_by_assignment(values)


def order_by_trial(values: Tensor) -> Tensor:
    """`best_order` by trying all."""
    sources = values.shape[1]
    orders = torch.tensor(list(permutations(range(sources))), device=values.device)
    places = torch.arange(sources, device=values.device)
    sums = values[:, orders, places].sum(dim=-1)
    return orders[sums.argmax(dim=1)]


def order_by_assignment(values: Tensor) -> Tensor:
    """`best_order` by the Hungarian algorithm."""
    costs = values.detach().float().cpu().numpy()
    orders = [linear_sum_assignment(cost.T, maximize=True)[1] for cost in costs]
    return torch.from_numpy(np.stack(orders)).to(values.device)


def reordered(estimates: Tensor, order: Tensor) -> Tensor:
    """Put estimates, shape=(B, S, ...), into the order that `best_order` gives."""
    return estimates[torch.arange(len(order), device=order.device)[:, None], order]


def pit_si_snr(
    estimates: Tensor, references: Tensor, *, limit_db: float | None = None
) -> tuple[Tensor, Tensor]:
    """Negative SI-SNR with one order of the sources for each utterance (uPIT).

    Parameters
    ----------
    estimates, references
        shape=(B, S, C, T); C channels count as one signal after the other.
    limit_db
        See `si_snr`.

    Returns
    -------
    tuple
        The loss, and the order, shape=(B, S).
    """
    made, true = estimates.flatten(2), references.flatten(2)
    values = si_snr(made[:, :, None], true[:, None], limit_db=limit_db)
    order = best_order(values)
    chosen = reordered(values, order).diagonal(dim1=1, dim2=2)
    return -chosen.mean(), order


def ideal_binary_mask(voice: Tensor, accompaniment: Tensor) -> Tensor:
    """1 where the voice's magnitude is the larger one; a tie is accompaniment."""
    return (voice > accompaniment).to(voice.dtype)


def mask_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy against the smoothed ideal mask, mean over all bins; at best 0.0980."""
    labels = NOT_VOICE + (VOICE - NOT_VOICE) * mask
    return functional.binary_cross_entropy_with_logits(logits, labels)


def autoencoder_cross_entropy(logits: Tensor, magnitude: Tensor) -> Tensor:
    """Cross-entropy with magnitudes (0 to about 0.5) as soft labels: the IBM-CNN's pretraining."""
    return functional.binary_cross_entropy_with_logits(logits, magnitude)


def multi_resolution_stft(
    estimates: Tensor, targets: Tensor, resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS
) -> Tensor:
    """Spectral convergence plus L1 of log magnitudes, mean over resolutions.

    Parameters
    ----------
    estimates, targets
        shape=(..., T), float32.
    resolutions
        FFT size, hop and window length of each.
    """
    made = estimates.reshape(-1, estimates.shape[-1]).float()
    true = targets.reshape(-1, targets.shape[-1]).float()
    losses = []
    for n_fft, hop, length in resolutions:
        found, wanted = (_magnitude(signal, n_fft, hop, length) for signal in (made, true))
        convergence = torch.linalg.norm(wanted - found) / torch.linalg.norm(wanted)
        losses.append(convergence + functional.l1_loss(found.log(), wanted.log()))
    return torch.stack(losses).mean()


def _magnitude(signal: Tensor, n_fft: int, hop: int, length: int) -> Tensor:
    window = torch.hann_window(length, device=signal.device)
    spectrum = torch.stft(signal, n_fft, hop, length, window, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp(min=_SMALLEST_POWER).sqrt()
