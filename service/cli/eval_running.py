"""The work of `stemwright eval run`."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from stemwright.core.errors import InputError, OptionError, StemwrightError
from stemwright.eval.datasets.opening import open_data
from stemwright.eval.estimating import ModelChoice
from stemwright.eval.measures.contract import Metric, ScoreOptions
from stemwright.eval.metrics import DEFAULT_METRICS, parse_metrics
from stemwright.eval.oracles import PREFIX, Oracle, parse_oracle
from stemwright.eval.rows import FailedTrack, TrackScores, row_json
from stemwright.eval.run_log import RunLog
from stemwright.eval.run_workers import run_tracks
from stemwright.eval.running import RunPlan, run_facts
from stemwright.eval.separating import Report
from stemwright.service.cli.engine import find_models, session_options, track_options
from stemwright.service.cli.main import printable, show_error
from stemwright.service.cli.options import Choices
from stemwright.service.cli.output import print_json_line
from stemwright.service.cli.progress import ProgressDisplay
from stemwright.service.cli.score_table import print_run
from stemwright.service.outcomes import exit_code


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What was asked of `eval run` beside the model's options."""

    data: str
    split: str | None
    out: Path
    metrics: tuple[str, ...]
    workers: int
    keep: bool
    options: ScoreOptions


def run_over_data(choices: Choices, request: RunRequest) -> int:
    """Run a model over a data set, or go on with it; return the exit code.

    Raises
    ------
    StemwrightError
        What is wrong with the run as a whole; an error of one track is shown, and the next is done.
    """
    metrics = parse_metrics(request.metrics or DEFAULT_METRICS)
    data = open_data(request.data, request.split)
    plan = _plan(choices, request, metrics)
    with RunLog(request.out, run_facts(plan, data, metrics)) as log:
        names = [track.name for track in data.tracks]
        waiting = [name for name in names if log.done(name) is None]
        if len(waiting) < len(names):
            typer.echo(f"{len(names) - len(waiting)} of {len(names)} tracks were done before", err=True)
        told: set[str] = set()
        with ProgressDisplay(len(waiting)) as display:
            for row in run_tracks(plan, request.out, waiting, request.workers, _Bars(display)):
                log.append(row)
                with display.hidden():
                    _tell(row, told, as_json=choices.json_lines)
        rows = [log.rows[name] for name in names if name in log.rows]
    done = [row for row in rows if isinstance(row, TrackScores)]
    if not choices.json_lines and done:
        print_run(done, metrics, request.options)
    return exit_code([_error(row) for row in rows])


def _plan(choices: Choices, request: RunRequest, metrics: Sequence[Metric]) -> RunPlan:
    cores = choices.threads or len(os.sched_getaffinity(0))
    return RunPlan(
        data=request.data,
        split=request.split,
        choice=_choice(choices),
        metrics=tuple(metric.name for metric in metrics),
        options=dataclasses.replace(request.options, threads=cores),
        keep=request.keep,
    )


def _choice(choices: Choices) -> ModelChoice | Oracle:
    oracles = [name for name in choices.models if name.startswith(PREFIX)]
    if not oracles:
        find_models(choices)  # pulls what is missing, where that is wanted
        return ModelChoice(
            models=choices.models,
            weights=choices.weights,
            session=session_options(choices),
            separation=track_options(choices).separation,
        )
    if len(choices.models) > 1:
        raise OptionError("an oracle cannot be averaged with models", "run each by itself")
    return parse_oracle(oracles[0])


@dataclass(frozen=True)
class _Bars:
    """Shows tracks in the display's bars."""

    display: ProgressDisplay

    @contextlib.contextmanager
    def track(self, label: str) -> Iterator[Report]:
        with self.display.track(label) as bar:
            yield lambda stage, share: bar.show(stage, share if stage == "separating" else 1.0)


def _tell(row: TrackScores | FailedTrack, told: set[str], *, as_json: bool) -> None:
    """Show a track's error or notes at once, and its row; what was told of a track before, not again."""
    if isinstance(row, FailedTrack):
        name, message = printable(row.track), printable(row.message)
        show_error(message if name in message else f"{name}: {message}", row.remedy)
    else:
        for note in dict.fromkeys(note for note in row.notes if note not in told):
            told.add(note)
            typer.echo(f"note: {printable(row.track)}: {printable(note)}", err=True)
    if as_json:
        print_json_line(json.loads(row_json(row)))


def _error(row: TrackScores | FailedTrack) -> StemwrightError | None:
    """Return the error that a failed row stands for; its kind decides the exit code."""
    if isinstance(row, TrackScores):
        return None
    kind = InputError if row.code == InputError.code else StemwrightError
    return kind(row.message, row.remedy)
