"""Checkpoints of ResUNet30: ours, and those of bytedance/uss, whose file holds much more."""

from collections.abc import Mapping

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.checkpoints.checkpoint import FloatArray
from stemwright.models.universal.configs import KLASS, ResUNetConfig, condition_layer

RELEASED = "uss"
_PREFIX = "ss_model."
_FIRST_LAYER = f"film.{condition_layer(ResUNetConfig().offsets[0][0])}.weight"


def recognises(checkpoint: Checkpoint) -> bool:
    """Tell by the class, or by the odd names of the condition's layers, whether it is a ResUNet30."""
    return checkpoint.klass == KLASS or any(
        name in checkpoint.tensors for name in (_FIRST_LAYER, _PREFIX + _FIRST_LAYER)
    )


def tensors_of(checkpoint: Checkpoint) -> Mapping[str, FloatArray]:
    """Return the separator's tensors, without the taggers that the released file holds too."""
    own = {
        name.removeprefix(_PREFIX): value
        for name, value in checkpoint.tensors.items()
        if name.startswith(_PREFIX)
    }
    return own or checkpoint.tensors


def config_of(checkpoint: Checkpoint) -> ResUNetConfig:
    """Return the configuration of a checkpoint's network.

    Raises
    ------
    ModelFileError
        The condition's size cannot be told, or a setting is none that a ResUNet30 has.
    """
    default, given = ResUNetConfig(), dict(checkpoint.kwargs)
    unknown = sorted(set(given) - set(default.arguments()))
    if unknown:
        raise ModelFileError(
            f"the checkpoint has a setting {unknown[0]}, which is not known here", "use a later stemwright"
        )
    if given.get("channels", list(default.channels)) not in (list(default.channels), default.channels):
        raise ModelFileError(
            f"no graph is shipped for a ResUNet30 with channels {given['channels']}",
            "export it where it was trained: stemwright.models.universal.export",
        )
    layer = tensors_of(checkpoint).get(_FIRST_LAYER)
    if layer is None or layer.ndim != 2:
        raise ModelFileError(
            f"the checkpoint has no layer of the condition ({_FIRST_LAYER})",
            "give the separator's checkpoint, not a tagger's",
        )
    size, tagger = layer.shape[1], given.get("tagger", "")
    if given.get("condition_size", size) != size or not isinstance(tagger, str):
        raise ModelFileError(
            f"the checkpoint says condition_size = {given.get('condition_size')!r} and tagger = {tagger!r}, "
            f"its tensors have {size}",
            "fetch the file again",
        )
    return ResUNetConfig(condition_size=size, tagger=tagger)
