"""Pulling without real weights: checkpoints and a workshop that build tiny models."""

import dataclasses
import hashlib
import json
from pathlib import Path

from stemwright.core.errors import (
    ModelFileError,
)
from stemwright.models.manifest import Licence, Manifest, ParityRecord
from stemwright.models.registry.catalog import (
    HTDEMUCS,
    CatalogModel,
    WebSource,
)
from stemwright.models.registry.downloads import Patience, Progress, ProgressCallback
from stemwright.models.registry.model_files import finish_manifest
from stemwright.models.registry.pull import PullOptions, pull
from stemwright.models.registry.sources import SourceSettings
from stemwright.models.registry.store import Installed, InstalledModel, ModelStore, separating
from stemwright.models.registry.terms import accept_all
from stemwright.models.registry.workshop import Weights
from tests.support.model_host import ModelHost
from tests.support.tiny_models import install_tiny_model


def checkpoint(gain: float) -> bytes:
    """A checkpoint of the tiny workshop: bytes whose content digest is their own SHA-256."""
    return json.dumps([gain] * 4).encode() + b" " * 200_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


GOOD = checkpoint(0.5)
OTHER = checkpoint(0.7)


class TinyWeights:
    architecture = "htdemucs"

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        try:
            self.gains: tuple[float, ...] = tuple(json.loads(data))
        except ValueError as error:
            raise ModelFileError(f"{path.name} is no checkpoint", "") from error
        self.content_sha256 = sha256(data)

    def build(self, folder: Path, *, name: str, licence: Licence) -> Manifest:
        built = install_tiny_model(folder, name, gains=self.gains)
        for path in built.iterdir():
            path.rename(folder / path.name)
        built.rmdir()
        return finish_manifest(folder, licence=licence)


class TinyWorkshop:
    """Builds tiny models; `fails` makes the stored case fail."""

    def __init__(self, like: str = "", *, fails: bool = False) -> None:
        self.fails = fails

    def read(self, path: Path, *, like: str = "") -> Weights:
        return TinyWeights(path)

    def check(self, folder: Path, content_sha256: str) -> ParityRecord:
        if self.fails:
            raise ModelFileError("the stored case differs by -3 dB", "")
        return ParityRecord(reference="tiny case", max_error_db=-120.0)


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.labels: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def transfer(self, label: str) -> ProgressCallback:
        self.labels.append(label)
        return self._step

    def _step(self, progress: Progress) -> None:
        pass


def entry_of(host: ModelHost, name: str = "htdemucs", good: bytes = GOOD) -> CatalogModel:
    """HTDemucs' entry with its sources on the double, `good` its known content, and no npm package."""
    prefix = sha256(good)[:8]
    return dataclasses.replace(
        HTDEMUCS,
        name=name,
        content_sha256=sha256(good),
        sources=(
            WebSource(label="safetensors", url=f"{host.url}/{name}/s.safetensors", file_name="s.safetensors"),
            WebSource(
                label="th",
                url=f"{host.url}/{name}/955717e8-{prefix}.th",
                file_name=f"955717e8-{prefix}.th",
                sha256_prefix=prefix,
            ),
        ),
    )


def run_pull(
    store: ModelStore,
    *,
    name: str = "htdemucs",
    given: str = "",
    force: bool = False,
    settings: SourceSettings | None = None,
    workshop: TinyWorkshop | None = None,
    notes: Notes | None = None,
) -> Installed:
    settings = settings or SourceSettings(patience=Patience(attempts=1))
    made = pull(
        name,
        store,
        workshop=workshop or TinyWorkshop(),
        ask=accept_all,
        options=PullOptions(given=given, force=force, settings=settings),
        reporter=notes or Notes(),
    )
    return separating(made)


def manifest_of(model: Installed) -> Manifest:
    assert isinstance(model, InstalledModel)
    return model.manifest


def assert_clean(store: ModelStore, *names: str) -> None:
    """Only the finished models have names, and no staging is left."""
    assert store.names() == tuple(sorted(names))
    staged = store.root / ".staging"
    assert not [path for path in staged.glob("*/*")]
