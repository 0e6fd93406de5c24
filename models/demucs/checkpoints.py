"""Which architecture a Demucs checkpoint is of, told by its class and its constructor's arguments."""

from collections.abc import Mapping

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.checkpoints.checkpoint import Value
from stemwright.models.demucs.architectures import ARCHITECTURES, Architecture
from stemwright.models.demucs.configs import (
    SAMPLE_RATE,
    HDemucsConfig,
    HTDemucsConfig,
    NetworkConfig,
    TimeDemucsConfig,
)
from stemwright.models.demucs.plain_states import plain_architecture

_KNOWN = "known are the released networks of demucs v2, v3 and v4, and what was trained with their settings"

_NONE = "a class of which no network has a graph"

# Defaults of the constructors of demucs 4.1.0 for all arguments that change what the network
# computes. Arguments that are not here do not (initialisation, training, dropout, the settings of
# switched-off parts), or do not exist: the reference drops those.
_SHARED_DEFAULTS: Mapping[str, Value] = {
    "audio_channels": 2,
    "channels": 48,
    "channels_time": None,
    "growth": 2,
    "nfft": 4096,
    "cac": True,
    "rewrite": True,
    "multi_freqs": None,
    "freq_emb": 0.2,
    "emb_scale": 10,
    "kernel_size": 8,
    "time_stride": 2,
    "stride": 4,
    "context": 1,
    "context_enc": 0,
    "norm_starts": 4,
    "norm_groups": 4,
    "dconv_mode": 1,
    "dconv_depth": 2,
    "samplerate": SAMPLE_RATE,
}
_HTDEMUCS_DEFAULTS: Mapping[str, Value] = {
    **_SHARED_DEFAULTS,
    "depth": 4,
    "dconv_comp": 8,
    "bottom_channels": 0,
    "t_layers": 5,
    "t_emb": "sin",
    "t_hidden_scale": 4.0,
    "t_heads": 8,
    "t_norm_in": True,
    "t_norm_in_group": False,
    "t_group_norm": False,
    "t_norm_first": True,
    "t_norm_out": True,
    "t_max_period": 10000.0,
    "t_layer_scale": True,
    "t_gelu": True,
    "t_weight_pos_embed": 1.0,
    "t_sin_random_shift": 0,
    "t_sparse_self_attn": False,
    "t_sparse_cross_attn": False,
    "t_cross_first": False,
}
_HDEMUCS_DEFAULTS: Mapping[str, Value] = {
    **_SHARED_DEFAULTS,
    "depth": 6,
    "hybrid": True,
    "hybrid_old": False,
    "dconv_comp": 4,
    "dconv_attn": 4,
    "dconv_lstm": 4,
}
_DEMUCS_DEFAULTS: Mapping[str, Value] = {
    "audio_channels": 2,
    "channels": 64,
    "growth": 2.0,
    "depth": 6,
    "rewrite": True,
    "lstm_layers": 0,
    "kernel_size": 8,
    "stride": 4,
    "context": 1,
    "gelu": True,
    "glu": True,
    "norm_starts": 4,
    "norm_groups": 4,
    "dconv_mode": 1,
    "dconv_depth": 2,
    "dconv_comp": 4,
    "dconv_attn": 4,
    "dconv_lstm": 4,
    "normalize": True,
    "resample": True,
    "samplerate": SAMPLE_RATE,
}
# Settings that the configurations in configs.py carry; all others have to be at their defaults.
_HTDEMUCS_FREE = (
    "channels",
    "depth",
    "bottom_channels",
    "t_layers",
    "t_hidden_scale",
    "t_heads",
    "dconv_comp",
)
_HDEMUCS_FREE = ("channels", "dconv_comp", "hybrid_old")
_DEMUCS_FREE = ("channels", "dconv_comp", "normalize", "resample")


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """Return the architecture whose graph a checkpoint's weights fit.

    Raises
    ------
    ModelFileError
        There is no graph for this network; the message tells the setting that differs. Or the
        checkpoint is not of the network that the user says it is of.
    """
    if checkpoint.like:
        return _as_told(checkpoint)
    if not checkpoint.klass:
        return plain_architecture(checkpoint)
    config = config_of(checkpoint)
    for architecture in ARCHITECTURES.values():
        if not _differing(config, architecture):
            return architecture
    raise ModelFileError(
        f"no graph is shipped for this {checkpoint.klass.rpartition('.')[2]} ({_difference(config)})", _KNOWN
    )


def _as_told(checkpoint: Checkpoint) -> Architecture:
    architecture = ARCHITECTURES[checkpoint.like]
    if checkpoint.klass and (differing := _differing(config_of(checkpoint), architecture)):
        raise ModelFileError(
            f"the checkpoint says that it is not {checkpoint.like}: {differing[0]}", "leave --like out"
        )
    return architecture


