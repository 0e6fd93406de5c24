"""What a Conv-TasNet checkpoint says of itself, or what the user says of it: its variant.

Networks that sound quite different share all shapes (masks by ReLU or sigmoid, norms over a frame or
over all frames so far, 8 or 16 kHz), so that a variant is read from the file's own words or from
`--like`, and is never guessed from shapes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.checkpoints.checkpoint import Value
from stemwright.models.conv_tasnet.configs import (
    ASTEROID,
    KAITUOXU,
    MUSIC,
    TORCHAUDIO,
    ConvTasNetConfig,
    MaskActivation,
    NormKind,
)

Naming = Literal["stemwright", "torchaudio", "asteroid", "kaituoxu"]
"""Whose names the tensors bear; demucs has kept kaituoxu's."""

MUSIC_STEMS = ("drums", "bass", "other", "vocals")
_MUSIC_FILES = ("tasnet-beb46fac.th", "tasnet_extra-df3777b2.th")
_MUSIC_CLASS = "demucs.tasnet.ConvTasNet"
_MARKS: Mapping[Naming, str] = {
    "torchaudio": "mask_generator.input_conv.weight",
    "asteroid": "encoder.filterbank._filters",
    "kaituoxu": "encoder.conv1d_U.weight",
}
"""A tensor that each naming has, and no other."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a checkpoint is.

    Parameters
    ----------
    naming
        Names of its tensors.
    config
        Its configuration.
    stems
        Names of its outputs where each has its own; None where the outputs are speakers.
    """

    naming: Naming
    config: ConvTasNetConfig
    stems: tuple[str, ...] | None = None


_RATES = {"": 8000, "-8k": 8000, "-16k": 16_000}
LIKE = (
    *(f"torchaudio{mask}{rate}" for mask in ("", "-sigmoid") for rate in ("", "-16k")),
    "asteroid-8k",
    "asteroid-16k",
    "kaituoxu-8k",
    "kaituoxu-16k",
    "demucs-tasnet",
)
"""What `--like` takes. `torchaudio`: `conv_tasnet_base`, whose masks are made by ReLU, at 8 kHz, as in its
pipeline; `torchaudio-sigmoid`: the class with its own default. The others only add what a file leaves
open: a sample rate, or that it is the music network of demucs v2."""


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint is a Conv-TasNet, by its class, its name or its tensors' names."""
    if checkpoint.klass:
        return checkpoint.klass == _MUSIC_CLASS
    named = checkpoint.facts.get("model_name")
    return named == "ConvTasNet" or (named is None and _naming(checkpoint) is not None)


def variant_of(checkpoint: Checkpoint) -> Variant:
    """Find out what a checkpoint is.

    Raises
    ------
    ModelFileError
        It leaves open what `--like` has to say, contradicts it, or is of a kind that there is no graph for.
    """
    naming = _naming(checkpoint)
    like, _, _ = checkpoint.like.partition("-")
    wanted = "kaituoxu" if checkpoint.like == "demucs-tasnet" else like
    if naming is None or (wanted and naming != wanted):
        raise ModelFileError(
            f"the checkpoint's tensors are not named as those of {checkpoint.like or 'a Conv-TasNet'}",
            "give another --like, or leave it out",
        )
    if naming == "torchaudio":
        return _torchaudio(checkpoint)
    if naming == "asteroid":
        return _asteroid(checkpoint)
    if checkpoint.klass == _MUSIC_CLASS:
        return _demucs_package(checkpoint)
    if checkpoint.like == "demucs-tasnet" or checkpoint.file_name in _MUSIC_FILES:
        return Variant(naming="kaituoxu", config=MUSIC, stems=MUSIC_STEMS)
    return _kaituoxu(checkpoint)


def _naming(checkpoint: Checkpoint) -> Naming | None:
    found = [naming for naming, mark in _MARKS.items() if mark in checkpoint.tensors]
    return found[0] if len(found) == 1 else None


