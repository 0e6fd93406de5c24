"""The work of `stemwright batch`."""

import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from stemwright.core.errors import EXIT_OK, OptionError, OutputError, StemwrightError
from stemwright.core.musdb import Split
from stemwright.models.separation.separator import Progress
from stemwright.service.batches import BatchPlan, BatchRun, LocalWork, Outcome, TrackWork, identify
from stemwright.service.cli.batch_wishes import ScoreWish
from stemwright.service.cli.engine import open_asker, open_engine, track_options
from stemwright.service.cli.main import printable, show_error
from stemwright.service.cli.options import Choices
from stemwright.service.cli.output import print_json_line
from stemwright.service.cli.progress import ProgressDisplay
from stemwright.service.folders import Collection, Track, find_tracks
from stemwright.service.ledger import LEDGER_FILE, Ledger, Row, read_rows
from stemwright.service.outcomes import exit_code
from stemwright.service.staging import sweep

if TYPE_CHECKING:
    from stemwright.service.cli.batch_scores import BatchScores

_LOG = logging.getLogger(__name__)

_MAX_KEY = 48


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked of `batch` beside the shared options."""

    folder: Path
    out: Path
    split: Split | None = None
    workers: int | None = None
    server: str | None = None
    key: str | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    evaluate: bool = False
    metrics: tuple[str, ...] = ()

    def scores(self, choices: Choices) -> ScoreWish | None:
        """Return what the stems are scored by, None where they are not."""
        if not self.evaluate:
            return None
        model = "+".join(Path(name).name for name in choices.models)
        return ScoreWish(metrics=self.metrics, model=model, folder=self.folder, anew=self.overwrite)


def separate_folder(choices: Choices, request: Request) -> int:
    """Separate a folder; return the exit code.

    Raises
    ------
    StemwrightError
        What is wrong with the request as a whole; an error of one track is shown, and the next is done.
    """
    if request.resume and request.overwrite:
        raise OptionError("--resume and --overwrite exclude each other", "use one of them")
    if request.metrics and not request.evaluate:
        raise OptionError("--metric is for --evaluate", "add --evaluate, or leave --metric out")
    collection = find_tracks(request.folder, split=request.split, out=request.out)
    _check_musdb(collection, choices)
    depth: Literal["16", "32f"] = "16" if collection.kind == "plain" else "32f"
    options = track_options(choices, default_depth=depth)
    if request.server is not None:
        from stemwright.service.cli.remote_batching import separate_by_service

        return separate_by_service(choices, request, collection, options)
    with open_engine(choices) as engine:
        options = open_asker(choices, engine).options(options)
        plan = BatchPlan(
            collection=collection,
            out=request.out,
            stems=engine.separator.output_stems(options.separation),
            options=options,
            identity=identify(engine.models, options, precision=choices.precision),
            overwrite=request.overwrite,
        )
        if request.dry_run:
            return show_plan(plan, json_lines=choices.json_lines)
        with open_ledger(request) as ledger:
            engine.separator.prepare(options.separation)
            work = LocalWork(engine=engine, options=options)
            batch = BatchWork(plan, work, request.workers or 2, request.scores(choices))
            return run_batch(batch, ledger, json_lines=choices.json_lines)


@dataclass(frozen=True)
class BatchWork:
    """A batch: what is done, by whom, with how many tracks in flight, and what it is scored by."""

    plan: BatchPlan
    work: TrackWork
    workers: int
    scores: ScoreWish | None = None


def run_batch(batch: BatchWork, ledger: Ledger, *, json_lines: bool) -> int:
    """Work through a batch and tell of it; return the exit code."""
    with contextlib.ExitStack() as stack:
        scores = None
        if batch.scores is not None:
            from stemwright.service.cli.batch_scores import BatchScores  # loads what only scores need

            scores = stack.enter_context(BatchScores(batch.plan, batch.scores))
        outcomes, errors = _run(batch, ledger, scores, json_lines=json_lines)
        if not json_lines:
            _print_table(outcomes)
            if scores is not None:
                scores.show()
    return exit_code(errors)


def _run(
    batch: BatchWork, ledger: Ledger, scores: "BatchScores | None", *, json_lines: bool
) -> tuple[list[Outcome], list[StemwrightError | None]]:
    """Return what became of the tracks, and what went wrong with each or with its scores."""
    outcomes: list[Outcome] = []
    errors: list[StemwrightError | None] = []
    with ProgressDisplay(len(batch.plan.collection.tracks)) as display:
        run = BatchRun(
            plan=batch.plan, ledger=ledger, work=batch.work, workers=batch.workers, observer=_Bars(display)
        )
        for outcome in run.outcomes():
            outcomes.append(_told(outcome, display, json_lines=json_lines))
            error = outcome.error
            if scores is not None and error is None:
                error = scores.score(outcome)
                if error is not None:
                    with display.hidden():
                        key = outcome.track.key
                        show_error(f"{key} could not be scored: {error.message}", error.remedy)
            errors.append(error)
    return outcomes, errors


def _check_musdb(collection: Collection, choices: Choices) -> None:
    """Refuse what would not be read back, or would be counted as a source."""
    if collection.kind == "plain":
        return
    if choices.container != "wav":
        raise OptionError(f"musdb and museval read wav only, not {choices.container}", "leave --format out")
    if choices.residual:
        raise OptionError("museval would count the residual as a source", "leave --residual out")
    if choices.two_stems not in (None, "vocals"):
        raise OptionError(
            f"MUSDB has no name for the mixture without {choices.two_stems}",
            "use --two-stems vocals or --stems",
        )


@contextlib.contextmanager
def open_ledger(request: Request) -> Iterator[Ledger]:
    """Hold the ledger, with leftovers of killed runs swept away."""
    out = request.out
    with Ledger(out) as ledger:
        if not (ledger.empty or request.resume or request.overwrite):
            raise OutputError(
                f"{out} holds an earlier batch, with {ledger.count} tracks",
                "--resume goes on with it, --overwrite does it again, another -o leaves it alone",
            )
        sweep(out)
        yield ledger


@dataclass(frozen=True)
class _Bars:
    """Shows the engine's progress in the display's bars."""

    display: ProgressDisplay

    @contextlib.contextmanager
    def track(self, label: str) -> Iterator[Callable[[Progress], None]]:
        with self.display.track(label) as bar:
            yield bar.update


def _told(outcome: Outcome, display: ProgressDisplay, *, json_lines: bool) -> Outcome:
    """Show a track's error at once, and its JSON; drop what the table does not need."""
    with display.hidden():
        if outcome.error is not None:
            _LOG.debug("%s failed", outcome.track.key, exc_info=outcome.error)
            key, message = outcome.track.key, outcome.error.message
            show_error(message if message.startswith(key) else f"{key}: {message}", outcome.error.remedy)
        if json_lines:
            print_json_line(outcome.as_dict())
    return dataclasses.replace(outcome, result=None)