def sources_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the stems of a checkpoint; raises ModelFileError as config_of does."""
    config = config_of(checkpoint) if checkpoint.klass else architecture_of(checkpoint).config
    return config.sources


def config_of(checkpoint: Checkpoint) -> NetworkConfig:
    """Return the configuration that a checkpoint's class and arguments stand for.

    Raises
    ------
    ModelFileError
        A class or a setting that the networks here do not have.
    """
    name = checkpoint.klass.rpartition(".")[2]
    if name == "HTDemucs":
        given = _settings(checkpoint, _HTDEMUCS_DEFAULTS, (*_HTDEMUCS_FREE, "dconv_mode"))
        return HTDemucsConfig(
            sources=_sources(checkpoint),
            channels=_whole(given, "channels"),
            depth=_whole(given, "depth"),
            bottom_channels=_whole(given, "bottom_channels"),
            transformer_layers=_whole(given, "t_layers"),
            heads=_whole(given, "t_heads"),
            hidden_scale=_whole(given, "t_hidden_scale"),
            compression=_whole(given, "dconv_comp"),
            decoder_branch=_decoder_branch(given),
        )
    if checkpoint.klass == "demucs.demucs.Demucs":
        given = _settings(checkpoint, _DEMUCS_DEFAULTS, (*_DEMUCS_FREE, "dconv_mode"))
        return TimeDemucsConfig(
            sources=_sources(checkpoint),
            channels=_whole(given, "channels"),
            compression=_whole(given, "dconv_comp"),
            decoder_branch=_decoder_branch(given),
            normalise=bool(given["normalize"]),
            resample=bool(given["resample"]),
        )
    if name in ("HDemucs", "WDemucs"):
        given = _settings(checkpoint, _HDEMUCS_DEFAULTS, (*_HDEMUCS_FREE, "dconv_mode"))
        return HDemucsConfig(
            sources=_sources(checkpoint),
            channels=_whole(given, "channels"),
            compression=_whole(given, "dconv_comp"),
            decoder_branch=_decoder_branch(given),
            early_inverse=bool(given["hybrid_old"]),
        )
    raise ModelFileError(f"{checkpoint.klass or 'the checkpoint'} is no network known here", _KNOWN)


def _arguments(checkpoint: Checkpoint) -> dict[str, Value]:
    if len(checkpoint.args) > 1:
        raise ModelFileError("the checkpoint's network was built with arguments by position", _KNOWN)
    given = dict(checkpoint.kwargs)
    if checkpoint.args:
        given.setdefault("sources", checkpoint.args[0])
    return given


def _settings(
    checkpoint: Checkpoint, defaults: Mapping[str, Value], free: tuple[str, ...]
) -> dict[str, Value]:
    given = {key: value for key, value in _arguments(checkpoint).items() if key in defaults}
    for key, value in given.items():
        # `multi_freqs` and its like are switched off by null, 0 and an empty list alike
        if key not in free and value != defaults[key] and (value or defaults[key]):
            raise ModelFileError(
                f"the checkpoint's network has {key} = {value!r}, which has no graph here", _KNOWN
            )
    return {**defaults, **given}


def _sources(checkpoint: Checkpoint) -> tuple[str, ...]:
    sources = _arguments(checkpoint).get("sources")
    if not isinstance(sources, (list, tuple)) or not sources:
        raise ModelFileError("the checkpoint does not name its stems", _KNOWN)
    names = tuple(source for source in sources if isinstance(source, str) and 0 < len(source) <= 64)
    if len(names) != len(sources) or len(set(names)) != len(names):
        raise ModelFileError("the checkpoint's stems have no proper names", _KNOWN)
    return names


def _whole(given: Mapping[str, Value], key: str) -> int:
    value = given[key]
    if isinstance(value, (int, float)) and 0 <= value < 1 << 20 and value == int(value):
        return int(value)
    raise ModelFileError(f"the checkpoint's network has {key} = {value!r}, which has no graph here", _KNOWN)


def _decoder_branch(given: Mapping[str, Value]) -> bool:
    mode = _whole(given, "dconv_mode")
    if mode not in (1, 3):
        raise ModelFileError(
            f"the checkpoint's network has dconv_mode = {mode}, which has no graph here", _KNOWN
        )
    return mode == 3


def _difference(config: NetworkConfig) -> str:
    """Tell the first setting in which a configuration differs from the nearest one known."""
    same_class = (a for a in ARCHITECTURES.values() if type(a.config) is type(config))
    return min((_differing(config, architecture) for architecture in same_class), key=len, default=[_NONE])[0]


def _differing(config: NetworkConfig, architecture: Architecture) -> list[str]:
    """List the settings that make the graph another one; of the stems only their number does."""
    if type(config) is not type(architecture.config):
        return ["another class"]
    known = vars(architecture.config)
    stems = [] if len(config.sources) == len(known["sources"]) else [f"{len(config.sources)} stems"]
    return stems + [
        f"{key} = {value}" for key, value in vars(config).items() if key != "sources" and value != known[key]
    ]
