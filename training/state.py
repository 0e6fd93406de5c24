"""Everything that a run carries from step to step, and its form in checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stemwright.core.errors import ModelFileError
from stemwright.training.averaging import WeightAverage
from stemwright.training.checkpoints import architecture, check_architecture, load_checkpoint
from stemwright.training.config import OptimiserSection, TrainConfig
from stemwright.training.schedules import Schedule
from stemwright.training.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best validation so far: its step and value."""

    step: int
    value: float


class TrainingState:
    """A network under training.

    Parameters
    ----------
    config
        The run's.
    task
        What is trained.
    device
        Where; the weights are drawn on the CPU, so that they are the same everywhere.
    """

    def __init__(self, config: TrainConfig, task: Task, device: torch.device) -> None:
        torch.manual_seed(config.loop.seed)
        self._config, self._task = config, task
        self.net = task.network().to(device)
        self.optimiser = make_optimiser(config.optimiser, self.net, fused=device.type == "cuda")
        self.schedule = Schedule(config.schedule, config.loop)
        self.average = WeightAverage(self.net, config.loop.ema) if config.loop.ema else None
        self.step = 0
        self.seconds = 0.0
        self.validated = 0  # the step that was validated last
        self.best: Best | None = None

    @property
    def rate(self) -> float:
        """The learning rate."""
        return float(self.optimiser.param_groups[0]["lr"])

    def set_rate(self) -> None:
        """Set the learning rate for the coming update."""
        factor = self.schedule.factor(self.step, self.seconds)
        for group in self.optimiser.param_groups:
            group["lr"] = self._config.optimiser.lr * factor

    def content(self) -> dict[str, Any]:
        """Everything that a checkpoint holds: tensors and plain data."""
        return {
            "architecture": architecture(self._task.family, self._task.config, self._task.stems),
            "config": self._config.model_dump(mode="json"),
            "step": self.step,
            "seconds": self.seconds,
            "validated": self.validated,
            "best": asdict(self.best) if self.best else None,
            "model": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict() if self.average else None,
        }

    def resume(self, path: Path | None) -> None:
        """Take over everything from a checkpoint of the same run, if there is one; raises ModelFileError."""
        if path is None:
            return
        held = self._load(path)
        try:
            self._load_moments(held["optimiser"])
            self.schedule.load_state_dict(held["schedule"])
            if self.average is not None:
                self.average.load_state_dict(held["average"])
            self.step, self.seconds, self.validated = held["step"], held["seconds"], held["validated"]
            self.best = Best(**held["best"]) if held["best"] else None
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"the checkpoint {path} is not one of this run: {error}", "take one of the run's own folder"
            ) from error

    def start_from(self, path: Path | None) -> None:
        """Take over weights and, if they fit, the optimiser's moments; raises ModelFileError."""
        if path is None:
            return
        held = self._load(path)
        if held.get("average"):
            self.net.load_state_dict(held["average"]["tensors"])
        if _same_optimiser(held, self._config):
            self._load_moments(held["optimiser"])
        if self.average is not None:
            self.average = WeightAverage(self.net, self._config.loop.ema)

    def _load_moments(self, held: Mapping[str, Any]) -> None:
        """Take over an optimiser's moments, not its settings, nor the form that suited its device."""
        groups = [
            {**own, "params": other["params"]}
            for own, other in zip(self.optimiser.param_groups, held["param_groups"], strict=True)
        ]
        self.optimiser.load_state_dict({"state": held["state"], "param_groups": groups})

    def _load(self, path: Path) -> dict[str, Any]:
        held = load_checkpoint(path)
        task = self._task
        wanted = architecture(task.family, task.config, task.stems)
        check_architecture(path, held.get("architecture") or {}, wanted)
        try:
            self.net.load_state_dict(held["model"])
        except (KeyError, RuntimeError) as error:
            raise ModelFileError(
                f"the checkpoint {path} does not fit the network: {str(error).splitlines()[-1].strip()}",
                "take one of the same configuration",
            ) from error
        return held


def make_optimiser(section: OptimiserSection, net: nn.Module, *, fused: bool) -> torch.optim.Adam:
    """Make the optimiser of a configuration."""
    kind = torch.optim.AdamW if section.kind == "adamw" else torch.optim.Adam
    return kind(
        net.parameters(),
        lr=section.lr,
        betas=section.betas,
        eps=section.eps,
        weight_decay=section.weight_decay,
        amsgrad=section.amsgrad,
        fused=fused,
    )


def _same_optimiser(held: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether a checkpoint's moments are of the same kind of optimiser."""
    own = held.get("config", {}).get("optimiser", {})
    wanted = config.optimiser
    return bool(own.get("kind") == wanted.kind and own.get("amsgrad") == wanted.amsgrad)
