"""ResUNet30: what a condition asks for, by L1 of the waveform."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from stemwright.core.errors import InputError, OptionError
from stemwright.models.universal.architectures import PLAN
from stemwright.models.universal.configs import HOP, SAMPLE_RATE, ResUNetConfig
from stemwright.models.universal.network import ResUNet30
from stemwright.training.config import TrainConfig
from stemwright.training.data.batches import Batch
from stemwright.training.tasks.chunked import separate_in_chunks
from stemwright.training.tasks.objective import waveform_losses
from stemwright.training.tasks.scoring import Kind
from stemwright.training.tasks.sizes import named_variant, resized
from stemwright.training.tasks.task import Losses

VARIANTS: Mapping[str, ResUNetConfig] = MappingProxyType({"paper": ResUNetConfig()})


class UniversalTask:
    """Training of a ResUNet30: one target for each example, and its condition."""

    family = "universal"
    kind: Kind = "query"
    stems = ("target",)
    sample_rate = SAMPLE_RATE
    channels = 1

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        self.config = resized(named_variant(VARIANTS, model.variant, self.family), model.sizes, self.family)
        if model.stems:
            raise OptionError("stems of this family are asked for by a condition", "leave model.stems out")
        self._objective = config.objective
        kind = config.objective.kind
        self._loss = "l1" if kind == "default" else kind

    def segment_samples(self, seconds: float) -> int:
        """Whole hops."""
        return round(seconds * self.sample_rate / HOP) * HOP

    def network(self) -> nn.Module:
        """Make the network."""
        return ResUNet30(self.config)

    def loss(self, net: Callable[..., Tensor], batch: Batch) -> Losses:
        """Loss of a batch; raises InputError if it has no conditions of the network's size."""
        made = net(batch.mixture, self._condition(batch.condition))
        return waveform_losses(self._loss, self._objective, made[:, None], batch.targets)

    def separate(self, net: nn.Module, mixture: Tensor, condition: Tensor | None) -> Tensor:
        """Separate recordings in segments of 2 s, cross-faded."""
        asked = self._condition(condition)

        def segment(window: Tensor) -> Tensor:
            made: Tensor = net(window, asked)
            return made[:, None]

        return separate_in_chunks(segment, mixture, PLAN)

    def _condition(self, condition: Tensor | None) -> Tensor:
        size = self.config.condition_size
        if condition is None or condition.shape[-1] != size:
            found = "none" if condition is None else f"one of {condition.shape[-1]} values"
            raise InputError(
                f"the network takes a condition of {size} values, the data has {found}",
                "set model.sizes.condition_size, or take data with such conditions",
            )
        return condition
