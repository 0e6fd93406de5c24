"""`stemwright batch`: a folder of recordings or MUSDB18 in, a tree of stems and a ledger out."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stemwright.core.errors import EXIT_OK, OptionError, OutputError, StemwrightError
from stemwright.models.registry import ModelStore
from stemwright.models.separator import Progress
from stemwright.service.batches import BatchPlan, BatchRun, Outcome, identify
from stemwright.service.cli import options as cli
from stemwright.service.cli.engine import find_models, open_engine
from stemwright.service.cli.main import printable, show_error
from stemwright.service.cli.output import print_json_line
from stemwright.service.cli.progress import ProgressDisplay
from stemwright.service.folders import Collection, Split, Track, find_tracks
from stemwright.service.ledger import LEDGER_FILE, Ledger, Row, read_rows
from stemwright.service.outcomes import exit_code
from stemwright.service.staging import sweep

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_MAX_KEY = 48


@app.command()
def batch(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="MUSDB18, MUSDB18-HQ, or any folder of recordings.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Output folder.")],
    model: cli.ModelsOption = [cli.DEFAULT_MODEL],  # noqa: B006 - typer reads it, nothing changes it
    weights: cli.WeightsOption = None,
    split: Annotated[Split | None, typer.Option("--split", help="Only this part of MUSDB.")] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=1, max=32, metavar="N", help="Tracks in flight around the one network."
        ),
    ] = 2,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the batch in OUT: do what is not done, or changed.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do all tracks again, replacing what is there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done with each track, and do nothing.")
    ] = False,
    stems: cli.StemsOption = None,
    two_stems: cli.TwoStemsOption = None,
    residual: cli.ResidualOption = False,
    container: Annotated[
        cli.Container, typer.Option("--format", help="Format of the stems; of MUSDB always wav.")
    ] = "wav",
    bit_depth: cli.BitDepthOption = None,
    bitrate: cli.BitrateOption = None,
    clip_mode: cli.ClipModeOption = "shared",
    shifts: cli.ShiftsOption = 0,
    seed: cli.SeedOption = 0,
    overlap: cli.OverlapOption = None,
    device: cli.DeviceOption = "auto",
    precision: cli.PrecisionOption = "auto",
    threads: cli.ThreadsOption = None,
    low_memory: cli.LowMemoryOption = False,
    accept_licence: cli.AcceptLicenceOption = False,
    json_lines: cli.JsonOption = False,
) -> int:
    """Separate all recordings of a folder, resumable after a kill at any moment.

    MUSDB18 and MUSDB18-HQ give OUT/{train,test}/TRACK/STEM.wav, as musdb and museval read it, 32-bit
    float unless --bit-depth says otherwise; other folders give OUT/PATH/TRACK/STEM.EXT and a
    result.json beside. OUT/batch.jsonl has a row for every track. Where it exists, say --resume or
    --overwrite. One bad recording does not stop the rest. Prints a table at the end, or with --json
    a line of JSON for each track.
    """
    if resume and overwrite:
        raise OptionError("--resume and --overwrite exclude each other", "use one of them")
    collection = find_tracks(folder, split=split, out=out)
    _check_musdb(collection, container=container, two_stems=two_stems, residual=residual)
    options = cli.track_options(
        stems=stems,
        two_stems=two_stems,
        residual=residual,
        overlap=overlap,
        shifts=shifts,
        seed=seed,
        fmt=cli.output_format(
            container=container,
            bit_depth=bit_depth,
            bitrate=bitrate,
            clip_mode=clip_mode,
            default_depth="16" if collection.kind == "plain" else "32f",
        ),
        layout="stem.mp4" if container == "stem.mp4" else "file_per_stem",
        clip_mode=clip_mode,
    )
    shares = cli.parse_weights(weights, len(model))
    session = cli.session_options(device=device, precision=precision, threads=threads, low_memory=low_memory)
    store = ModelStore()
    models = find_models(model, store, accept_licence=accept_licence)
    with open_engine(models, shares, store, session) as engine:
        plan = BatchPlan(
            collection=collection,
            out=out,
            stems=engine.separator.output_stems(options.separation),
            options=options,
            identity=identify(engine.models, options, precision=precision),
            overwrite=overwrite,
        )
        if dry_run:
            return _show_plan(plan, json_lines=json_lines)
        with _open_ledger(out, decided=resume or overwrite) as ledger:
            engine.separator.prepare(options.separation)
            with ProgressDisplay(len(collection.tracks)) as display:
                run = BatchRun(
                    plan=plan, ledger=ledger, engine=engine, workers=workers, observer=_Bars(display)
                )
                outcomes = [_told(outcome, display, json_lines=json_lines) for outcome in run.outcomes()]
    if not json_lines:
        _print_table(outcomes)
    return exit_code([outcome.error for outcome in outcomes])


def _check_musdb(
    collection: Collection, *, container: cli.Container, two_stems: str | None, residual: bool
) -> None:
    """Refuse what would not be read back, or would be counted as a source."""
    if collection.kind == "plain":
        return
    if container != "wav":
        raise OptionError(f"musdb and museval read wav only, not {container}", "leave --format out")
    if residual:
        raise OptionError("museval would count the residual as a source", "leave --residual out")
    if two_stems not in (None, "vocals"):
        raise OptionError(
            f"MUSDB has no name for the mixture without {two_stems}", "use --two-stems vocals or --stems"
        )


@contextlib.contextmanager
def _open_ledger(out: Path, *, decided: bool) -> Iterator[Ledger]:
    """Hold the ledger, with leftovers of killed runs swept away."""
    with Ledger(out) as ledger:
        if not (ledger.empty or decided):
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
            yield lambda progress: bar.update(progress.fraction, progress.stage)


def _told(outcome: Outcome, display: ProgressDisplay, *, json_lines: bool) -> Outcome:
    """Show a track's error at once, and its JSON; drop what the table does not need."""
    with display.hidden():
        if outcome.error is not None:
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


def _show_plan(plan: BatchPlan, *, json_lines: bool) -> int:
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
