"""The models of this machine as the API tells of them: manifests read as plain JSON.

Opening a store would load libraries that only a worker needs, so that what is told here is what the manifest
says. A worker checks all of it before it opens a model.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stemwright.core.errors import OptionError, StemwrightError
from stemwright.models.registry.shipped import SHIPPED
from stemwright.service.api.problems import shown

MANIFEST_FILE = "manifest.json"
_MAX_MANIFEST_BYTES = 4 << 20


class LicenceView(BaseModel):
    """Terms of a model's weights."""

    name: str = ""
    url: str = ""


class ModelView(BaseModel):
    """A model that jobs can ask for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "htdemucs",
                    "version": "1",
                    "kind": "model",
                    "family": "demucs",
                    "task": "music",
                    "description": "Hybrid Transformer Demucs: drums, bass, other, vocals",
                    "stems": ["drums", "bass", "other", "vocals"],
                    "stem_kind": "fixed",
                    "streamable": False,
                    "sample_rate": 44100,
                    "size_bytes": 87862353,
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "licence": {"name": "personal and research use only", "url": ""},
                    "is_default": True,
                }
            ]
        }
    )

    name: str = Field(description="The name for a job's `model`.")
    version: str = ""
    kind: Literal["model", "bag"] = "model"
    family: str = ""
    task: str = ""
    description: str = ""
    stems: list[str] = Field(description="Stems that a job can ask for.")
    stem_kind: str = Field(
        default="fixed",
        description="`fixed` names, `interchangeable` speakers, or `query` for sounds asked for.",
    )
    streamable: bool = Field(default=False, description="Whether `WS /v1/stream` can use it.")
    sample_rate: int | None = Field(default=None, description="Rate of the network in Hz; stems keep yours.")
    size_bytes: int = Field(default=0, description="Bytes of the model's files.")
    sha256: str = Field(default="", description="SHA-256 over the manifests, which hold those of the files.")
    licence: LicenceView = LicenceView()
    is_default: bool = Field(default=False, description="Whether jobs that name no model use it.")


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A manifest and what it was read from."""

    stamp: tuple[int, int]
    manifest: Mapping[str, Any]


