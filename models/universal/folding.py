"""The tensors that a trained ResUNet30 serves with: norms folded into what stands beside them.

At rest a norm is x * scale + shift. The shift joins the condition's offset, the scale of a norm that
directly follows a convolution joins its weights, and all layers of the condition become one.
"""

from collections.abc import Mapping

import numpy as np

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import FloatArray
from stemwright.models.universal.configs import BINS, BN_EPSILON, ResUNetConfig, condition_layer

_REMEDY = "the file is not a checkpoint of this architecture"
_OTHER_LAYERS = (
    "base.pre_conv.weight",
    "base.pre_conv.bias",
    "base.after_conv.weight",
    "base.after_conv.bias",
)


def serving_tensors(tensors: Mapping[str, FloatArray], config: ResUNetConfig) -> dict[str, FloatArray]:
    """Fold a state dict.

    Parameters
    ----------
    tensors
        By the names of `ResUNet30`; those that nothing uses need not be there.
    config
        The network's sizes.

    Returns
    -------
    dict
        float32, by the names of `serving.serving_form`.

    Raises
    ------
    ModelFileError
        A tensor is missing, or does not fit the sizes.
    """
    state = _State(tensors)
    made: dict[str, FloatArray] = {name: state.take(name) for name in _OTHER_LAYERS}
    made["base.bn0.scale"], made["base.bn0.shift"] = _affine(state, "base.bn0", BINS)
    weights, biases = [], []
    for norm, channels in config.offsets:
        scale, shift = _affine(state, f"base.{norm}", channels)
        layer = f"film.{condition_layer(norm)}"
        weights.append(state.shaped(f"{layer}.weight", channels, config.condition_size))
        biases.append(state.shaped(f"{layer}.bias", channels) + shift)
        block, _, which = norm.rpartition(".")
        if which == "bn1":
            made[f"base.{norm}.scale"] = scale
            continue
        folded = state.kernels(f"base.{block}.conv1.weight", channels) * scale[:, None, None, None]
        made[f"base.{block}.conv1.weight"] = folded.astype(np.float32)
        made[f"base.{block}.conv2.weight"] = state.take(f"base.{block}.conv2.weight")
        for part in ("weight", "bias"):
            if f"base.{block}.shortcut.{part}" in tensors:
                made[f"base.{block}.shortcut.{part}"] = state.take(f"base.{block}.shortcut.{part}")
    for index in range(len(config.channels)):
        name = f"base.decoder_block{index + 1}.conv1.weight"
        made[name] = state.take(name)
    made["film.joint.weight"] = np.concatenate(weights)
    made["film.joint.bias"] = np.concatenate(biases)
    return {name: np.asarray(value, np.float32) for name, value in made.items()}


class _State:
    def __init__(self, tensors: Mapping[str, FloatArray]) -> None:
        self._tensors = tensors

    def take(self, name: str) -> FloatArray:
        """Return a tensor as it is; the graph checks its shape later."""
        if name not in self._tensors:
            raise ModelFileError(f"the checkpoint has no tensor {name}", _REMEDY)
        return self._tensors[name]

    def shaped(self, name: str, *shape: int) -> FloatArray:
        """Return a tensor of a shape."""
        value = self.take(name)
        if value.shape != shape:
            raise ModelFileError(
                f"tensor {name} of the checkpoint is {list(value.shape)}, not {list(shape)}", _REMEDY
            )
        return value

    def kernels(self, name: str, channels: int) -> FloatArray:
        """Return a 3x3 convolution's weights for so many outputs."""
        value = self.take(name)
        inputs = value.shape[1] if value.ndim > 1 else 0
        return self.shaped(name, channels, inputs, 3, 3)


def _affine(state: _State, norm: str, channels: int) -> tuple[FloatArray, FloatArray]:
    """Scale and shift of a norm at rest, in float64."""
    weight, mean, variance, bias = (
        state.shaped(f"{norm}.{part}", channels).astype(np.float64)
        for part in ("weight", "running_mean", "running_var", "bias")
    )
    if (variance < 0).any():
        raise ModelFileError(f"{norm}.running_var of the checkpoint is negative", "fetch the file again")
    scale = weight / np.sqrt(variance + BN_EPSILON)
    return scale, bias - mean * scale
