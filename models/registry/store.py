"""Installed models: finding, checking, installing and removing them by name or path.

A store is a folder with one sub-folder a model (docs/model-format.md). Names that start with a dot are
the store's own: staging, locks, downloads, accepted terms.
"""

import difflib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stemwright.core.errors import ModelFileError, ModelNotFoundError, OptionError, StemwrightError
from stemwright.models.manifest import (
    MANIFEST_FILE,
    AnyManifest,
    Bag,
    Embedder,
    Manifest,
    Tagger,
    read_manifest,
)
from stemwright.models.registry import staging
from stemwright.models.registry.catalog import catalog_entry, catalog_names
from stemwright.models.registry.installed import (
    AnyInstalled,
    Installed,
    InstalledBag,
    InstalledEmbedder,
    InstalledMember,
    InstalledModel,
    InstalledTagger,
)
from stemwright.models.registry.model_files import check_hashes, graph_record
from stemwright.models.registry.names import (
    MODELS_VARIABLE,
    NAME,
    checked_name,
    default_models_dir,
    mending_remedy,
)
from stemwright.models.registry.opened_files import (
    embedder_in,
    model_in,
    model_of_file,
    separating,
    shipped_model,
    tagger_in,
)
from stemwright.models.registry.shipped import SHIPPED

__all__ = [
    "MODELS_VARIABLE",
    "SHIPPED",
    "AnyInstalled",
    "Installed",
    "InstalledBag",
    "InstalledEmbedder",
    "InstalledMember",
    "InstalledModel",
    "InstalledTagger",
    "ModelStore",
    "StoreEntry",
    "checked_name",
    "default_models_dir",
    "mending_remedy",
    "open_any",
    "open_model",
    "open_tagger",
    "separating",
]

_TAGGERS = "run `stemwright models list` to see the taggers"


@dataclass(frozen=True, kw_only=True)
class StoreEntry:
    """A folder of the store: what it holds, or why it cannot be used."""

    name: str
    model: AnyInstalled | None
    problem: StemwrightError | None = None