def _torchaudio(checkpoint: Checkpoint) -> Variant:
    if not checkpoint.like:
        raise ModelFileError(
            "a state dict of torchaudio's ConvTasNet does not say how its masks are made",
            "add --like torchaudio for conv_tasnet_base and its pipelines (ReLU, 8 kHz), or "
            f"{', '.join(name for name in LIKE if name.startswith('torchaudio-'))}",
        )
    rows = checkpoint.tensors["mask_generator.input_conv.weight"].shape[1:2]
    outputs = checkpoint.tensors.get("mask_generator.output_conv.bias")
    if rows != (TORCHAUDIO.filters,) or outputs is None or outputs.size % TORCHAUDIO.filters:
        raise ModelFileError(
            "the checkpoint is not of the size of torchaudio's conv_tasnet_base",
            "only networks of that size can be imported from a plain state dict",
        )
    mask: MaskActivation = "sigmoid" if "sigmoid" in checkpoint.like else "relu"
    config = dataclasses.replace(
        TORCHAUDIO, mask=mask, sources=outputs.size // TORCHAUDIO.filters, sample_rate=_rate(checkpoint)
    )
    return Variant(naming="torchaudio", config=config)


def _rate(checkpoint: Checkpoint) -> int:
    """Sample rate of a `--like`, 8 kHz where it names none."""
    return next(rate for end, rate in reversed(_RATES.items()) if checkpoint.like.endswith(end))


