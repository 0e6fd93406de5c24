"""Conv-TasNet: speakers by SI-SNR in any order, or fixed stems by L1."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from stemwright.core.errors import OptionError
from stemwright.models.conv_tasnet.configs import (
    ASTEROID,
    KAITUOXU,
    MUSIC,
    PAPER,
    PAPER_CAUSAL,
    TORCHAUDIO,
    ConvTasNetConfig,
)
from stemwright.models.conv_tasnet.network import ConvTasNet
from stemwright.models.conv_tasnet.plan import plan_of
from stemwright.training.config import TrainConfig
from stemwright.training.data.batches import Batch
from stemwright.training.tasks.chunked import separate_in_chunks
from stemwright.training.tasks.objective import waveform_losses
from stemwright.training.tasks.scoring import Kind
from stemwright.training.tasks.sizes import named_variant, resized
from stemwright.training.tasks.task import Losses

VARIANTS: Mapping[str, ConvTasNetConfig] = MappingProxyType(
    {
        "paper": PAPER,
        "causal": PAPER_CAUSAL,
        "music": MUSIC,
        "torchaudio": TORCHAUDIO,
        "asteroid": ASTEROID,
        "kaituoxu": KAITUOXU,
    }
)
MUSIC_STEMS = ("drums", "bass", "other", "vocals")


class ConvTasNetTask:
    """Training of a Conv-TasNet.

    Without named stems its outputs are speakers: SI-SNR, one order of the sources for each utterance. With
    them each output is its stem: L1, as for music.
    """

    family = "conv_tasnet"

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        base = named_variant(VARIANTS, model.variant, self.family)
        self.config = resized(base, model.sizes, self.family)
        named = model.stems or (MUSIC_STEMS if model.variant == "music" else ())
        if named and len(named) != self.config.sources:
            raise OptionError(
                f"a network of {self.config.sources} outputs cannot have the stems {', '.join(named)}",
                "name as many stems as model.sizes.sources says",
            )
        self.named_stems = named or None
        self.stems = named or tuple(f"speaker{index + 1}" for index in range(self.config.sources))
        self.kind: Kind = "stems" if named else "speakers"
        self.sample_rate = self.config.sample_rate
        self.channels = self.config.audio_channels
        self._objective = config.objective
        kind = config.objective.kind
        self._loss = kind if kind != "default" else "l1" if named else "si_snr"
        if self._loss != "si_snr" and not named:
            raise OptionError(
                f"{self._loss} would hold each speaker to one output", "take si_snr, or name model.stems"
            )

    def segment_samples(self, seconds: float) -> int:
        """Whole hops."""
        hop = self.config.hop
        return -(-round(seconds * self.sample_rate) // hop) * hop

    def network(self) -> nn.Module:
        """Make the network."""
        return ConvTasNet(self.config)

    def loss(self, net: Callable[..., Tensor], batch: Batch) -> Losses:
        """Loss of a batch."""
        return waveform_losses(self._loss, self._objective, net(batch.mixture), batch.targets)

    def separate(self, net: nn.Module, mixture: Tensor, condition: Tensor | None) -> Tensor:
        """Separate: speakers in one call, music in chunks of 8 s without the recording's mean and level."""
        del condition
        plan = plan_of(self.config, speakers=self.named_stems is None)
        if self.named_stems is not None:
            return normalised(lambda whole: separate_in_chunks(net, whole, plan), mixture)
        if mixture.shape[-1] > plan.input_samples:  # the engine would put speakers of chunks into one order
            raise OptionError(
                f"items of {mixture.shape[-1]} samples are longer than a call of the network",
                f"set data.valid_segment_s to at most {plan.input_samples / self.sample_rate:g}",
            )
        stems: Tensor = net(mixture)
        return stems


def normalised(separate: Callable[[Tensor], Tensor], mixture: Tensor) -> Tensor:
    """Separate recordings without the mean and deviation of their mono signal.

    Parameters
    ----------
    separate
        From shape=(B, C, T) to (B, S, C, T).
    mixture
        Whole recordings, shape=(B, C, T).
    """
    mono = mixture.mean(dim=1, keepdim=True)
    mean = mono.mean(dim=-1, keepdim=True)
    scale = mono.std(dim=-1, keepdim=True) + 1e-8
    stems = separate((mixture - mean) / scale)
    return stems * scale[:, None] + mean[:, None]
