"""What a family of models has to say so that checkpoints of it can be imported."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import Licence, Single, WeightsOrigin


class BuildFolder(Protocol):
    """Writes the model folder of a checkpoint."""

    def __call__(
        self,
        checkpoint: Checkpoint,
        *,
        name: str,
        folder: Path,
        storage: Storage = ...,
        licence: Licence = ...,
        origin: WeightsOrigin | None = ...,
    ) -> Single:
        """Write `model.onnx` and `manifest.json` into an existing folder.

        Parameters
        ----------
        checkpoint
            Weights of this family.
        name
            Name of the model.
        folder
            Where the files go.
        storage
            How large constants are stored.
        licence
            Terms of the weights.
        origin
            Where they came from; the content digest is filled in by the builder.

        Raises
        ------
        ModelFileError
            There is no graph for this network, or a tensor does not fit it.
        OutputError
            The folder cannot be written.
        """


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models.

    Attributes
    ----------
    name
        As in manifests.
    variants
        What `--like` takes for a checkpoint that does not say itself what it is; a checkpoint for which it
        was given carries it as `Checkpoint.like`.
    recognises
        Tells by a checkpoint's origin (class, facts, names of tensors, name of the file), never by shapes
        that variants share, whether it is of this family. Not asked where `--like` was given.
    architecture_of
        Name of the network that a checkpoint of this family is for; raises ModelFileError if there is no
        graph for it.
    build
        Makes the model folder.
    """

    name: str
    variants: tuple[str, ...] = ()
    recognises: Callable[[Checkpoint], bool]
    architecture_of: Callable[[Checkpoint], str]
    build: BuildFolder
