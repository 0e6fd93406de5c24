"""Validation of a run on held-out items: by the network itself, and by the engine that will serve it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from stemwright.core.arrays import FloatArray
from stemwright.training.averaging import averaged
from stemwright.training.config import TrainConfig
from stemwright.training.data.batches import collate
from stemwright.training.data.examples import Example, Source
from stemwright.training.devices import Place
from stemwright.training.recording import Recorder
from stemwright.training.state import Best, TrainingState
from stemwright.training.tasks import Task
from stemwright.training.tasks.scoring import SCORE, score_items

SEED = 2_147_483_647  # of the held-out items: no run's own, so that all runs of one data set are alike
LOSS = "loss"


class Validator:
    """Validates a run when it is due, in the first of its processes.

    Parameters
    ----------
    config
        The run's.
    task
        What is trained.
    source
        Held-out items, the first of which are drawn now; None: nothing is validated.
    place
        The process.
    """

    def __init__(self, config: TrainConfig, task: Task, source: Source | None, place: Place) -> None:
        self._loop, self._task, self._place = config.loop, task, place
        self._on = source is not None and self._loop.validate_every > 0
        self._items: list[Example] = []
        if source is not None and self._on and place.first:
            self._items = held_out(source, self._loop.validate_items)
        self._serving = self._on and place.first and self._loop.serve_every > 0
        if self._serving:  # what is missing shows now rather than after hours
            from stemwright.training.serving import check_runtime

            check_runtime()

    def is_due(self, step: int) -> bool:
        """Tell whether to validate after so many steps."""
        return self._on and step % self._loop.validate_every == 0

    def is_owed(self, state: TrainingState) -> bool:
        """Tell whether a run that ends here has not been validated as it is."""
        return self._on and state.step != state.validated

    def improves(self, state: TrainingState, recorder: Recorder) -> bool:
        """Validate, tell the schedule, and return whether it is the best so far."""
        state.validated = state.step
        value = self._place.agree(self._value(state, recorder) if self._place.first else 0.0)[0]
        state.schedule.observe(value)
        if value != value or (state.best is not None and value <= state.best.value):
            return False
        state.best = Best(step=state.step, value=value)
        return True

    def _value(self, state: TrainingState, recorder: Recorder) -> float:
        with averaged(state.net, state.average) as net:
            scores = validate_network(self._task, net, self._items, self._place.device)
            recorder.scores(state.step, "network", scores)
            number = state.step // max(1, self._loop.validate_every)
            if self._serving and number % self._loop.serve_every == 0:
                from stemwright.training.serving import validate_engine

                few = self._items[: self._loop.serve_items]
                recorder.scores(state.step, "engine", validate_engine(self._task, net, few))
        return -scores[LOSS] if self._loop.best_by == LOSS else scores[SCORE]


def held_out(source: Source, count: int) -> list[Example]:
    """Draw the items that runs are judged by; always the same ones."""
    return [source.example(SEED, 0, index) for index in range(count)]


@torch.no_grad()
def validate_network(
    task: Task, net: nn.Module, items: Sequence[Example], device: torch.device
) -> dict[str, float]:
    """Score a network on the held-out items, in float32.

    Returns
    -------
    dict
        `scoring.score_items`, and `loss`: the mean of what training minimises.
    """
    losses: list[float] = []
    estimates: list[FloatArray] = []
    for item in items:
        batch = collate(0, [item]).to(device)
        losses.append(float(task.loss(net, batch).total))
        stems = task.separate(net, batch.mixture, batch.condition)
        estimates.append(stems[0].float().cpu().numpy())
    scores = score_items(task.kind, task.stems, items, estimates)
    return scores | {LOSS: float(np.mean(losses))}
