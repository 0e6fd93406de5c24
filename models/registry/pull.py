"""Pulling a model: terms, sources in order, verification, building, the parity case, putting in place."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from stemwright.core.errors import (
    ModelFileError,
    ModelNotFoundError,
    OptionError,
    SourceUnavailableError,
    StemwrightError,
)
from stemwright.models.manifest import (
    MANIFEST_FILE,
    Bag,
    BagMember,
    Embedder,
    WeightsOrigin,
)
from stemwright.models.registry import staging
from stemwright.models.registry.catalog import (
    CatalogBag,
    CatalogModel,
    Source,
    WebSource,
    catalog_entry,
)
from stemwright.models.registry.downloads import ProgressCallback, ignore_progress
from stemwright.models.registry.importing import install_complete, is_complete_model
from stemwright.models.registry.model_files import finish_embedder, finish_manifest
from stemwright.models.registry.packages import Fetched
from stemwright.models.registry.sources import (
    OFFLINE_VARIABLE,
    SourceSettings,
    describe,
    fetch,
    fetch_given,
    is_url,
    present,
    settings_from_environment,
)
from stemwright.models.registry.store import (
    AnyInstalled,
    InstalledModel,
    ModelStore,
)
from stemwright.models.registry.terms import AcceptedTerms, Ask
from stemwright.models.registry.trying import try_embedder
from stemwright.models.registry.workshop import CheckpointWorkshop, Workshop

_LOG = logging.getLogger(__name__)


class Reporter(Protocol):
    """Told what a pull does; runs in the caller's thread."""

    def note(self, text: str) -> None:
        """Take note of a step or of a source that failed: one line."""

    def transfer(self, label: str) -> ProgressCallback:
        """Return the callback that follows a transfer of that label."""


class LogReporter:
    """Writes steps to the log and follows no transfer."""

    def note(self, text: str) -> None:
        """Log a step."""
        _LOG.info("%s", text)

    def transfer(self, label: str) -> ProgressCallback:
        """Ignore the steps of a transfer."""
        return ignore_progress


@dataclass(frozen=True, kw_only=True)
class PullOptions:
    """How to pull.

    Attributes
    ----------
    given
        Address, file or folder to take the weights from instead of the published sources; empty for these.
    force
        Pull a model again that is installed and whole.
    settings
        Mirror, offline, patience.
    """

    given: str = ""
    force: bool = False
    settings: SourceSettings = field(default_factory=SourceSettings)


def pull(
    name: str,
    store: ModelStore,
    *,
    ask: Ask,
    options: PullOptions | None = None,
    reporter: Reporter | None = None,
    workshop: Workshop | None = None,
) -> AnyInstalled:
    """Install a model of the catalog; one that is installed and whole is left as it is.

    Two pulls of one name wait for each other. A pull that is killed leaves its download to go on with, and
    nothing under the model's name.

    Parameters
    ----------
    name
        Name in the catalog.
    store
        Where it goes.
    ask
        Asked once for terms that have to be accepted.
    options
        Source and settings. Default: the published sources, settings from the environment.
    reporter
        Told of each step. Default: the log.
    workshop
        Builds the model folder from the checkpoint. Default: the one for all known checkpoints.

    Raises
    ------
    ModelNotFoundError
        The catalog has no such name.
    LicenceError
        The terms were not accepted.
    SourceUnavailableError
        No source could be used; the remedy names the file to fetch by hand.
    ModelFileError
        The given file is not a checkpoint of this model, or is not to be trusted.
    OutputError, ResourceError
        The store cannot be written, or is full.
    """
    entry = catalog_entry(name)
    if entry is None:
        raise _not_in_catalog(name, store)
    options = PullOptions(settings=settings_from_environment()) if options is None else options
    AcceptedTerms(store.root).require(entry.licence, ask, name)
    job = _Pull(
        store=store,
        workshop=CheckpointWorkshop() if workshop is None else workshop,
        options=options,
        reporter=LogReporter() if reporter is None else reporter,
    )
    return job.bag(entry) if isinstance(entry, CatalogBag) else job.model(entry)


def _not_in_catalog(name: str, store: ModelStore) -> ModelNotFoundError:
    if name in store.names():
        return ModelNotFoundError(
            f"{name} is installed, but is not in the catalog of models to pull", "import it again"
        )
    nearest = store.not_found(name)
    return ModelNotFoundError(f"no model named {name!r} can be pulled", nearest.remedy)


