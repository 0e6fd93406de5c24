"""Demucs as a family of importable checkpoints."""

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.demucs.building import build_model_folder
from stemwright.models.demucs.checkpoints import architecture_of
from stemwright.models.registry.family import Family


def _recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.klass.startswith("demucs.")


def _architecture_of(checkpoint: Checkpoint) -> str:
    return architecture_of(checkpoint).name


DEMUCS = Family(
    name="demucs", recognises=_recognises, architecture_of=_architecture_of, build=build_model_folder
)
