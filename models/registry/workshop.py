"""From a checkpoint to a model folder that has passed its stored case."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Protocol

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint, content_digest, read_checkpoint
from stemwright.models.demucs.parity_case import find_case, run_parity
from stemwright.models.manifest import Licence, ParityRecord, Single, WeightsOrigin
from stemwright.models.registry.families import family_of
from stemwright.models.registry.model_files import finish_manifest
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.registry.trying import exact_session


class Weights(Protocol):
    """A checkpoint that was read."""

    @property
    def architecture(self) -> str:
        """Name of the architecture that its tensors belong to."""

    @property
    def content_sha256(self) -> str:
        """Digest over its tensors."""

    def build(self, folder: Path, *, name: str, licence: Licence) -> Single:
        """Write `model.onnx` and `manifest.json` into a folder; returns the manifest."""


class Workshop(Protocol):
    """Makes model folders of checkpoints."""

    def read(self, path: Path, *, like: str = "") -> Weights:
        """Read a checkpoint of any known form, or of the one told by `like`; raises ModelFileError."""

    def check(self, folder: Path, content_sha256: str) -> ParityRecord | None:
        """Run the stored case for these weights on a built folder.

        Parameters
        ----------
        folder
            The folder that was built.
        content_sha256
            Content digest by which the stored case is found: that of the weights which these have to
            behave like.

        Returns
        -------
        ParityRecord or None
            None if there is no case for them.

        Raises
        ------
        ModelFileError
            The model differs from the case.
        DeviceError
            No runtime is installed.
        """


class CheckpointWeights:
    """The weights of a checkpoint that there is an importer for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._family = family_of(checkpoint)
        self.architecture = self._family.architecture_of(checkpoint)
        self.content_sha256 = content_digest(checkpoint.tensors)

    def build(self, folder: Path, *, name: str, licence: Licence) -> Single:
        """Fill the shipped graph of the architecture."""
        return self._family.build(self._checkpoint, name=name, folder=folder, licence=licence)


class CheckpointWorkshop:
    """The workshop for all checkpoints that there are importers for.

    Parameters
    ----------
    like
        What the checkpoints are, in the words of `Family.variants`; empty: they say it themselves.
    """

    def __init__(self, like: str = "") -> None:
        self._like = like

    def read(self, path: Path, *, like: str = "") -> CheckpointWeights:
        """Read a checkpoint; its kind and architecture are told by its content, or by `like`.

        Raises
        ------
        ModelFileError
            The file is no checkpoint that there is an importer for.
        OptionError
            `like` is the name of nothing known.
        """
        return CheckpointWeights(dataclasses.replace(read_checkpoint(path), like=like or self._like))

    def check(self, folder: Path, content_sha256: str) -> ParityRecord | None:
        """Run the stored case in float32, on ONNX Runtime's CPU provider where it is installed."""
        # The case is found by the digest in the folder's manifest, which is finished later.
        manifest = finish_manifest(folder, origin=WeightsOrigin(content_sha256=content_sha256))
        if find_case(manifest) is None:
            return None
        model = open_model(folder)
        if not isinstance(model, InstalledModel):
            raise ModelFileError(f"{folder} is a bag, not a single model", "give a single model")
        with tempfile.TemporaryDirectory() as cache:
            session = exact_session(model, Path(cache))
            try:
                return run_parity(folder, session)
            finally:
                session.close()