@dataclass(frozen=True, kw_only=True)
class _Pull:
    store: ModelStore
    workshop: Workshop
    options: PullOptions
    reporter: Reporter

    def model(self, entry: CatalogModel) -> AnyInstalled:
        with staging.name_lock(self.store.root, entry.name):
            if (installed := self._whole(entry.name)) is not None:
                return installed
            given = self.options.given
            if given and not is_url(given) and is_complete_model(Path(given).expanduser()):
                self.reporter.note(f"{given} is a model file already: taken as it is")
                install_complete(Path(given).expanduser(), self.store, entry.name)
                return self.store.find_any(entry.name)
            model = self._given(entry) if given else self._first_usable(entry)
            shutil.rmtree(self.store.downloads(entry.name), ignore_errors=True)
            return model

    def bag(self, entry: CatalogBag) -> AnyInstalled:
        given = self.options.given
        if given and not Path(given).expanduser().is_dir():
            raise OptionError(
                f"{entry.name} is a bag of {len(entry.members)} models, and {given} is not a folder",
                f"give a folder that holds all its files, or pull {entry.members[0].model.name} and so on",
            )
        with staging.name_lock(self.store.root, entry.name):
            if (installed := self._whole(entry.name)) is not None:
                return installed
            members = self._bag_members(entry)
            with staging.staged_folder(self.store.root, entry.name) as folder:
                manifest = _bag_manifest(entry, members[0])
                (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
                return self.store.install(folder)

    def _bag_members(self, entry: CatalogBag) -> list[AnyInstalled]:
        try:
            return [self.model(member.model) for member in entry.members]
        except SourceUnavailableError as error:
            settings = self.options.settings
            files = [describe(_verifiable(member.model)[0], settings) for member in entry.members]
            raise SourceUnavailableError(
                error.message,
                f"fetch {', '.join(files)} by hand into one folder and run `stemwright models pull "
                f"{entry.name} --from FOLDER`; the models go to {self.store.root}",
            ) from error

    def _whole(self, name: str) -> AnyInstalled | None:
        """Return the model if it is installed and whole, and is not to be pulled again."""
        if self.options.force:
            return None
        try:
            self.store.verify(name)
            model = self.store.find_any(name)
        except ModelNotFoundError:
            return None
        except ModelFileError as error:
            self.reporter.note(f"pulling again: {error.message}")
            return None
        self.reporter.note(f"{name} is installed and whole")
        return model

    def _given(self, entry: CatalogModel) -> AnyInstalled:
        """Install from what the user gave; its errors are the user's to see."""
        given, settings = self.options.given, self.options.settings
        if is_url(given) and settings.offline:
            raise SourceUnavailableError(f"{OFFLINE_VARIABLE} is set: {given} is not asked", "give a file")
        report = self.reporter.transfer(given)
        fetched = fetch_given(entry, given, self.store.downloads(entry.name), settings, report)
        return self._install(entry, fetched)

    def _first_usable(self, entry: CatalogModel) -> AnyInstalled:
        """Try the published sources in order; tell of each that fails."""
        failures: list[str] = []
        for source, fetched in self._candidates(entry, failures):
            try:
                return self._install(entry, fetched)
            except ModelFileError as error:
                fetched.path.unlink(missing_ok=True)
                self._failed(source, error, failures)
        raise self._no_source(entry, failures)

    def _candidates(self, entry: CatalogModel, failures: list[str]) -> Iterator[tuple[Source, Fetched]]:
        """Yield what an earlier pull or the user left in the downloads folder, then what answers."""
        folder, settings = self.store.downloads(entry.name), self.options.settings
        for source in entry.sources:
            if (found := present(entry, source, folder)) is not None:
                self.reporter.note(f"using {found.path}")
                yield source, found
        if settings.offline:
            return
        for source in entry.sources:
            self.reporter.note(f"asking the {source.label}: {describe(source, settings)}")
            try:
                yield source, fetch(source, folder, settings, self.reporter.transfer(source.label))
            except (SourceUnavailableError, ModelFileError) as error:
                self._failed(source, error, failures)

    def _failed(self, source: Source, error: StemwrightError, failures: list[str]) -> None:
        """Tell of a source that failed, in one line whatever its message is made of."""
        failures.append(" ".join(f"{source.label}: {error.message}".split()))
        self.reporter.note(failures[-1])

    def _no_source(self, entry: CatalogModel, failures: list[str]) -> SourceUnavailableError:
        """Build the error that says which file to fetch by hand and where it goes."""
        settings = self.options.settings
        remedy = self._by_hand(entry)
        if settings.offline:
            why = "; ".join([f"{OFFLINE_VARIABLE} is set and no file of it is here", *failures])
            return SourceUnavailableError(f"{entry.name} cannot be pulled: {why}", remedy)
        return SourceUnavailableError(f"no source of {entry.name} can be used: {'; '.join(failures)}", remedy)

    def _by_hand(self, entry: CatalogModel) -> str:
        """Say how a file that was fetched by hand gets into the store."""
        settings = self.options.settings
        if not (verifiable := _verifiable(entry)):
            # Nothing is published that a file could be checked against: it is the user's word that counts.
            like = f" --like {entry.like}" if entry.like else ""
            address = describe(entry.sources[0], settings)
            command = f"stemwright models import FILE --name {entry.name}{like}"
            return f"fetch {address} by hand and run `{command}`"
        first, *rest = verifiable
        place = self.store.downloads(entry.name) / first.file_name
        others = "".join(f" or {describe(source, settings)}" for source in rest)
        return (
            f"fetch {describe(first, settings)}{others} by hand and run "
            f"`stemwright models pull {entry.name} --from FILE`, or place {first.file_name} at {place} "
            f"and pull again; the model goes to {self.store.root / entry.name}"
        )

    def _install(self, entry: CatalogModel, fetched: Fetched) -> AnyInstalled:
        """Verify a checkpoint, build its folder, run the stored case and put it in place."""
        weights = self.workshop.read(fetched.path, like=entry.like)
        if entry.architecture and weights.architecture != entry.architecture:
            raise ModelFileError(
                f"{fetched.source} is a checkpoint of {weights.architecture}, not of {entry.architecture}",
                "give the file of this model",
            )
        verified_by = _verified_by(entry, weights.content_sha256, fetched)
        self.reporter.note(f"building {entry.name}: {verified_by}")
        with staging.staged_folder(self.store.root, entry.name) as folder:
            built = weights.build(folder, name=entry.name, licence=entry.licence)
            origin = WeightsOrigin(
                source=fetched.source,
                file_sha256=fetched.sha256,
                content_sha256=weights.content_sha256,
                verified_by=verified_by,
            )
            if isinstance(built, Embedder):
                finish_embedder(folder, origin=origin)
                try_embedder(folder)
                return self.store.install_any(folder)
            if built.stems != entry.stems:
                raise ModelFileError(
                    f"{fetched.source} has the stems {', '.join(built.stems)}", "give the file of this model"
                )
            parity = self.workshop.check(folder, entry.content_sha256 or weights.content_sha256)
            if parity is None:
                self.reporter.note(f"no stored case for {entry.name}: its output was not compared")
            told = {"training_data": entry.training_data} if entry.training_data else {}
            finish_manifest(folder, description=entry.description, origin=origin, parity=parity, **told)
            return self.store.install(folder)


def _verifiable(entry: CatalogModel) -> list[Source]:
    """Return the sources whose file is known again when it was fetched by hand."""
    return [source for source in entry.sources if entry.content_sha256 or _has_hash(source)]


def _has_hash(source: Source) -> bool:
    return not isinstance(source, WebSource) or bool(source.sha256_prefix)


def _verified_by(entry: CatalogModel, content_sha256: str, fetched: Fetched) -> str:
    """Say by what a checkpoint is trusted.

    Raises
    ------
    ModelFileError
        By nothing: its content is not the known one, and no hash that its publisher gave fits.
    """
    if entry.content_sha256 and content_sha256 == entry.content_sha256:
        return "its content digest is the known one"
    if fetched.published:
        known = "differs from the known one" if entry.content_sha256 else "was not known beforehand"
        return f"{fetched.published} (its content digest {known})"
    raise ModelFileError(
        f"{fetched.source} is not known to be {entry.name}: neither content nor SHA-256 is a published one",
        "give the published file, or use `stemwright models import` if you trust this one",
    )


def _bag_manifest(entry: CatalogBag, first: AnyInstalled) -> Bag:
    """Make a bag's manifest from the catalog and, for what all members share, from its first member."""
    if not isinstance(first, InstalledModel):
        raise ModelFileError(f"the bag {entry.name} has a bag as a member", "")
    return Bag(
        name=entry.name,
        family=first.manifest.family,
        task=first.manifest.task,
        description=entry.description,
        licence=entry.licence,
        citation=first.manifest.citation,
        training_data=first.manifest.training_data,
        stems=entry.stems,
        audio=first.manifest.audio,
        members=tuple(BagMember(model=m.model.name, weights=m.weights) for m in entry.members),
    )
