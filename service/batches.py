"""A batch: many tracks through one separator, written down in a ledger, resumable after a kill.

Some tracks are in flight at a time. The network serves one of them; meanwhile the next is decoded and
the last is encoded.
"""

import dataclasses
import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from stemwright.core.errors import CancelledError, InputError, InternalError, StemwrightError, unforeseen
from stemwright.models.separation.separator import CancelToken, Progress
from stemwright.service.folders import Collection, Track
from stemwright.service.ledger import InputPrint, Ledger, Row, WrittenFile, written_files
from stemwright.service.naming import RESULT_FILE, safe_name
from stemwright.service.outcomes import FATAL_ERRORS, error_facts
from stemwright.service.places import Place, PlacedFile
from stemwright.service.results import ModelFacts, TrackResult
from stemwright.service.staging import Staging
from stemwright.service.tracks import Engine, TrackOptions, separate_to_files

Action = Literal["separate", "redo", "skip", "fail"]

# The name by which MUSDB and museval know the mixture without the vocals.
_MUSDB_NAMES = {"no_vocals": "accompaniment"}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What made the stems: hashes of the models and of all settings that change a result."""

    model_sha256: str
    settings_sha256: str


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Everything about a batch that does not need a network.

    Parameters
    ----------
    collection
        The tracks.
    out
        The output folder.
    stems
        Names of the stems in order.
    options
        How tracks are separated and written.
    identity
        What makes the stems.
    overwrite
        Whether all tracks are done again, and files of unknown origin are replaced.
    """

    collection: Collection
    out: Path
    stems: tuple[str, ...]
    options: TrackOptions
    identity: Identity
    overwrite: bool = False

    def place(self, track: Track, before: Row | None) -> Place:
        """Return where a track's files go; what an earlier run of the batch wrote may be replaced."""
        plain = self.collection.kind == "plain"
        files = tuple(
            PlacedFile(path=track.target / self._file_name(track, stem), stems=stems)
            for stem, stems in self._file_stems()
        )
        ours = before.ever_written if before is not None else ()
        return Place(
            out=self.out,
            label=safe_name(track.target.name),
            files=files,
            result=track.target / RESULT_FILE if plain else None,
            replace=self.overwrite or bool(ours),
            stale=tuple(PurePosixPath(path) for path in ours),
        )

    def _file_stems(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        if self.options.layout == "stem.mp4":
            yield "", self.stems
            return
        for stem in self.stems:
            yield stem, (stem,)

    def _file_name(self, track: Track, stem: str) -> str:
        if self.collection.kind != "plain":
            stem = _MUSDB_NAMES.get(stem, stem)
        return f"{stem or track.target.name}.{self.options.extension}"

    def action(self, track: Track, before: Row | None) -> tuple[Action, InputPrint | None, str]:
        """Decide what to do with a track, and why; reads the recording only if its time or size changed.

        Raises
        ------
        InputError
            The recording cannot be read.
        """
        if track.problem is not None:
            return "fail", None, track.problem.message
        known = before.input if before is not None else None
        identity = fingerprint(track.source, known)
        if before is None or before.event == "failed":
            return "separate", identity, "new" if before is None else "failed before"
        if self.overwrite:
            return "redo", identity, "overwrite"
        if known is None or identity.sha256 != known.sha256:
            return "redo", identity, "the recording changed"
        if before.model_sha256 != self.identity.model_sha256:
            return "redo", identity, "another model"
        if before.settings_sha256 != self.identity.settings_sha256:
            return "redo", identity, "other settings"
        if not before.complete(self.out):
            return "redo", identity, "its files are gone or changed"
        return "skip", identity, "done before"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a track: a result, an error, or neither where it was done before."""

    track: Track
    action: Action
    row: Row | None
    result: TrackResult | None = None
    error: StemwrightError | None = None

    @property
    def word(self) -> str:
        """The outcome in a word."""
        if self.error is not None:
            return "failed"
        return "skipped" if self.action == "skip" else "done"

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-ready data."""
        return {
            "track": self.track.key,
            "input": str(self.track.source),
            "outcome": self.word,
            "files": [file.path for file in self.row.files]
            if self.row is not None and not self.error
            else [],
            "error": error_facts(self.error).as_dict() if self.error is not None else None,
            "result": self.result.as_dict() if self.result is not None else None,
        }


class Observer(Protocol):
    """Shows the progress of a track."""

    def track(self, label: str) -> AbstractContextManager[Callable[[Progress], None]]:
        """Return a context for the time a track is in flight, with what is called with its progress."""


class TrackWork(Protocol):
    """Separates one track, here or elsewhere."""

    def __call__(
        self,
        track: Track,
        identity: InputPrint,
        place: Place,
        *,
        progress: Callable[[Progress], None],
        cancel: CancelToken,
        ready: Callable[[TrackResult, Staging], None],
    ) -> TrackResult:
        """Put a track's files in place, all at once; what is called when is as in `separate_to_files`."""


@dataclass(frozen=True, kw_only=True)
class LocalWork:
    """Separates tracks with this process's engine; the network serves one of them at a time."""

    engine: Engine
    options: TrackOptions
    _network: threading.Lock = field(default_factory=threading.Lock)

    def __call__(
        self,
        track: Track,
        identity: InputPrint,
        place: Place,
        *,
        progress: Callable[[Progress], None],
        cancel: CancelToken,
        ready: Callable[[TrackResult, Staging], None],
    ) -> TrackResult:
        """Separate a track."""
        return separate_to_files(
            self.engine,
            track.source,
            place,
            self.options,
            progress=progress,
            cancel=cancel,
            network=self._network,
            ready=ready,
        )


@dataclass(kw_only=True)
class BatchRun:
    """A batch at work.

    Parameters
    ----------
    plan, ledger, work
        What to do, where it is written down, and who does it.
    workers
        Tracks in flight at a time.
    observer
        Shows the progress.
    """

    plan: BatchPlan
    ledger: Ledger
    work: TrackWork
    workers: int
    observer: Observer
    _cancel: CancelToken = field(default_factory=CancelToken)
    _ledger_error: StemwrightError | None = None
    _taking: threading.Lock = field(default_factory=threading.Lock)
    _results: "queue.SimpleQueue[Outcome | BaseException | None]" = field(default_factory=queue.SimpleQueue)

    def outcomes(self) -> Iterator[Outcome]:
        """Work through the tracks; yield each as it ends.

        Raises
        ------
        StemwrightError
            What is wrong with every track: the device, the model, the ledger.
        """
        tracks = iter(self.plan.collection.tracks)
        threads = [
            threading.Thread(target=self._work, args=(tracks,), name=f"stemwright-track-{index}", daemon=True)
            for index in range(self.workers)
        ]
        try:
            for thread in threads:
                thread.start()
            running = len(threads)
            while running:
                item = self._results.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            self._cancel.cancel()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _work(self, tracks: Iterator[Track]) -> None:
        try:
            while not self._cancel.cancelled:
                with self._taking:
                    track = next(tracks, None)
                if track is None:
                    break
                self._results.put(self._one(track))
            self._results.put(None)
        except BaseException as error:
            self._results.put(error)

    def _one(self, track: Track) -> Outcome:
        before = self.ledger.row(track.key)
        try:
            with self.observer.track(track.key) as report:
                return self._separate(track, before, report)
        except (*FATAL_ERRORS, CancelledError):
            raise
        except StemwrightError as error:
            if error is self._ledger_error:
                raise
            return self._failed(track, before, error)
        except Exception as error:
            return self._failed(track, before, unforeseen(error))

    def _separate(self, track: Track, before: Row | None, report: Callable[[Progress], None]) -> Outcome:
        action, identity, _ = self.plan.action(track, before)
        if action == "skip":
            if (
                before is not None and before.event == "publishing"
            ):  # a kill came between the files and the row
                before = self._write(_done(before), None)
            return Outcome(track=track, action=action, row=before)
        if track.problem is not None:
            raise track.problem
        place = self.plan.place(track, before)
        rows: list[Row] = []

        def ready(result: TrackResult, staging: Staging) -> None:
            files = written_files((path, staging.path(path)) for path in place.published)
            rows.append(self._write(self._row(track, identity, result, files, before), result))

        if identity is None:
            raise InternalError(f"{track.key} was not identified", "report it")
        result = self.work(track, identity, place, progress=report, cancel=self._cancel, ready=ready)
        row = self._write(_done(rows[0]), result)
        return Outcome(track=track, action=action, row=row, result=result)

    def _failed(self, track: Track, before: Row | None, error: StemwrightError) -> Outcome:
        """Write a failure down; files of an earlier run are still there and stay ours to replace."""
        row = Row(
            track=track.key,
            event="failed",
            input=None,
            model_sha256=self.plan.identity.model_sha256,
            settings_sha256=self.plan.identity.settings_sha256,
            stale=before.ever_written if before is not None else (),
            error=error_facts(error),
        )
        return Outcome(track=track, action="fail", row=self._write(row, None), error=error)

    def _row(
        self,
        track: Track,
        identity: InputPrint | None,
        result: TrackResult,
        files: tuple[WrittenFile, ...],
        before: Row | None,
    ) -> Row:
        return Row(
            track=track.key,
            event="publishing",
            input=identity,
            model_sha256=self.plan.identity.model_sha256,
            settings_sha256=self.plan.identity.settings_sha256,
            files=files,
            stale=before.ever_written if before is not None else (),
            seconds=result.seconds,
            wall_seconds=result.wall_seconds,
        )

    def _write(self, row: Row, result: TrackResult | None) -> Row:
        try:
            self.ledger.append(row, result.as_dict() if result is not None else None)
        except StemwrightError as error:
            self._ledger_error = error  # without a ledger no track can end
            raise
        return row


def _done(row: Row) -> Row:
    return dataclasses.replace(row, event="done", stale=())


def fingerprint(path: Path, known: InputPrint | None) -> InputPrint:
    """Identify a recording; one whose size and time are the known ones is not read again.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        facts = path.stat()
        if known is not None and (facts.st_size, facts.st_mtime_ns) == (known.size, known.mtime_ns):
            return known
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"cannot read {path.name}: {reason}", "check the file and its permissions"
        ) from error
    return InputPrint(sha256=digest, size=facts.st_size, mtime_ns=facts.st_mtime_ns)


def identify(models: Sequence[ModelFacts], options: TrackOptions, *, precision: str) -> Identity:
    """Hash what makes the stems: models with their weights, and the settings that change a result."""
    weighed = [(model.sha256, model.weight) for model in models]
    settings = {**options.as_dict(), "precision": precision}
    return Identity(model_sha256=_digest(weighed), settings_sha256=_digest(settings))


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