def _asteroid(checkpoint: Checkpoint) -> Variant:
    given = checkpoint.facts.get("model_args")
    if checkpoint.facts.get("model_name") != "ConvTasNet" or not isinstance(given, dict):
        raise ModelFileError(
            "the checkpoint has asteroid's names, but not its model_name ConvTasNet with model_args",
            "use the file that asteroid's serialize() or a model card gives",
        )
    read = _Arguments(given)
    read.expect("fb_name", ("free", "FreeFB"), "free")
    kernel = read.whole("kernel_size", 16)
    read.expect("stride", (kernel // 2,), 8)
    filters = read.whole("n_filters", 512)
    read.expect("in_chan", (filters, None), None)
    read.expect("out_chan", (filters, None), None)
    causal = read.flag("causal", default=False)
    norm = read.choice("norm_type", _ASTEROID_NORMS, "gLN")
    if causal and norm == "global":
        norm = "channel"  # what asteroid does, with a warning
    config = read.config(
        lambda: dataclasses.replace(
            ASTEROID,
            filters=filters,
            filter_length=kernel,
            bottleneck=read.whole("bn_chan", 128),
            hidden=read.whole("hid_chan", 512),
            skip=read.whole("skip_chan", 128),
            kernel=read.whole("conv_kernel_size", 3),
            blocks=read.whole("n_blocks", 8),
            repeats=read.whole("n_repeats", 3),
            sources=read.whole("n_src", None),
            sample_rate=_stated_rate(checkpoint, read.given("sample_rate"), "asteroid"),
            norm=norm,
            input_norm=norm,
            mask=read.choice("mask_act", _MASKS, "sigmoid"),
            encoder_activation=read.choice("encoder_activation", _ENCODERS, None),
            causal=causal,
        )
    )
    return Variant(naming="asteroid", config=config)


def _kaituoxu(checkpoint: Checkpoint) -> Variant:
    if not {"N", "L", "B", "H", "P", "X", "R", "C", "norm_type", "causal"} <= set(checkpoint.facts):
        raise ModelFileError(
            "the checkpoint does not say which Conv-TasNet it is of",
            "add --like demucs-tasnet if it is the music network of demucs v2",
        )
    return Variant(
        naming="kaituoxu",
        config=_sized(
            _Arguments(checkpoint.facts),
            KAITUOXU,
            sources=("C", None),
            sample_rate=_stated_rate(checkpoint, None, "kaituoxu"),
        ),
    )


def _demucs_package(checkpoint: Checkpoint) -> Variant:
    read = _Arguments({**dict(zip(_DEMUCS_ORDER, checkpoint.args, strict=False)), **checkpoint.kwargs})
    sources = read.given("sources")
    if not isinstance(sources, list | tuple) or not all(isinstance(name, str) for name in sources):
        raise ModelFileError("the checkpoint does not name its sources", "use the file as demucs wrote it")
    config = _sized(
        read,
        MUSIC,
        sources=("", len(sources)),
        sample_rate=read.whole("samplerate", 44_100),
        audio_channels=read.whole("audio_channels", 2),
    )
    return Variant(naming="kaituoxu", config=config, stems=tuple(str(name) for name in sources))


_DEMUCS_ORDER = (
    *("sources", "N", "L", "B", "H", "P", "X", "R", "audio_channels"),
    *("norm_type", "causal", "mask_nonlinear", "samplerate", "segment_length"),
)


def _sized(
    read: "_Arguments",
    base: ConvTasNetConfig,
    *,
    sources: tuple[str, int | None],
    sample_rate: int,
    audio_channels: int = 1,
) -> ConvTasNetConfig:
    """Return a configuration in kaituoxu's letters; defaults are those of demucs' class."""
    return read.config(
        lambda: dataclasses.replace(
            base,
            filters=read.whole("N", 256),
            filter_length=read.whole("L", 20),
            bottleneck=read.whole("B", 256),
            hidden=read.whole("H", 512),
            kernel=read.whole("P", 3),
            blocks=read.whole("X", 8),
            repeats=read.whole("R", 4),
            sources=read.whole(*sources),
            sample_rate=sample_rate,
            audio_channels=audio_channels,
            norm=read.choice("norm_type", _KAITUOXU_NORMS, "gLN"),
            mask=read.choice("mask_nonlinear", _MASKS, "relu"),
            causal=read.flag("causal", default=False),
        )
    )


def _stated_rate(checkpoint: Checkpoint, stated: Value, origin: str) -> int:
    """Sample rate that the file states, or the user for a file that states none."""
    said = _rate(checkpoint) if checkpoint.like else None
    if isinstance(stated, int | float) and stated == int(stated) and stated > 0:
        if said not in (None, int(stated)):
            raise ModelFileError(
                f"the checkpoint is for {stated:g} Hz, not for {said}", "leave --like out, or correct it"
            )
        return int(stated)
    if said is None:
        raise ModelFileError(
            "the checkpoint does not say its sample rate",
            f"add --like {origin}-8k or --like {origin}-16k",
        )
    return said


_MASKS: Mapping[Value, MaskActivation] = {
    "sigmoid": "sigmoid",
    "relu": "relu",
    "softmax": "softmax",
    "linear": "linear",
}
_ENCODERS: Mapping[Value, Literal["linear", "relu"]] = {None: "linear", "linear": "linear", "relu": "relu"}
# The same name means a norm of one frame to both, while the paper's cLN is asteroid's cgLN.
_ASTEROID_NORMS: Mapping[Value, NormKind] = {"gLN": "global", "cLN": "channel", "cgLN": "cumulative"}
_KAITUOXU_NORMS: Mapping[Value, NormKind] = {"gLN": "global", "cLN": "channel"}


_Kind = TypeVar("_Kind", bound=str)


@dataclass(frozen=True)
class _Arguments:
    """Arguments of a network's class as the checkpoint tells them."""

    values: Mapping[str, Value]

    def given(self, name: str, default: Value = None) -> Value:
        return self.values.get(name, default)

    def whole(self, name: str, default: int | None) -> int:
        value = self.given(name, default)
        if value is None and name == "skip_chan":
            return 0
        if type(value) is not int:
            raise _unknown(name, value)
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.given(name, default)
        if value not in (0, 1, False, True):  # kaituoxu's command line has numbers
            raise _unknown(name, value)
        return bool(value)

    def choice(self, name: str, known: Mapping[Value, _Kind], default: Value) -> _Kind:
        value = self.given(name, default)
        if isinstance(value, list | dict) or value not in known:
            raise _unknown(name, value)
        return known[value]

    def expect(self, name: str, allowed: tuple[Value, ...], default: Value) -> None:
        if self.given(name, default) not in allowed:
            raise _unknown(name, self.given(name, default))

    def config(self, make: Callable[[], ConvTasNetConfig]) -> ConvTasNetConfig:
        try:
            return make()
        except ValueError as error:
            raise ModelFileError(
                f"the checkpoint's configuration makes no network: {error}", "fetch the file again"
            ) from error


def _unknown(name: str, value: Value) -> ModelFileError:
    return ModelFileError(
        f"the checkpoint's network has {name} = {value!r:.60}, which has no graph here",
        "known are free filter banks, a stride of half the filter, and the norms and masks of docs/models.md",
    )