def _print_table(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each track in the order of their names, and the sums."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.track.key)
    width = max(len("track"), *(len(_short(outcome.track.key)) for outcome in ordered))
    typer.echo(f"{'track':{width}}  {'outcome':8}  {'seconds':>8}  {'factor':>7}  note")
    for outcome in ordered:
        row = outcome.row
        seconds = row.seconds if row is not None else None
        factor = row.wall_seconds / seconds if row is not None and row.wall_seconds and seconds else None
        cells = (
            f"{_short(outcome.track.key):{width}}",
            f"{outcome.word:8}",
            f"{'' if seconds is None else f'{seconds:.1f}':>8}",
            f"{'' if factor is None else f'{factor:.3f}':>7}",
            printable(outcome.error.message) if outcome.error is not None else "",
        )
        typer.echo("  ".join(cells).rstrip())
    counts = Counter(outcome.word for outcome in ordered)
    typer.echo(", ".join(f"{counts[word]} {word}" for word in ("done", "skipped", "failed") if counts[word]))


def _short(key: str) -> str:
    shown = printable(key)
    return shown if len(shown) <= _MAX_KEY else f"{shown[: _MAX_KEY - 1]}…"


def show_plan(plan: BatchPlan, *, json_lines: bool) -> int:
    """Tell what would be done with each track."""
    ledger = plan.out / LEDGER_FILE
    rows = read_rows(ledger) if ledger.is_file() else {}
    if not json_lines:
        typer.echo(f"{plan.collection.kind}, {len(plan.collection.tracks)} tracks")
    for track in plan.collection.tracks:
        action, why = _planned(plan, track, rows.get(track.key))
        if json_lines:
            print_json_line(
                {"track": track.key, "action": action, "why": why, "target": str(plan.out / track.target)}
            )
        else:
            typer.echo(printable(f"{action:8}  {track.key} -> {plan.out / track.target} ({why})"))
    return EXIT_OK


def _planned(plan: BatchPlan, track: Track, row: Row | None) -> tuple[str, str]:
    try:
        action, _, why = plan.action(track, row)
    except StemwrightError as error:
        return "fail", error.message
    return action, why
