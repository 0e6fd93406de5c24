"""The losses of the last steps, summed up where they are computed, and whether all were numbers."""

from pathlib import Path

import torch
from torch import Tensor

from stemwright.training.devices import Place
from stemwright.training.errors import DivergedError


class LossWatch:
    """Sums up what steps give without waiting for the device.

    Parameters
    ----------
    place
        The process.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._bad = torch.full((), torch.inf, device=place.device)

    def see(self, step: int, values: dict[str, Tensor]) -> None:
        """Take the values of an update."""
        self._steps += 1
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._bad = torch.where(torch.isfinite(value), self._bad, self._bad.clamp(max=float(step)))

    def check(self, last: Path | None) -> None:
        """Raise DivergedError, naming the last checkpoint, if a value of any step was no number."""
        bad = float(self._place.least(self._bad))
        if bad == float("inf"):
            return
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        raise DivergedError(
            f"the loss or its gradient is no longer a number, from step {int(bad)} on",
            f'{kept}; lower optimiser.lr, set loop.clip or loop.precision = "float32", then train again',
        )

    def means(self) -> dict[str, float]:
        """Return the means of the values since the last call."""
        steps, self._steps = max(1, self._steps), 0
        sums, self._sums = self._sums, {}
        return {name: float(self._place.mean(value)) / steps for name, value in sums.items()}
