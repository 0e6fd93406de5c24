"""Demucs, all four versions: fixed stems by L1 of the waveform."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn import functional

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
        self.segment_s = config.data.segment_s
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
        """Separate recordings no longer than a segment, each in the middle of one, as the engine does."""
        del condition
        samples = mixture.shape[-1]
        segment = int(self.segment_s * self.sample_rate)
        whole = self.segment_samples(self.segment_s)
        if samples > segment:
            raise ValueError(f"a recording of {samples} samples is longer than a segment of {segment}")

        def windowed(x: Tensor) -> Tensor:
            # The engine puts a short recording into the middle of the segment, and that into the window.
            before = (segment - samples) // 2 + (whole - segment) // 2
            padded = functional.pad(x, (before, whole - samples - before))
            made: Tensor = net(padded)
            skipped = before - (whole - made.shape[-1]) // 2
            return made[..., skipped : skipped + samples]

        return normalised(_Function(windowed), mixture)


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)
