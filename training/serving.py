"""Validation by the engine: a network under training, exported and opened as users will have it."""

import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import DeviceError
from stemwright.models.registry.store import open_model
from stemwright.models.separation.queries import StemQuery
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.models.sessions.opening import SessionOptions
from stemwright.training.data.examples import Example
from stemwright.training.exporting import export_folder, tensors_of
from stemwright.training.tasks import Task
from stemwright.training.tasks.scoring import score_items

_NAME = "under-training"


def check_runtime() -> None:
    """Raise DeviceError if there is nothing to run an exported network with."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise DeviceError(
            "validation by the engine needs ONNX Runtime, which is not installed",
            "install stemwright[cpu], or set loop.serve_every to 0",
        )


def validate_engine(task: Task, net: nn.Module, items: Sequence[Example]) -> dict[str, float]:
    """Export a network and score what the engine separates with it; see `score_items`."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / _NAME
        folder.mkdir()
        export_folder(task, tensors_of(net), name=_NAME, folder=folder)
        estimates = separate_items(folder, items, Path(place) / "cache")
    return score_items(task.kind, task.stems, items, estimates)


def separate_items(folder: Path, items: Sequence[Example], cache: Path) -> list[FloatArray]:
    """Separate the mixtures of items with a model folder, in float32 on the CPU.

    Returns
    -------
    list
        shape=(S, C, T) for each.
    """
    options = SessionOptions(device="cpu", precision="float32", cache_dir=cache)
    model = open_model(folder)
    rate = model.manifest.audio.sample_rate
    with Separator.open(model, options=options) as separator:
        return [_separated(separator, item, rate) for item in items]


def _separated(separator: Separator, item: Example, rate: int) -> FloatArray:
    queries: tuple[StemQuery, ...] = ()
    if item.condition is not None:
        queries = (StemQuery(name="target", source=_Asked(item.condition)),)
    with separator.separate(ArraySource(item.mixture, rate), SeparationOptions(queries=queries)) as made:
        blocks = [np.stack(list(block.stems.values())) for block in made]
    return np.concatenate(blocks, axis=-1)


@dataclass(frozen=True)
class _Asked:
    """One condition for all windows."""

    vector: FloatArray

    def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray | None:
        return self.vector
