"""IBM-CNN: each bin of a spectrogram is voice or not; and its pretraining as an autoencoder."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemwright.core.errors import OptionError
from stemwright.models.ibm_cnn.configs import (
    FRAMES,
    HOP,
    N_FFT,
    SAMPLE_RATE,
    STEMS,
    WINDOW,
    IBMCNNConfig,
)
from stemwright.models.ibm_cnn.network import IBMCNN, MaskNetwork
from stemwright.training import objectives
from stemwright.training.config import TrainConfig
from stemwright.training.data.batches import Batch
from stemwright.training.tasks.scoring import Kind
from stemwright.training.tasks.sizes import named_variant, resized
from stemwright.training.tasks.task import Losses

VARIANTS: Mapping[str, IBMCNNConfig] = MappingProxyType({"paper": IBMCNNConfig()})
PATCH_HOP = FRAMES - 1  # of training: neighbours share one frame
_EDGE = WINDOW // 2 // HOP  # frames at either end of a segment that the window does not lie in as a whole


class IBMCNNTask:
    """Training of an IBM-CNN on magnitudes of mono signals; channels run one by one, as in the paper."""

    family = "ibm_cnn"
    kind: Kind = "stems"
    sample_rate = SAMPLE_RATE
    channels = 1

    def __init__(self, config: TrainConfig) -> None:
        model = config.model
        self.config = resized(named_variant(VARIANTS, model.variant, self.family), model.sizes, self.family)
        if self.config.mirror != "exact":
            raise OptionError("a network is trained with the exact inverse transform", "leave mirror out")
        if model.stems not in ((), STEMS):
            raise OptionError(f"the stems are {' and '.join(STEMS)}", "leave model.stems out")
        self.stems = STEMS
        self._pretrain = config.objective.kind == "autoencoder"

    def segment_samples(self, seconds: float) -> int:
        """Length that whole patches cut every eight frames fill."""
        patches = max(1, round((seconds * self.sample_rate / HOP - 2 * _EDGE - 1) / PATCH_HOP))
        return (patches * PATCH_HOP + 1 + 2 * _EDGE) * HOP

    def network(self) -> nn.Module:
        """Make the network."""
        return IBMCNN(self.config)

    def loss(self, net: Callable[..., Tensor], batch: Batch) -> Losses:
        """Cross-entropy of all patches of a batch."""
        with torch.autocast(batch.mixture.device.type, enabled=False):
            mixture = patches_of(magnitude(batch.mixture.flatten(0, 1).float()))
            voice, other = (
                patches_of(magnitude(batch.targets[:, stem].flatten(0, 1).float())) for stem in (0, 1)
            )
            mask = objectives.ideal_binary_mask(voice, other)
        if self._pretrain:
            ideal = mixture * mask
            return Losses(total=objectives.autoencoder_cross_entropy(net(ideal).float(), ideal.flatten(1)))
        return Losses(total=objectives.mask_cross_entropy(net(mixture).float(), mask.flatten(1)))

    def separate(self, net: nn.Module, mixture: Tensor, condition: Tensor | None) -> Tensor:
        """Voice by the centre frames' mask, values below theta set to zero; accompaniment is the rest."""
        del condition
        batch, channels, samples = mixture.shape
        spectrum = spectrum_of(mixture.flatten(0, 1))
        if not isinstance(net, IBMCNN):
            raise TypeError("not a network of this family")
        voice = torch.cat(
            [MaskNetwork(net)(one.abs()[None, None])[:, 0, 0] for one in spectrum]
        )  # one recording at a time: its patches are a batch by themselves
        voice = torch.where(voice < self.config.theta, 0.0, voice)
        vocals = waveform_of(spectrum * voice, samples).reshape(batch, channels, samples)
        return torch.stack([vocals, mixture - vocals], dim=1)


def spectrum_of(signals: Tensor) -> Tensor:
    """Compute the paper's transform, but for a sign of every second bin, shape=(B, 2049, ceil(T / 256))."""
    window = torch.hann_window(WINDOW, device=signals.device) / (WINDOW / 2)
    frames = -(-signals.shape[-1] // HOP)
    spectrum = torch.stft(
        signals, N_FFT, HOP, WINDOW, window, center=True, pad_mode="constant", return_complex=True
    )
    return spectrum[..., :frames]


def magnitude(signals: Tensor) -> Tensor:
    """Linear magnitudes of the frames that lie in the signals as a whole, shape=(B, N, 2049)."""
    frames = signals.shape[-1] // HOP - 2 * _EDGE
    return spectrum_of(signals).abs()[..., _EDGE : _EDGE + frames].transpose(1, 2)


def patches_of(frames: Tensor) -> Tensor:
    """Nine frames at a time, every eight: shape=(B, N, F) to (P, 1, 9, F)."""
    return frames.unfold(1, FRAMES, PATCH_HOP).flatten(0, 1).transpose(1, 2).unsqueeze(1)


def waveform_of(spectrum: Tensor, samples: int) -> Tensor:
    """Inverse: the middle of each frame's inverse DFT, times the hop, added up; shape=(B, samples)."""
    frames = torch.fft.irfft(spectrum.transpose(1, 2), N_FFT)
    start = (N_FFT - WINDOW) // 2
    middle = frames[..., start : start + WINDOW] * HOP
    length = (middle.shape[1] - 1) * HOP + WINDOW
    added = functional.fold(middle.transpose(1, 2), (1, length), (1, WINDOW), stride=(1, HOP))[:, 0, 0]
    return functional.pad(added[:, WINDOW // 2 :], (0, samples))[:, :samples]
