"""What the store gives: models, bags of models, taggers and embedders that are ready to be opened."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stemwright.models.manifest import Bag, Embedder, Manifest, Tagger


@dataclass(frozen=True, kw_only=True)
class InstalledModel:
    """A single model that is ready to be opened.

    Attributes
    ----------
    name
        Its name in the store, or the manifest's name for a path.
    folder
        The folder that holds its files.
    manifest
        Its validated manifest.
    graph_path
        The ONNX file.
    sha256
        SHA-256 of the ONNX file (hexadecimal): the identity of the weights in caches and results.
    """

    name: str
    folder: Path
    manifest: Manifest
    graph_path: Path
    sha256: str

    @property
    def parts(self) -> "tuple[InstalledModel, ...]":
        """The folders with files that it is made of: itself."""
        return (self,)


@dataclass(frozen=True, kw_only=True)
class InstalledMember:
    """A member of an installed bag and its weight for each stem of the bag."""

    model: InstalledModel
    weights: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class InstalledBag:
    """A bag whose members are all installed."""

    name: str
    folder: Path
    manifest: Bag
    members: tuple[InstalledMember, ...]

    @property
    def parts(self) -> tuple[InstalledModel, ...]:
        """The folders with files that it is made of: its members."""
        return tuple(member.model for member in self.members)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the members' hashes and weights: the identity of the bag in results."""
        lines = (f"{member.model.sha256} {json.dumps(member.weights)}\n" for member in self.members)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class InstalledTagger:
    """A tagger that is ready to be opened; attributes as InstalledModel."""

    name: str
    folder: Path
    manifest: Tagger
    graph_path: Path
    sha256: str

    @property
    def parts(self) -> "tuple[InstalledTagger, ...]":
        """The folders with files that it is made of: itself."""
        return (self,)


@dataclass(frozen=True, kw_only=True)
class InstalledEmbedder:
    """An embedder that is ready to be opened; attributes as InstalledModel."""

    name: str
    folder: Path
    manifest: Embedder
    graph_path: Path
    sha256: str

    @property
    def parts(self) -> "tuple[InstalledEmbedder, ...]":
        """The folders with files that it is made of: itself."""
        return (self,)


Installed = InstalledModel | InstalledBag
AnyInstalled = Installed | InstalledTagger | InstalledEmbedder
