"""The stage `evaluate`: stems scored against true stems that came as uploads.

Everything that a stranger sent is decoded once, in a process of its own, into files of ours, one after the
other; the metrics read those.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stemwright.core.audio.source import open_source
from stemwright.core.errors import CancelledError, InputError
from stemwright.core.musdb import STEM_SUFFIX, STEMS
from stemwright.eval.datasets.contract import OpenTrack
from stemwright.eval.datasets.sources import Named, SumSource
from stemwright.eval.datasets.spooling import spool
from stemwright.eval.measures.contract import Metric, ScoreOptions
from stemwright.eval.metrics import DEFAULT_METRICS, parse_metrics
from stemwright.eval.rows import TrackScores, row_json
from stemwright.eval.running import library_versions, metric_facts
from stemwright.eval.scoring import score_estimates
from stemwright.models.separation.pipeline import CancelToken
from stemwright.service.errors import GoneError, NotFoundError
from stemwright.service.isolation.limits import DecodeLimits
from stemwright.service.isolation.source import IsolatedSource, open_isolated
from stemwright.service.jobs.bench import PATIENCE_S, Bench
from stemwright.service.jobs.database import Database, patient
from stemwright.service.jobs.model import JobSpec, ScoreWish
from stemwright.service.jobs.reading import job_row
from stemwright.service.jobs.views import stems_of
from stemwright.service.jobs.watching import Gauge

_DECODING, _SCORING = 0.3, 1.0
"""Where decoding and scoring end in the stage's progress: chosen here."""
_MIXTURE = "the mixture"


@dataclass(frozen=True, kw_only=True)
class StoredStem:
    """An estimate that a job has made: its name, and where it lies in the storage."""

    name: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Stems that a job has made.

    Parameters
    ----------
    stems
        What they are and where they lie.
    gain
        What all were multiplied with so that none clips; it is taken back.
    any_order
        Whether they are equals.
    """

    stems: tuple[StoredStem, ...]
    gain: float
    any_order: bool

    @classmethod
    def of_result(
        cls, stems: list[dict[str, Any]], result: Mapping[str, Any], *, any_order: bool
    ) -> "Estimates":
        """Return those of a job's result."""
        named = tuple(StoredStem(name=stem["name"], key=stem["key"]) for stem in stems)
        return cls(stems=named, gain=float(result.get("gain") or 1.0), any_order=any_order)


def estimates_of_job(database: Database, wish: ScoreWish, owner: str) -> Estimates | None:
    """Return the stems of the job that is to be scored, None where the estimates were sent.

    Raises
    ------
    GoneError
        There is no such job any more.
    """
    if wish.job_id is None:
        return None
    try:
        with database.reading() as connection:
            row = job_row(connection, wish.job_id, owner)
    except NotFoundError as error:
        raise GoneError("the job whose stems were to be scored is gone", "separate it again") from error
    stems = [{"name": stem.name, "key": stem.key} for stem in stems_of(row)]
    return Estimates.of_result(stems, json.loads(row["result"] or "{}"), any_order=False)


def check_references(bench: Bench) -> None:
    """Look up the metrics of a job and open its true stems before it separates for minutes.

    Raises
    ------
    OptionError
        A metric that there is not here.
    InputError
        There are none, they are no audio, or their rate or channels are not the recording's.
    GoneError, BusyError
        They cannot be had.
    """
    parse_metrics(bench.attempt.spec.metrics or DEFAULT_METRICS)
    info = bench.recording().info
    for name, open_it in _references(bench, bench.attempt.spec):
        with open_it() as source:
            found = source.info
        if (found.sample_rate, found.channels) != (info.sample_rate, info.channels):
            raise InputError(
                f"the reference {name} has {found.sample_rate} Hz and {found.channels} channel(s), the"
                f" recording {info.sample_rate} Hz and {info.channels}",
                "send true stems of that recording, at its rate and with its channels",
            )


def evaluate_stems(bench: Bench, estimates: Estimates, gauge: Gauge, cancel: CancelToken) -> dict[str, Any]:
    """Score what a job has separated; return the scores as JSON-ready data.

    Raises
    ------
    InputError
        The true stems cannot be read, or do not belong to the recording.
    OptionError
        A metric that cannot be had here.
    CancelledError
        Somebody cancelled.
    """
    spec = bench.attempt.spec
    work = _Work(bench, gauge, cancel, steps=2 + 2 * max(len(estimates.stems), len(spec.references or STEMS)))
    mixture = work.sent(bench.recording(), _MIXTURE)
    references = work.references(spec)
    found = work.stored(estimates)
    track = OpenTrack(mixture=mixture.source, references=references)
    return work.scored(track, found, spec.metrics, any_order=estimates.any_order)


def evaluate_uploads(
    bench: Bench, wish: ScoreWish, made: Estimates | None, gauge: Gauge, cancel: CancelToken
) -> dict[str, Any]:
    """Score estimates that were sent, or that another job has made; as evaluate_stems."""
    work = _Work(bench, gauge, cancel, steps=1 + len(wish.uploads) + len(made.stems if made else ()))
    started = time.monotonic()
    spec = bench.attempt.spec
    references = work.references(spec)
    found = work.stored(made) if made is not None else work.sent_estimates(wish)
    mixture: Named | None = None
    if wish.stem_mp4 is not None:
        mixture = work.sent(bench.recording(), _MIXTURE)
    elif wish.mixture is not None:
        mixture = work.opened(partial(_upload, bench, wish.mixture, "mixture"), _MIXTURE)
    notes = () if mixture is not None else ("the mixture is the sum of the references",)
    track = OpenTrack(
        mixture=mixture.source if mixture is not None else SumSource(tuple(references.values())),
        references=references,
        notes=notes,
    )
    any_order = wish.any_order or (made is not None and made.any_order)
    scores = work.scored(track, found, wish.metrics, any_order=any_order)
    return {**scores, "wall_seconds": round(time.monotonic() - started, 3)}


