"""The loop: from a configuration and a source of examples to trained weights.

What a step does depends on the configuration, the number of the step and the state that checkpoints hold,
and on nothing else: examples and dropout are drawn anew for each step from the run's seed. So a run that was
killed and resumed has on a CPU, bit by bit, the weights of one that was not.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stemwright.core.errors import CancelledError
from stemwright.training.checkpoints import Checkpoints
from stemwright.training.clock import Clock
from stemwright.training.config import TrainConfig
from stemwright.training.data.batches import Batch
from stemwright.training.devices import Place, compute_type, joined_processes
from stemwright.training.feeding import Sources, check_sources, feed, open_sources
from stemwright.training.recording import Recorder, open_recorder
from stemwright.training.run_folder import RunFolder
from stemwright.training.signals import StopRequest
from stemwright.training.state import Best, TrainingState
from stemwright.training.tasks import Task, task_of
from stemwright.training.validating import Validator
from stemwright.training.watching import LossWatch


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to.

    step, seconds
        Updates done, and the time that they took.
    best
        The best validation.
    """

    step: int
    seconds: float
    best: Best | None


def train(
    config: TrainConfig,
    run: Path,
    *,
    resume: bool = False,
    start: Path | None = None,
    sources: Sources | None = None,
) -> Outcome:
    """Train.

    Parameters
    ----------
    config
        What to train.
    run
        Folder of the run; it must not hold one yet, but to resume it.
    resume
        Go on from the last checkpoint.
    start
        A checkpoint whose weights and moments a new run begins with, as the second stage of the IBM-CNN does.
    sources
        The data; None for what the configuration names.

    Raises
    ------
    OptionError, InputError
        A configuration that makes no run, or data that does not fit it.
    DeviceError
        A precision or a number of processes that the hardware does not have.
    ModelFileError
        A checkpoint that cannot be read, or of another network.
    DivergedError
        The loss is no longer a number.
    OutputError, ResourceError
        The run's folder cannot be written.
    CancelledError
        A signal asked to stop; what was done is in a checkpoint.
    """
    loop = config.loop
    with joined_processes() as place, StopRequest() as stop:
        task = task_of(config)
        compute = compute_type(loop.precision, place.device)
        place.share(loop.batch)
        sources = sources or open_sources(config, task)
        check_sources(sources, task)
        folder = RunFolder(run)
        checkpoints = Checkpoints(folder.checkpoints, loop.keep, writes=place.first)
        state = TrainingState(config, task, place.device)
        state.start_from(start)
        state.resume(checkpoints.last() if resume else None)
        folder.open(config, state.step, resume=resume, writes=place.first)
        if loop.compile:
            state.net.compile()
        net = place.wrap(state.net)
        watch = LossWatch(place)
        validator = Validator(config, task, sources.valid, place)
        recorder = open_recorder(folder, steps=loop.steps, start=state.step, tells=place.first)
        keeper = _Keeper(state, checkpoints, validator, recorder, watch)

        with closing(recorder), closing(feed(config, sources.train, state.step, place)) as examples:
            clock = Clock(state.seconds, loop.batch)
            while state.step < loop.steps and state.seconds < loop.limit_s:
                batch = clock.waiting_for(examples)
                watch.see(state.step, update(config, task, net, state, batch, compute, place))
                state.step += 1
                state.seconds, interrupted = place.agree(clock.seconds, stop.asked)
                recorder.advance(state.step)
                if state.step % loop.log_every == 0:
                    recorder.step(state.step, watch.means() | clock.rates() | {"lr": state.rate})
                if validator.is_due(state.step):
                    keeper.validate()
                if state.step % loop.checkpoint_every == 0:
                    keeper.save()
                if interrupted:
                    keeper.save()
                    raise CancelledError(f"stopped after step {state.step}", f"resume the run in {run}")
            if validator.is_owed(state):
                keeper.validate()
            keeper.save()
        return Outcome(step=state.step, seconds=state.seconds, best=state.best)


def update(
    config: TrainConfig,
    task: Task,
    net: nn.Module,
    state: TrainingState,
    batch: Batch,
    compute: torch.dtype,
    place: Place,
) -> dict[str, Tensor]:
    """Do one update of the weights.

    Returns
    -------
    dict
        `loss`, the norm of the gradient, and the loss's parts.
    """
    torch.manual_seed(_step_seed(config.loop.seed, state.step, place.rank))
    state.set_rate()
    state.optimiser.zero_grad(set_to_none=True)
    batch = batch.to(place.device)
    with torch.autocast(place.device.type, torch.bfloat16, enabled=compute is torch.bfloat16):
        losses = task.loss(net, batch)
    losses.total.backward()  # type: ignore[no-untyped-call]
    limit = float("inf") if config.loop.clip is None else config.loop.clip
    norm = nn.utils.clip_grad_norm_(state.net.parameters(), limit)
    state.optimiser.step()
    if state.average is not None:
        state.average.update()
    return {"loss": losses.total, "gradient": norm, **losses.parts}


@dataclass(frozen=True)
class _Keeper:
    """Keeps what a run has come to, unless its loss is no longer a number."""

    state: TrainingState
    checkpoints: Checkpoints
    validator: Validator
    recorder: Recorder
    watch: LossWatch

    def validate(self) -> None:
        self.watch.check(self.checkpoints.last())
        if self.validator.improves(self.state, self.recorder):
            self.checkpoints.save_best(self.state.content(), self.state.step)

    def save(self) -> None:
        self.watch.check(self.checkpoints.last())
        self.checkpoints.save(self.state.content(), self.state.step)


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of what is drawn in a step, by its process."""
    return (seed * 1_000_003 + step) * 4_099 + rank
