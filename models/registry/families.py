"""The families whose checkpoints can be imported, and which of them a checkpoint is of."""

from stemwright.core.errors import ModelFileError, OptionError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.conv_tasnet.family import CONV_TASNET
from stemwright.models.demucs.family import DEMUCS
from stemwright.models.embedders.cdpam.building import CDPAM
from stemwright.models.embedders.clap.building import CLAP
from stemwright.models.embedders.mert.building import MERT
from stemwright.models.embedders.music2latent.building import MUSIC2LATENT
from stemwright.models.embedders.vggish.building import VGGISH
from stemwright.models.ibm_cnn.building import IBM_CNN
from stemwright.models.registry.family import Family
from stemwright.models.taggers.cnn14.building import CNN14
from stemwright.models.universal.building import UNIVERSAL

FAMILIES: tuple[Family, ...] = (
    CONV_TASNET,
    DEMUCS,
    IBM_CNN,
    UNIVERSAL,
    CNN14,
    CDPAM,
    VGGISH,
    MERT,
    MUSIC2LATENT,
    CLAP,
)
"""In the order in which they are asked."""


def variants() -> tuple[str, ...]:
    """Return everything that `--like` takes."""
    return tuple(variant for family in FAMILIES for variant in family.variants)


def family_of(checkpoint: Checkpoint) -> Family:
    """Return the family that a checkpoint is of.

    Raises
    ------
    OptionError
        `Checkpoint.like` is the name of nothing known.
    ModelFileError
        No family knows the checkpoint.
    """
    if checkpoint.like:
        for family in FAMILIES:
            if checkpoint.like in family.variants:
                return family
        raise OptionError(
            f"no network is known as {checkpoint.like}", f"--like takes one of: {', '.join(variants())}"
        )
    for family in FAMILIES:
        if family.recognises(checkpoint):
            return family
    what = (
        f"its class {checkpoint.klass} is no network known here"
        if checkpoint.klass
        else ("it does not say which network it is for")
    )
    raise ModelFileError(
        f"the checkpoint cannot be placed: {what}",
        f"if you know what it is, say so with --like, one of: {', '.join(variants())}",
    )


def family_named(name: str) -> Family:
    """Return the family of a name; raises OptionError if there is none."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise OptionError(
        f"there is no family {name}", f"it is one of: {', '.join(family.name for family in FAMILIES)}"
    )
