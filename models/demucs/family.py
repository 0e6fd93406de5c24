"""Demucs as a family of importable checkpoints."""

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.demucs.architectures import ARCHITECTURES
from stemwright.models.demucs.building import build_model_folder
from stemwright.models.demucs.checkpoints import architecture_of
from stemwright.models.demucs.plain_states import is_plain_demucs
from stemwright.models.registry.family import Family


def _recognises(checkpoint: Checkpoint) -> bool:
    if checkpoint.klass == "demucs.tasnet.ConvTasNet":
        return False
    return checkpoint.klass.startswith("demucs.") or is_plain_demucs(checkpoint)


def _architecture_of(checkpoint: Checkpoint) -> str:
    return architecture_of(checkpoint).name


DEMUCS = Family(
    name="demucs",
    variants=tuple(ARCHITECTURES),
    recognises=_recognises,
    architecture_of=_architecture_of,
    build=build_model_folder,
)