class ModelStore:
    """The models below one folder.

    Parameters
    ----------
    root
        The folder; it need not exist yet. Default: see default_models_dir.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_models_dir() if root is None else root

    def downloads(self, name: str) -> Path:
        """Return the folder that holds what was fetched for a name and is not yet built."""
        return self.root / ".downloads" / name

    def names(self) -> tuple[str, ...]:
        """Names of all folders that look like models, sorted, without opening them."""
        try:
            found = [entry.name for entry in os.scandir(self.root) if NAME.fullmatch(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise ModelFileError(
                f"cannot read the folder of models {self.root}: {error.strerror}",
                f"mend its permissions, or set {MODELS_VARIABLE} to another folder",
            ) from error
        return tuple(sorted(name for name in found if (self.root / name / MANIFEST_FILE).is_file()))

    def find(self, name: str) -> Installed:
        """Return the installed model or bag of that name after the quick check (sizes).

        Raises
        ------
        ModelNotFoundError
            Nothing of that name is installed; the remedy names the nearest names or the pull.
        ModelFileError
            It is installed but damaged, or its manifest is from a newer version.
        OptionError
            It is a tagger or an embedder.
        """
        return separating(self.find_any(name))

    def find_tagger(self, name: str) -> InstalledTagger:
        """Return the tagger of that name; raises as find does, OptionError if it is no tagger."""
        found = self.find_any(name)
        if not isinstance(found, InstalledTagger):
            raise OptionError(f"{name} is not a tagger", _TAGGERS)
        return found

    def find_any(self, name: str) -> AnyInstalled:
        """Return what is installed under a name, or comes with this package; raises as find does."""
        if self._is_shipped(name):
            return shipped_model(name)
        manifest = self._manifest(name)
        folder = self.root / name
        if isinstance(manifest, Bag):
            members = self.members_of(name, manifest)
            return InstalledBag(name=name, folder=folder, manifest=manifest, members=members)
        if isinstance(manifest, Tagger):
            return tagger_in(folder, manifest, mending_remedy(name))
        if isinstance(manifest, Embedder):
            return embedder_in(folder, manifest, mending_remedy(name))
        return model_in(name, folder, manifest, mending_remedy(name))

    def _is_shipped(self, name: str) -> bool:
        return name in SHIPPED and name not in self.names()

    def entries(self) -> Iterator[StoreEntry]:
        """Yield every model of the store, the damaged ones too, and what the package brings."""
        names = self.names()
        for name in (*names, *(name for name in SHIPPED if name not in names)):
            try:
                yield StoreEntry(name=name, model=self.find_any(name))
            except StemwrightError as problem:
                yield StoreEntry(name=name, model=None, problem=problem)

    def list(self) -> tuple[Installed, ...]:
        """Return every model that can separate, by name."""
        return tuple(
            entry.model for entry in self.entries() if isinstance(entry.model, InstalledModel | InstalledBag)
        )

    def taggers(self) -> tuple[InstalledTagger, ...]:
        """Return every tagger that can be used, by name."""
        return tuple(entry.model for entry in self.entries() if isinstance(entry.model, InstalledTagger))

    def embedders(self) -> tuple[InstalledEmbedder, ...]:
        """Return every embedder that can be used, by name; taggers embed too."""
        return tuple(entry.model for entry in self.entries() if isinstance(entry.model, InstalledEmbedder))

    def verify(self, name: str) -> AnyInstalled:
        """Check every file of a model, or of all members of a bag, against its SHA-256.

        Raises
        ------
        ModelNotFoundError, ModelFileError
            As find does; ModelFileError also for a hash that differs.
        """
        found = self.find_any(name)
        for model in found.parts:
            check_hashes(model.folder, model.manifest.files, mending_remedy(model.name))
        return found

    def install(self, staged: Path) -> Installed:
        """Install a model or a bag, as install_any does."""
        return separating(self.install_any(staged))

    def install_any(self, staged: Path) -> AnyInstalled:
        """Check a staged folder fully and rename it to the name that its manifest gives.

        The caller holds the lock of that name (staging.name_lock) and built the folder inside
        staging.staged_folder; a model that was there is replaced.

        Raises
        ------
        ModelFileError
            The folder's files do not match its manifest, or a member of a bag is not installed.
        OutputError, ResourceError
            The store cannot be written.
        """
        manifest = read_manifest(staged)
        if isinstance(manifest, Bag):
            self.members_of(manifest.name, manifest)
        else:
            graph_record(manifest, staged)
            check_hashes(staged, manifest.files)
        staging.put_in_place(self.root, manifest.name, staged)
        return self.find_any(manifest.name)

    def check_removable(self, name: str) -> None:
        """Raise what `remove` would raise for a name, and remove nothing."""
        if self._is_shipped(name):
            raise OptionError(f"{name} is a part of stemwright", "leave it: unused, it costs nothing")
        if name not in self.names():
            raise self.not_found(name)
        owners = self._bags_with(name)
        if owners:
            raise OptionError(f"{name} is a member of {owners[0]}", f"remove {owners[0]} instead")

    def remove(self, name: str) -> tuple[str, ...]:
        """Remove a model; a bag goes with those of its own members (`BAG.x`) that no other bag needs.

        Returns
        -------
        tuple of str
            The names that were removed.

        Raises
        ------
        ModelNotFoundError
            Nothing of that name is installed.
        OptionError
            A bag that stays needs this model.
        """
        self.check_removable(name)
        removed = [name]
        members = self._own_members(name)
        self._discard(name)
        for member in members:
            if not self._bags_with(member):
                self._discard(member)
                removed.append(member)
        return tuple(removed)

    def _discard(self, name: str) -> None:
        with staging.name_lock(self.root, name):
            staging.discard(self.root, name)
            shutil.rmtree(self.downloads(name), ignore_errors=True)

    def _own_members(self, name: str) -> tuple[str, ...]:
        """Members of a bag by its text alone, so that a damaged bag can be removed too."""
        try:
            manifest = read_manifest(self.root / name)
        except ModelFileError:
            return ()
        if not isinstance(manifest, Bag):
            return ()
        present = self.names()
        return tuple(m.model for m in manifest.members if m.model in present and _is_member_of(m.model, name))

    def _bags_with(self, name: str) -> tuple[str, ...]:
        """Return the readable bags that have `name` as a member."""
        owners = []
        for candidate in self.names():
            try:
                manifest = read_manifest(self.root / candidate)
            except ModelFileError:
                continue
            if isinstance(manifest, Bag) and name in {member.model for member in manifest.members}:
                owners.append(candidate)
        return tuple(owners)

    def _manifest(self, name: str) -> AnyManifest:
        """Read the manifest of a name and check that it is the folder's own."""
        folder = self.root / name
        if not NAME.fullmatch(name) or not folder.is_dir():
            raise self.not_found(name)
        try:
            manifest = read_manifest(folder)
        except ModelFileError as error:
            newer = error.remedy.startswith("update")
            raise ModelFileError(error.message, error.remedy if newer else mending_remedy(name)) from error
        if manifest.name != name:
            raise ModelFileError(
                f"the folder {folder} holds a model named {manifest.name}",
                f"rename the folder to {manifest.name}",
            )
        return manifest

    def members_of(self, name: str, bag: Bag) -> tuple[InstalledMember, ...]:
        """Return the installed members of a bag; raises ModelFileError if one is missing or unfit."""
        members = []
        for member in bag.members:
            try:
                model = self.find_any(member.model)
            except ModelNotFoundError as error:
                raise ModelFileError(
                    f"the bag {name} needs the model {member.model}, which is not installed",
                    mending_remedy(name),
                ) from error
            if not isinstance(model, InstalledModel):
                raise ModelFileError(
                    f"the bag {name} has the {model.manifest.kind} {member.model} as a member",
                    "use models as members",
                )
            if missing := set(bag.stems) - set(model.manifest.stems):
                raise ModelFileError(
                    f"the bag {name} has the stem {min(missing)}, which its member {member.model} has not",
                    mending_remedy(name),
                )
            members.append(InstalledMember(model=model, weights=member.weights))
        return tuple(members)

    def not_found(self, name: str) -> ModelNotFoundError:
        """Build the error for an unknown name: the pull if the catalog has it, else the nearest names."""
        message = f"no model named {name!r} is installed"
        if catalog_entry(name) is not None:
            return ModelNotFoundError(message, f"run `stemwright models pull {name}`")
        installed = tuple(dict.fromkeys((*self.names(), *SHIPPED)))
        near = difflib.get_close_matches(name, dict.fromkeys((*installed, *catalog_names())), n=3, cutoff=0.5)
        if not near:
            return ModelNotFoundError(message, "run `stemwright models list` to see what there is")
        hints = [n if n in installed else f"{n} (`stemwright models pull {n}`)" for n in near]
        return ModelNotFoundError(message, "did you mean " + " or ".join(hints) + "?")