class _Work:
    """Decodes and scores in an attempt's folder, telling how far it is."""

    def __init__(self, bench: Bench, gauge: Gauge, cancel: CancelToken, *, steps: int) -> None:
        self._bench, self._gauge, self._cancel = bench, gauge, cancel
        self._steps = steps
        self._done = self._files = 0
        self._folder = bench.folder / "evaluate"
        self._folder.mkdir(parents=True, exist_ok=True)

    def references(self, spec: JobSpec) -> dict[str, Named]:
        """Decode the true stems."""
        references = _references(self._bench, spec)
        return {name: self.opened(open_it, f"the reference {name}") for name, open_it in references}

    def sent_estimates(self, wish: ScoreWish) -> dict[str, Named]:
        """Decode estimates that somebody sent."""
        return {
            name: self.opened(partial(_upload, self._bench, upload, "estimate"), f"the estimate {name}")
            for name, upload in (wish.estimates or {}).items()
        }

    def opened(self, open_it: Callable[[], IsolatedSource], name: str) -> Named:
        """Decode what somebody sent."""
        with open_it() as source:
            return self.sent(source, name)

    def sent(self, source: IsolatedSource, name: str) -> Named:
        """Decode what somebody sent and is open."""
        named = spool(source, self._next(), name, watch=self._check)
        self._step()
        return named

    def stored(self, estimates: Estimates) -> dict[str, Named]:
        """Fetch what a job has made, at the level that the model gave it."""
        found: dict[str, Named] = {}
        for stem in estimates.stems:
            self._check()
            local = self._next()
            patient(partial(_download, self._bench, stem.key, local), PATIENCE_S)
            name = f"the estimate {stem.name}"
            found[stem.name] = spool(
                open_source(local, name=name), self._next(), name, gain=1 / estimates.gain, watch=self._check
            )
            local.unlink()
            self._step()
        return found

    def scored(
        self, track: OpenTrack, found: dict[str, Named], names: tuple[str, ...], *, any_order: bool
    ) -> dict[str, Any]:
        metrics, options = parse_metrics(names or DEFAULT_METRICS), ScoreOptions()
        row = score_estimates(
            self._bench.attempt.name, track, found, metrics, options, any_order=any_order, watch=self._scoring
        )
        return as_data(row, metrics, options)

    def _next(self) -> Path:
        self._files += 1
        return self._folder / f"{self._files}.wav"

    def _step(self) -> None:
        self._done += 1
        self._gauge.set(_DECODING * min(1.0, self._done / self._steps))

    def _scoring(self, share: float) -> None:
        self._check()
        self._gauge.set(_DECODING + (_SCORING - _DECODING) * share)

    def _check(self) -> None:
        if self._cancel.cancelled:
            raise CancelledError("the job was cancelled", "")


def as_data(row: TrackScores, metrics: tuple[Metric, ...], options: ScoreOptions) -> dict[str, Any]:
    """Return the scores of a track as a result holds them."""
    data = json.loads(row_json(row))
    kept = ("seconds", "sample_rate", "channels", "stems", "notes")
    facts = [metric_facts(metric, options) for metric in metrics]
    return {
        "metrics": [
            {
                "name": fact.name,
                "columns": list(fact.columns),
                "better": metric.better,
                "unit": metric.unit,
                "options": fact.options,
            }
            for fact, metric in zip(facts, metrics, strict=True)
        ],
        **{name: data[name] for name in kept},
        "versions": library_versions(),
    }


def _references(bench: Bench, spec: JobSpec) -> Iterator[tuple[str, Callable[[], IsolatedSource]]]:
    """Yield the names of the true stems, each with what opens it."""
    uploads = spec.references if spec.score is None else spec.score.references
    if uploads is not None:
        for name, upload in uploads.items():
            yield name, partial(_upload, bench, upload, "reference")
        return
    for stream, name in enumerate(STEMS, 1):
        yield name, partial(_stream, bench, stream)


def _stream(bench: Bench, stream: int) -> IsolatedSource:
    limits = DecodeLimits(max_audio_s=bench.max_audio_s)
    try:
        return open_isolated(
            bench.path(), name=bench.attempt.name, limits=limits, stream=stream, decoders=bench.decoders
        )
    except InputError as error:
        raise InputError(
            f"{bench.attempt.name} holds no true stems: {error.message}",
            f"send a `{STEM_SUFFIX}` of MUSDB18, or name the uploads of the references",
        ) from error


def _upload(bench: Bench, upload: str, what: str) -> IsolatedSource:
    """Fetch an upload and open it in a process of its own."""
    folder = bench.folder / "sent"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / upload
    if not path.exists():
        patient(lambda: bench.storage.fetch_upload(upload, path), PATIENCE_S)
    limits = DecodeLimits(max_audio_s=bench.max_audio_s)
    return open_isolated(path, name=f"the {what} {upload}", limits=limits, decoders=bench.decoders)


def _download(bench: Bench, key: str, target: Path) -> None:
    """Copy a file of the storage."""
    with target.open("wb") as file:
        for block in bench.storage.open_range(key):
            file.write(block)
