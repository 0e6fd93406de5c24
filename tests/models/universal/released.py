"""Checkpoints as bytedance/uss writes them: by Lightning, with much beside the separator."""

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


@contextmanager
def foreign_class(module: str, name: str) -> Iterator[type]:
    """A class that pickles as if it came from a package that is not installed."""
    names = [".".join(module.split(".")[: count + 1]) for count in range(module.count(".") + 1)]
    added = [one for one in names if one not in sys.modules]
    for one in added:
        sys.modules[one] = ModuleType(one)
    made = type(name, (), {"__module__": module, "__qualname__": name})
    setattr(sys.modules[module], name, made)
    try:
        yield made
    finally:
        for one in added:
            del sys.modules[one]


def write_released(path: Path, separator: dict[str, Tensor], beside: Any = None) -> Path:
    """Write a checkpoint of the released form; `beside` is one more of its values."""
    state = {f"ss_model.{name}": value for name, value in separator.items()}
    state["ss_model.base.stft.conv_real.weight"] = torch.zeros(4, 1, 6)
    state["ss_model.base.istft.ola_window"] = torch.zeros(6)
    state["ss_model.base.bn0.num_batches_tracked"] = torch.tensor(3)
    state["query_net.base.fc1.weight"] = torch.zeros(3, 3)
    state["anchor_segment_detector.sed_model.fc1.weight"] = torch.zeros(3, 3)
    moments = {"step": torch.tensor(5.0), "exp_avg": torch.zeros(3), "max_exp_avg_sq": torch.zeros(3)}
    with (
        foreign_class("uss.optimizers.lr_schedulers", "Warmup") as schedule,
        foreign_class("omegaconf.dictconfig", "DictConfig") as settings,
    ):
        given = settings()
        given.content = {"a": Path("/somewhere"), "b": [1, 2]}
        content = {
            "epoch": 0,
            "global_step": 1_000_000,
            "pytorch-lightning_version": "2.0.1",
            "state_dict": state,
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"CheckpointEveryNSteps": {}},
            "optimizer_states": [
                {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]}
            ],
            "lr_schedulers": [{"lr_lambdas": [functools.partial(schedule, warm_up_steps=1)]}],
            "hyper_parameters": given,
            "beside": beside,
        }
        torch.save(content, path)
    return path