class ModelCatalogue:
    """The models below a folder, and those of the package; methods block."""

    def __init__(self, folder: Path, default_model: str) -> None:
        self._folder = folder
        self._default = default_model
        self._read: dict[str, _Read] = {}
        self._verified: dict[str, tuple[tuple[str, int, int], ...]] = {}
        self._lock = Lock()

    def models(self) -> tuple[ModelView, ...]:
        """Return every model that separates, by name; what cannot be read is left out."""
        views = (self._view(name) for name in sorted({*self._own_names(), *SHIPPED}))
        return tuple(view for view in views if view is not None)

    def _own_names(self) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(self._folder) if entry.name[0] != "."]
        except OSError:
            return []

    def _elsewhere(self, model: str) -> bool:
        """Whether only a worker can know of a model: this machine has none but those of the package."""
        return model not in SHIPPED and all(self._view(name) is None for name in self._own_names())

    def check(self, model: str, stems: tuple[str, ...], *, asks: bool = False) -> None:
        """Refuse a model that is not here, or what it has not, naming what is allowed.

        `asks` says that sounds are asked for, which is for models that take queries.

        Where this machine has no models of its own, the workers have them elsewhere, and they check.

        Raises
        ------
        OptionError
            There is no such model or stem.
        """
        if self._elsewhere(model):
            return
        views = {view.name: view for view in self.models()}
        view = views.get(model)
        if view is None:
            raise OptionError(f"there is no model {shown(model)!r}", f"use one of {', '.join(views)}")
        if asks and view.stem_kind != "query":
            able = [other.name for other in views.values() if other.stem_kind == "query"]
            raise OptionError(
                f"{model} separates fixed stems and takes no queries",
                f"use {' or '.join(able)}" if able else "no model of this service takes queries",
            )
        if view.stem_kind != "query":
            for stem in stems:
                if stem not in view.stems:
                    raise OptionError(
                        f"the model {model} has no stem {shown(stem)!r}",
                        f"use some of {', '.join(view.stems)}",
                    )

    def check_streamable(self, model: str, stems: tuple[str, ...]) -> None:
        """Refuse for a stream what `check` refuses, and a model that hears sound that is still to come.

        Raises
        ------
        OptionError
            There is no such model or stem, or it cannot be streamed.
        """
        self.check(model, stems)
        views = self.models()
        able = [view.name for view in views if view.streamable]
        if not self._elsewhere(model) and model not in able:
            raise OptionError(
                f"{model} cannot be streamed: it hears sound that is still to come",
                f"use {' or '.join(able)}, or a job" if able else "install a causal model, or make a job",
            )

    def verify_default(self) -> None:
        """Check the files of the default model against their SHA-256, again only when they changed.

        Raises
        ------
        OptionError
            It is not here, or a file differs.
        """
        with self._lock:
            self._verify(self._default)

    def _verify(self, name: str) -> None:
        manifest = self._manifest(name)
        if manifest is None:
            raise OptionError(f"the model {name} is not installed", f"run `stemwright models pull {name}`")
        for member in manifest.get("members", ()):
            self._verify(str(member["model"]))
        records = [
            (self._place(name) / str(record["path"]), str(record["sha256"]))
            for record in manifest.get("files", ())
        ]
        try:
            stamp = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path, _ in records)
            if self._verified.get(name) == stamp:
                return
            for path, sha256 in records:
                if _sha256(path) != sha256:
                    raise OptionError(f"{path.name} of the model {name} is damaged", "install it again")
        except OSError as error:
            raise OptionError(
                f"the model {name} cannot be read: {error.strerror}", "mend or install it again"
            ) from error
        self._verified[name] = stamp

    def _view(self, name: str) -> ModelView | None:
        manifest = self._manifest(name)
        if manifest is None or manifest.get("kind", "model") not in ("model", "bag"):
            return None
        audio = manifest.get("audio") or {}
        try:
            return ModelView.model_validate(
                {
                    **{key: manifest[key] for key in ModelView.model_fields if key in manifest},
                    "streamable": manifest.get("streaming") is not None,
                    "sample_rate": audio.get("sample_rate"),
                    "size_bytes": self._size(manifest),
                    "sha256": self._digest(manifest),
                    "is_default": name == self._default,
                }
            )
        except (ValidationError, StemwrightError):
            return None

    def _size(self, manifest: Mapping[str, Any]) -> int:
        own = sum(int(record.get("size", 0)) for record in manifest.get("files", ()))
        members = (self._manifest(str(member.get("model"))) for member in manifest.get("members", ()))
        return own + sum(self._size(member) for member in members if member is not None)

    def _digest(self, manifest: Mapping[str, Any]) -> str:
        members = (self._manifest(str(member.get("model"))) for member in manifest.get("members", ()))
        whole = [manifest, *(self._digest(member) for member in members if member is not None)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def _place(self, name: str) -> Path:
        own = self._folder / name
        return SHIPPED[name] if name in SHIPPED and not own.exists() else own

    def _manifest(self, name: str) -> Mapping[str, Any] | None:
        path = self._place(name) / MANIFEST_FILE
        try:
            found = path.stat()
            stamp = (found.st_size, found.st_mtime_ns)
            known = self._read.get(name)
            if known is None or known.stamp != stamp:
                if found.st_size > _MAX_MANIFEST_BYTES:
                    return None
                manifest = json.loads(path.read_bytes())
                if not isinstance(manifest, dict) or manifest.get("name") != name:
                    return None
                known = self._read[name] = _Read(stamp=stamp, manifest=manifest)
            return known.manifest
        except (OSError, ValueError):
            return None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
