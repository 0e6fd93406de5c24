"""From the names and shapes of other implementations to our own (`configs.tensor_shapes`)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.conv_tasnet.configs import ConvTasNetConfig, tensor_shapes
from stemwright.models.conv_tasnet.origins import Variant

_MODULES = ("expand", "prelu1", "norm1", "depthwise", "prelu2", "norm2", "residual", "skip")


def renamed_tensors(variant: Variant, tensors: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return a checkpoint's tensors by our names and in our shapes.

    Parameters
    ----------
    variant
        What the checkpoint is.
    tensors
        By the names of its own implementation.

    Raises
    ------
    ModelFileError
        A tensor is missing, left over or of another size.
    """
    config = variant.config
    if variant.naming == "stemwright":
        return dict(tensors)
    names = {"torchaudio": _torchaudio, "asteroid": _asteroid, "kaituoxu": _kaituoxu}[variant.naming](config)
    result: dict[str, FloatArray] = {}
    used: set[str] = set()
    for name, shape in tensor_shapes(config).items():
        source = names.of(name)
        if source not in tensors:
            raise ModelFileError(f"the checkpoint has no tensor {source}", "check that the file is whole")
        used.add(source)
        value = tensors[source]
        if value.size != int(np.prod(shape)):
            raise ModelFileError(
                f"{source} of the checkpoint has shape {value.shape}, its network {shape}",
                "check that the file is whole, and that it is what --like says",
            )
        result[name] = _decoder(config, value) if source == _LINEAR else value.reshape(shape)
    left = sorted(set(tensors) - used)
    if left:
        raise ModelFileError(
            f"the checkpoint's tensor {left[0]} is not part of this network",
            "check that it is what --like says",
        )
    return result


_LINEAR = "decoder.basis_signals.weight"


def _decoder(config: ConvTasNetConfig, value: FloatArray) -> FloatArray:
    """Turn a linear layer N -> A L with overlap-add into the filters of a transposed convolution."""
    rows = (config.audio_channels, config.filter_length, config.filters)
    return np.ascontiguousarray(value.reshape(rows).transpose(2, 0, 1))


@dataclass(frozen=True, kw_only=True)
class _Names:
    """Names of one implementation.

    Parameters
    ----------
    modules
        Its name for each of our modules outside the blocks, or for a tensor as a whole.
    block
        Its prefix for block i.
    inner
        Its names for the modules of a block.
    affine
        Its names of a norm's gain and bias.
    """

    modules: Mapping[str, str]
    block: Callable[[int], str]
    inner: Mapping[str, str]
    affine: tuple[str, str]

    def of(self, name: str) -> str:
        """Return its name for a tensor of ours."""
        if name in self.modules:
            return self.modules[name]
        module, _, tensor = name.rpartition(".")
        last = module.rpartition(".")[2]
        if "norm" in last:
            tensor = self.affine[0 if tensor == "gain" else 1]
        if module.startswith("blocks."):
            return f"{self.block(int(module.split('.')[1]))}.{self.inner[last]}.{tensor}"
        return f"{self.modules[module]}.{tensor}"


def _torchaudio(_config: ConvTasNetConfig) -> _Names:
    inner = dict(zip(_MODULES, [*_numbered("conv_layers", range(6)), "res_out", "skip_out"], strict=True))
    return _Names(
        modules={
            "encoder": "encoder",
            "decoder": "decoder",
            "input_norm": "mask_generator.input_norm",
            "bottleneck": "mask_generator.input_conv",
            "mask_prelu": "mask_generator.output_prelu",
            "mask": "mask_generator.output_conv",
        },
        block=lambda index: f"mask_generator.conv_layers.{index}",
        inner=inner,
        affine=("weight", "bias"),
    )


def _asteroid(config: ConvTasNetConfig) -> _Names:
    inner = dict(zip(_MODULES, [*_numbered("shared_block", range(6)), "res_conv", "skip_conv"], strict=True))
    if config.causal:  # there it stands in front of what cuts its end
        inner["depthwise"] += ".0"
    return _Names(
        modules={
            "encoder.weight": "encoder.filterbank._filters",
            "decoder.weight": "decoder.filterbank._filters",
            "input_norm": "masker.bottleneck.0",
            "bottleneck": "masker.bottleneck.1",
            "mask_prelu": "masker.mask_net.0",
            "mask": "masker.mask_net.1",
        },
        block=lambda index: f"masker.TCN.{index}",
        inner=inner,
        affine=("gamma", "beta"),
    )


def _kaituoxu(config: ConvTasNetConfig) -> _Names:
    # A causal depthwise convolution is followed by a module without tensors that cuts its end.
    places = (0, 2, 3, 4) if config.causal else (0, 1, 2, 3)
    inner = [*_numbered("net", range(3)), *_numbered("net.3.net", places)]
    modules = [name for name in _MODULES if name != "skip"]
    return _Names(
        modules={
            "encoder": "encoder.conv1d_U",
            "decoder.weight": _LINEAR,
            "input_norm": "separator.network.0",
            "bottleneck": "separator.network.1",
            "mask": "separator.network.3",
        },
        block=lambda index: "separator.network.2.{}.{}".format(*divmod(index, config.blocks)),
        inner=dict(zip(modules, inner, strict=True)),
        affine=("gamma", "beta"),
    )


def _numbered(name: str, places: range | tuple[int, ...]) -> Iterator[str]:
    return (f"{name}.{place}" for place in places)
