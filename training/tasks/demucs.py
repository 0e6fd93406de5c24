"""Demucs, all four versions: fixed stems by L1 of the waveform."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from stemwright.models.demucs.architectures import ARCHITECTURES, Architecture
from stemwright.models.demucs.configs import (
    HOP,
    SAMPLE_RATE,
    HDemucsConfig,
    HTDemucsConfig,
    NetworkConfig,
    PaperDemucsConfig,
    TimeDemucsConfig,
)
from stemwright.models.demucs.network import build_network
from stemwright.models.demucs.waveform.layers import trim_centre
from stemwright.models.demucs.waveform.lengths import valid_length
from stemwright.training.config import TrainConfig
from stemwright.training.data.batches import Batch
from stemwright.training.tasks.chunked import separate_in_chunks
from stemwright.training.tasks.conv_tasnet import normalised
from stemwright.training.tasks.objective import waveform_losses
from stemwright.training.tasks.scoring import Kind
from stemwright.training.tasks.sizes import named_variant, resized
from stemwright.training.tasks.task import Losses

VARIANTS: Mapping[str, NetworkConfig] = MappingProxyType(
    {
        "paper": PaperDemucsConfig(),
        "v1": PaperDemucsConfig(channels=100, resample=False),
        "v2": PaperDemucsConfig(),
        "v3": TimeDemucsConfig(),
        "hdemucs": HDemucsConfig(),
        "htdemucs": HTDemucsConfig(),
    }
)


class DemucsTask:
    """Training of a Demucs."""

    family = "demucs"
    kind: Kind = "stems"
    sample_rate = SAMPLE_RATE
    channels = 2

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        sizes = model.sizes | ({"sources": list(model.stems)} if model.stems else {})
        self.config = resized(named_variant(VARIANTS, model.variant, self.family), sizes, self.family)
        self.stems: tuple[str, ...] = self.config.sources
        self._segment_s = config.data.segment_s
        self._objective = config.objective
        kind = config.objective.kind
        self._loss = "l1" if kind == "default" else kind

    def segment_samples(self, seconds: float) -> int:
        """Length that no convolution leaves a rest of; of hybrid networks any."""
        samples = int(seconds * self.sample_rate)
        if isinstance(self.config, PaperDemucsConfig | TimeDemucsConfig):
            return valid_length(self.config, samples)
        return max(samples, 2 * HOP)

    def network(self) -> nn.Module:
        """Make the network."""
        return build_network(self.config)

    def loss(self, net: Callable[..., Tensor], batch: Batch) -> Losses:
        """Loss of a batch, on what the network gives back: of v1 and v2 the middle of the segment."""
        made = net(batch.mixture)
        targets = trim_centre(batch.targets, made.shape[-1])
        return waveform_losses(self._loss, self._objective, made, targets)

    def separate(self, net: nn.Module, mixture: Tensor, condition: Tensor | None) -> Tensor:
        """Separate recordings in segments of the length that is trained on."""
        del condition
        plan = self.architecture.plan

        def segment(window: Tensor) -> Tensor:
            made: Tensor = net(window)
            return trim_centre(made, plan.output_samples)

        return normalised(lambda whole: separate_in_chunks(segment, whole, plan), mixture)

    @property
    def architecture(self) -> Architecture:
        """What is exported: the network in segments of the length that it is trained on."""
        known = next(found for found in ARCHITECTURES.values() if type(found.config) is type(self.config))
        samples = int(self._segment_s * self.sample_rate)
        return dataclasses.replace(known, config=self.config, segment_samples=samples, graph_name="")
