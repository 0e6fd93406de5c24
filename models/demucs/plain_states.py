"""State dicts that do not say which network they are for: v2's, and torchaudio's."""

from collections.abc import Mapping

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.checkpoints.checkpoint import FloatArray
from stemwright.models.demucs.architectures import ARCHITECTURES, Architecture

# Names under which the authors publish them (facebookresearch/demucs, branch v2, demucs/pretrained.py).
_BY_FILE_NAME: Mapping[str, str] = {
    "demucs-e07c671f": "demucs_v2",
    "demucs_extra-3646af93": "demucs_v2",
    "demucs48_hq-28a1282c": "demucs_v2_48",
}
# torchaudio's HDemucs is the same network with other names ...
_TORCHAUDIO_PREFIXES: Mapping[str, str] = {
    "freq_encoder.": "encoder.",
    "freq_decoder.": "decoder.",
    "time_encoder.": "tencoder.",
    "time_decoder.": "tdecoder.",
}
# ... and two tensors that its forward never uses: of the layer in which the branches meet.
_TORCHAUDIO_UNUSED = ("time_encoder.4.norm1.weight", "time_encoder.4.norm1.bias")


def is_plain_demucs(checkpoint: Checkpoint) -> bool:
    """Tell whether a state dict without a class is known, by its file's or its tensors' names."""
    return not checkpoint.klass and (_is_torchaudio(checkpoint) or _file_known(checkpoint) is not None)


def plain_architecture(checkpoint: Checkpoint) -> Architecture:
    """Return the architecture of a state dict without a class.

    Raises
    ------
    ModelFileError
        Nothing says what it is.
    """
    if _is_torchaudio(checkpoint):
        return ARCHITECTURES["hdemucs"]
    known = _file_known(checkpoint)
    if known is None:
        raise ModelFileError(
            f"{checkpoint.file_name or 'the checkpoint'} does not say which network it is for",
            f"say so with --like, one of: {', '.join(ARCHITECTURES)}",
        )
    return ARCHITECTURES[known]


def renamed_tensors(checkpoint: Checkpoint) -> Mapping[str, FloatArray]:
    """Return a checkpoint's tensors under the names of the demucs package."""
    if not _is_torchaudio(checkpoint):
        return checkpoint.tensors
    return {
        _demucs_name(name): tensor
        for name, tensor in checkpoint.tensors.items()
        if name not in _TORCHAUDIO_UNUSED
    }


def _demucs_name(name: str) -> str:
    for theirs, ours in _TORCHAUDIO_PREFIXES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _is_torchaudio(checkpoint: Checkpoint) -> bool:
    return any(name.startswith("freq_encoder.") for name in checkpoint.tensors)


def _file_known(checkpoint: Checkpoint) -> str | None:
    for name, architecture in _BY_FILE_NAME.items():
        if checkpoint.file_name.startswith(name):
            return architecture
    return None
