"""Runs: a model or an oracle separates every track of a data set, and its estimates are scored.

A row stands on the disk when its track is done, so that a run goes on where it was stopped. A track that
fails is a row as well, and is tried again when the run goes on; what is wrong with every track ends the run.
"""

import contextlib
import dataclasses
import importlib.metadata
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stemwright.core.errors import (
    CancelledError,
    InputError,
    InternalError,
    OutOfMemoryError,
    StemwrightError,
    output_error,
    unforeseen,
)
from stemwright.eval.asking import AskedEstimator
from stemwright.eval.datasets.contract import DataSet, DataTrack
from stemwright.eval.datasets.opening import open_data
from stemwright.eval.estimating import (
    ModelChoice,
    model_facts,
    open_estimator,
    write_estimates,
)
from stemwright.eval.measures.contract import Metric, ScoreOptions
from stemwright.eval.metrics import parse_metrics
from stemwright.eval.oracles import Oracle
from stemwright.eval.rows import FailedTrack, MetricFacts, RunFacts, TrackScores
from stemwright.eval.run_log import STAGED_PREFIX
from stemwright.eval.scoring import score_estimates
from stemwright.eval.separating import Report
from stemwright.eval.stem_plans import plan_stems
from stemwright.models.separation.separator import CancelToken

_LOG = logging.getLogger(__name__)
ESTIMATES_FOLDER = "estimates"
_LIBRARIES = ("stemwright", "numpy", "scipy", "onnxruntime", "pesq", "pystoi", "speechmos", "librosa")
_ONE_TRACK = (InputError, InternalError, OutOfMemoryError)
"""What may be wrong with one track and not with the others; everything else ends the run."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What is run.

    Parameters
    ----------
    data, split
        As `open_data` takes them.
    choice
        What makes the estimates.
    metrics
        Names of metrics.
    options
        How tracks are scored.
    keep
        Whether the estimates stay, as RUN/estimates/TRACK/STEM.wav.
    """

    data: str
    split: str | None
    choice: ModelChoice | Oracle
    metrics: tuple[str, ...]
    options: ScoreOptions
    keep: bool = False


def run_facts(plan: RunPlan, data: DataSet, metrics: Sequence[Metric]) -> RunFacts:
    """Return what run.json tells of a run.

    Raises
    ------
    ModelNotFoundError, ModelFileError
        A model cannot be had.
    """
    label, options = model_facts(plan.choice)
    return RunFacts(
        model=label,
        data=plan.data if plan.split is None else f"{plan.data} ({plan.split})",
        metrics=tuple(metric_facts(metric, plan.options) for metric in metrics),
        tracks=tuple(track.name for track in data.tracks),
        options=options,
        versions=library_versions(),
        notes=data.notes,
    )


def metric_facts(metric: Metric, options: ScoreOptions) -> MetricFacts:
    """Describe a metric for run.json."""
    frames = {"window_s": options.window_s, "hop_s": options.hop_s} if metric.framewise else {}
    return MetricFacts(name=metric.name, columns=metric.columns, options={**metric.options, **frames})


def library_versions() -> dict[str, str]:
    """Versions of this package and of those that compute scores, as far as they are installed."""
    versions: dict[str, str] = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


class TrackRunner:
    """Separates and scores tracks of a run, one at a time; a context manager that holds the models.

    Parameters
    ----------
    plan
        What is run.
    folder
        The run's folder, where estimates lie while they are scored, and stay if they are kept.
    """

    def __init__(self, plan: RunPlan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._metrics = parse_metrics(plan.metrics)
        self._data = open_data(plan.data, plan.split)
        self._tracks = {track.name: track for track in self._data.tracks}
        self._stack = contextlib.ExitStack()
        self._estimator = self._stack.enter_context(open_estimator(plan.choice, self._data.nature))
        self._label, _ = model_facts(plan.choice)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def run(self, name: str, report: Report, cancel: CancelToken) -> TrackScores | FailedTrack:
        """Separate and score a track.

        Raises
        ------
        StemwrightError
            What is wrong with every track.
        """
        try:
            return self._run(self._tracks[name], report, cancel)
        except CancelledError:
            raise
        except _ONE_TRACK as error:
            return _failed(name, error)
        except StemwrightError:
            raise
        except Exception as error:
            return _failed(name, unforeseen(error))

    def _run(self, track: DataTrack, report: Report, cancel: CancelToken) -> TrackScores:
        opened = track.open()
        any_order = self._any_order
        available = self._estimator.stems(opened)
        stems = available if any_order else plan_stems(tuple(opened.references), available).estimates
        with self._staged() as staged:
            started = time.monotonic()
            blocks = self._estimator.blocks(opened, stems, report, cancel)
            estimates = write_estimates(blocks, stems, opened, staged)
            separation_s = time.monotonic() - started
            report("scoring", 0.0)
            row = score_estimates(
                track.name, opened, estimates, self._metrics, self._plan.options, any_order=any_order
            )
            kept = self._kept(track.name, staged) if self._plan.keep else None
        left_out = tuple(
            f"{stem} is not scored: there is no reference" for stem in available if stem not in stems
        )
        notes = (*self._estimator.notes(opened), *row.notes, *left_out)
        return dataclasses.replace(
            row, model=self._label, separation_s=round(separation_s, 3), estimates=kept, notes=notes
        )

    @property
    def _any_order(self) -> bool:
        """An oracle knows which stem is which."""
        if isinstance(self._plan.choice, Oracle):
            return False
        asked = isinstance(self._estimator, AskedEstimator)  # each stem by its name
        return not asked and (self._data.interchangeable or self._estimator.interchangeable)

    @contextlib.contextmanager
    def _staged(self) -> Iterator[Path]:
        try:
            staged = tempfile.TemporaryDirectory(
                prefix=STAGED_PREFIX, dir=self._folder, ignore_cleanup_errors=True
            )
        except OSError as error:
            raise output_error(self._folder, error) from error
        with staged as folder:
            (Path(folder) / "stems").mkdir()
            yield Path(folder) / "stems"

    def _kept(self, name: str, staged: Path) -> str:
        """Put the estimates in place, in one step where there are none yet."""
        place = self._folder / ESTIMATES_FOLDER / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():  # of an attempt that was killed before its row was written
                place.rename(staged.parent / "before")
            staged.rename(place)
        except OSError as error:
            raise output_error(place, error) from error
        return f"{ESTIMATES_FOLDER}/{name}"


def _failed(name: str, error: StemwrightError) -> FailedTrack:
    _LOG.debug("%s failed", name, exc_info=error)
    return FailedTrack(track=name, code=error.code, message=error.message, remedy=error.remedy)
