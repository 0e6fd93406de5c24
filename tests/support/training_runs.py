"""Small runs of training: data made of tones, and configurations that take milliseconds a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemwright.training.config import TrainConfig, config_from
from stemwright.training.data.examples import Example
from stemwright.training.feeding import Sources
from stemwright.training.tasks import Task, task_of

MODELS: Mapping[str, dict[str, Any]] = {
    "conv_tasnet": {
        "family": "conv_tasnet",
        "sizes": {"filters": 32, "bottleneck": 16, "hidden": 32, "skip": 16, "blocks": 3, "repeats": 2},
    },
    "ibm_cnn": {"family": "ibm_cnn", "sizes": {"channels": [4, 4, 4, 4], "hidden": [32, 16]}},
    "universal": {
        "family": "universal",
        "sizes": {"condition_size": 521, "channels": [4, 4, 4, 4, 4, 4]},
    },
    "demucs": {"family": "demucs", "variant": "v2", "sizes": {"channels": 4}},
}


@dataclass(frozen=True, kw_only=True)
class Tones:
    """Each target is two tones of its own band, drawn anew for each example, or of so many kinds only."""

    names: tuple[str, ...]
    sample_rate: int
    channels: int
    samples: int
    condition_size: int = 0
    kinds: int = 0
    bad_step: int | None = None

    def example(self, seed: int, step: int, index: int) -> Example:
        """Draw an example; not a number at `bad_step`."""
        place = (0, 0, index % self.kinds) if self.kinds else (seed, step, index)
        rng = np.random.default_rng(place)
        time = np.arange(self.samples) / self.sample_rate
        count = max(2, len(self.names))
        bands = np.geomspace(200, self.sample_rate / 4, count + 1)
        tones = np.zeros((count, self.channels, self.samples))
        for tone, low, high in zip(tones, bands, bands[1:], strict=False):
            for _ in range(2):
                phase = rng.uniform(0, 6.28, (self.channels, 1))
                tone += 0.1 * np.sin(6.2832 * rng.uniform(low, high) * time + phase)
        if step == self.bad_step:
            tones[:] = np.nan
        condition = None
        if self.condition_size:
            condition = rng.uniform(0, 1, self.condition_size).astype(np.float32)
        return Example(
            mixture=tones.sum(axis=0).astype(np.float32),
            targets=tones[: len(self.names)].astype(np.float32),
            condition=condition,
        )


def small_config(family: str, *, segment_s: float = 0.5, **sections: dict[str, Any]) -> TrainConfig:
    """Return a configuration of a small network; `loop` and the others replace single settings."""
    loop = {
        "steps": 6,
        "batch": 2,
        "precision": "float32",
        "workers": 0,
        "validate_every": 0,
        "validate_items": 2,
        "checkpoint_every": 3,
        "log_every": 2,
        "ema": 0.9,
    }
    given = {
        "name": "small",
        "model": MODELS[family] | sections.pop("model", {}),
        "data": {"segment_s": segment_s, "valid": {"kind": "given"}} | sections.pop("data", {}),
        "optimiser": {"lr": 1e-3} | sections.pop("optimiser", {}),
        "loop": loop | sections.pop("loop", {}),
    }
    return config_from(given | sections)


def tones_for(task: Task, samples: int, **settings: Any) -> Tones:
    """Return data for a task."""
    size = getattr(task.config, "condition_size", 0)
    return Tones(
        names=task.stems,
        sample_rate=task.sample_rate,
        channels=task.channels,
        samples=samples,
        condition_size=size,
        **settings,
    )


def tone_sources(config: TrainConfig, *, valid_samples: int | None = None, **settings: Any) -> Sources:
    """Return data to train and to validate with."""
    task = task_of(config)
    samples = task.segment_samples(config.data.segment_s)
    valid = tones_for(task, valid_samples or samples)
    return Sources(train=tones_for(task, samples, **settings), valid=valid)
