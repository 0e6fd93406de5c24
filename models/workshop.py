"""From a checkpoint to a model folder that has passed its stored case."""

from pathlib import Path
from typing import Protocol

from stemwright.models.manifest import Licence, ParityRecord


class Weights(Protocol):
    """A checkpoint that was read."""

    @property
    def architecture(self) -> str:
        """Name of the architecture that its tensors belong to."""

    @property
    def content_sha256(self) -> str:
        """Digest over its tensors."""

    def build(self, folder: Path, *, name: str, licence: Licence) -> None:
        """Write `model.onnx` and `manifest.json` into a folder."""


class Workshop(Protocol):
    """Makes model folders of checkpoints."""

    def read(self, path: Path) -> Weights:
        """Read a checkpoint of any known form; raises ModelFileError."""

    def check(self, folder: Path) -> ParityRecord | None:
        """Run the stored case of a built folder; raises ModelFileError if it fails, None if it has none."""


class CheckpointWorkshop:
    """The workshop for all checkpoints that there are importers for."""

    def read(self, path: Path) -> Weights:
        raise NotImplementedError

    def check(self, folder: Path) -> ParityRecord | None:
        raise NotImplementedError
