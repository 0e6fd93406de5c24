"""Losses of waveforms by the names that a configuration gives them."""

from torch import Tensor

from stemwright.training import objectives
from stemwright.training.config import ObjectiveSection
from stemwright.training.tasks.task import Losses


def waveform_losses(kind: str, section: ObjectiveSection, estimates: Tensor, targets: Tensor) -> Losses:
    """Loss of estimates, shape=(B, S, C, T), by name: l1, mse or si_snr; plus `section.mrstft`."""
    estimates = estimates.float()
    if kind == "si_snr":
        value, order = objectives.pit_si_snr(estimates, targets, limit_db=section.limit_db)
        estimates = objectives.reordered(estimates, order)
    elif kind == "mse":
        value = objectives.waveform_mse(estimates, targets)
    else:
        value = objectives.waveform_l1(estimates, targets)
    if not section.mrstft:
        return Losses(total=value)
    spectral = objectives.multi_resolution_stft(estimates, targets)
    return Losses(
        total=value + section.mrstft * spectral,
        parts={kind: value.detach(), "mrstft": spectral.detach()},
    )