def open_model(name_or_path: str | Path, store: ModelStore | None = None) -> Installed:
    """Open a model or a bag as open_any does; raises OptionError for a tagger or an embedder."""
    return separating(open_any(name_or_path, store))


def open_tagger(name_or_path: str | Path, store: ModelStore | None = None) -> InstalledTagger:
    """Open a tagger as open_any does; raises OptionError for what is none."""
    found = open_any(name_or_path, store)
    if not isinstance(found, InstalledTagger):
        raise OptionError(
            f"{name_or_path} is not a tagger", "run `stemwright models list` to see the taggers"
        )
    return found


def open_any(name_or_path: str | Path, store: ModelStore | None = None) -> AnyInstalled:
    """Open by name, or by the path of a model folder or of a single `.onnx` with its manifest inside.

    A string is a name if a model of that name is installed, or if it does not look like a path (no
    separator, no `.onnx`) and no such model folder exists here.

    Parameters
    ----------
    name_or_path
        Name or path.
    store
        Where names are looked up, and the members of a bag given by path. Default: the user's store.

    Raises
    ------
    ModelNotFoundError
        No such name or path.
    ModelFileError
        Damaged, hostile, or from a newer version.
    """
    store = ModelStore() if store is None else store
    if isinstance(name_or_path, str) and not _is_path(name_or_path, store):
        return store.find_any(name_or_path)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return _open_folder(path, store)
    if path.is_file():
        return model_of_file(path)
    raise ModelNotFoundError(f"no model at {path}", "give a model folder, an .onnx file or an installed name")


def _is_path(text: str, store: ModelStore) -> bool:
    if os.sep in text or text.endswith(".onnx") or text in (".", ".."):
        return True
    return text not in (*store.names(), *SHIPPED) and (Path(text) / MANIFEST_FILE).is_file()


def _is_member_of(model: str, bag: str) -> bool:
    return model.startswith(f"{bag}.")


def _open_folder(folder: Path, store: ModelStore) -> AnyInstalled:
    manifest = read_manifest(folder)
    if isinstance(manifest, Manifest):
        return model_in(manifest.name, folder, manifest)
    if isinstance(manifest, Tagger):
        return tagger_in(folder, manifest)
    if isinstance(manifest, Embedder):
        return embedder_in(folder, manifest)
    return InstalledBag(
        name=manifest.name,
        folder=folder,
        manifest=manifest,
        members=store.members_of(manifest.name, manifest),
    )
