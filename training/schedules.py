"""The factor of the learning rate over a run."""

import math
from collections.abc import Mapping

from stemwright.training.config import LoopSection, ScheduleSection


class Schedule:
    """Follows a run and tells the factor of its learning rate.

    Parameters
    ----------
    section
        Which schedule.
    loop
        Length of the run.
    """

    def __init__(self, section: ScheduleSection, loop: LoopSection) -> None:
        self._section, self._loop = section, loop
        self._scale = 1.0
        self._waited = 0
        self._best: float | None = None

    def factor(self, step: int, seconds: float) -> float:
        """Return the factor for the update number `step`, counted from 0, after so many seconds."""
        section = self._section
        if section.kind == "stages":
            return [stage.factor for stage in section.stages if stage.step <= step][-1]
        rising = min(1.0, (step + 1) / section.warmup_steps) if section.warmup_steps else 1.0
        if section.kind == "cosine":
            falling = 0.5 * (1 + math.cos(math.pi * self._progress(step, seconds)))
            return rising * (section.floor + (1 - section.floor) * falling)
        return rising * self._scale

    def observe(self, value: float) -> None:
        """Take in a validation; the larger the better.

        The rate falls after `patience` values in a row that are none better than the best so far.
        """
        if self._section.kind != "plateau":
            return
        if self._best is None or value > self._best:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self._section.patience:
            self._scale *= self._section.factor
            self._waited = 0

    def state_dict(self) -> dict[str, object]:
        """Everything that a checkpoint needs."""
        return {"scale": self._scale, "waited": self._waited, "best": self._best}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore what `state_dict` gave."""
        scale, waited, best = state["scale"], state["waited"], state["best"]
        if not isinstance(scale, float) or not isinstance(waited, int):
            raise ValueError("not the state of a schedule")
        self._scale, self._waited = scale, waited
        self._best = best if isinstance(best, float) else None

    def _progress(self, step: int, seconds: float) -> float:
        if self._section.progress == "time" and self._loop.max_seconds is not None:
            return min(1.0, seconds / self._loop.max_seconds)
        behind = self._section.warmup_steps
        return min(1.0, max(0, step - behind) / max(1, self._loop.steps - behind))
