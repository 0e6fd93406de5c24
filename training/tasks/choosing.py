"""The task of a configuration."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from stemwright.core.errors import OptionError
from stemwright.training.config import FamilyName, ObjectiveKind, TrainConfig
from stemwright.training.tasks.conv_tasnet import ConvTasNetTask
from stemwright.training.tasks.demucs import DemucsTask
from stemwright.training.tasks.ibm_cnn import IBMCNNTask
from stemwright.training.tasks.task import Task
from stemwright.training.tasks.universal import UniversalTask

_TASKS: Mapping[FamilyName, Callable[[TrainConfig], Task]] = MappingProxyType(
    {
        "conv_tasnet": ConvTasNetTask,
        "demucs": DemucsTask,
        "ibm_cnn": IBMCNNTask,
        "universal": UniversalTask,
    }
)
_OBJECTIVES: Mapping[FamilyName, tuple[ObjectiveKind, ...]] = MappingProxyType(
    {
        "conv_tasnet": ("default", "l1", "mse", "si_snr"),
        "demucs": ("default", "l1", "mse"),
        "ibm_cnn": ("default", "ideal_mask", "autoencoder"),
        "universal": ("default", "l1", "mse"),
    }
)


def task_of(config: TrainConfig) -> Task:
    """Return the task of a configuration.

    Raises
    ------
    OptionError
        A variant, size or objective that the family does not have.
    """
    family, kind = config.model.family, config.objective.kind
    if kind not in _OBJECTIVES[family]:
        raise OptionError(
            f"networks of {family} are not trained by {kind}",
            f"objective.kind is one of {', '.join(_OBJECTIVES[family])}",
        )
    return _TASKS[family](config)
