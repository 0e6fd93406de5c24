"""`stemwright separate`: recordings in, folders of stems out."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from stemwright.core.errors import InputError, OptionError, StemwrightError
from stemwright.models.registry import ModelStore
from stemwright.models.separator import Progress
from stemwright.service.cli import options as cli
from stemwright.service.cli.engine import find_models, open_engine
from stemwright.service.cli.main import show_error
from stemwright.service.cli.output import print_json_line, print_path
from stemwright.service.cli.progress import ProgressDisplay
from stemwright.service.naming import DEFAULT_TEMPLATE, NameTemplate, safe_name, same_file_key
from stemwright.service.outcomes import FATAL_ERRORS, error_facts, exit_code, unforeseen
from stemwright.service.results import TrackResult
from stemwright.service.staging import output_error, sweep
from stemwright.service.tracks import (
    Engine,
    Layout,
    Place,
    PlacedFile,
    TrackOptions,
    place_track,
    separate_to_files,
)

DEFAULT_OUT = Path("separated")
STREAM = "-"
_STREAM_TRACK = "stdin"

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def separate(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Recordings of any format; - is standard input.")
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="OUT", help="Output folder; - is standard output (see below)."),
    ] = str(DEFAULT_OUT),
    model: cli.ModelsOption = [cli.DEFAULT_MODEL],  # noqa: B006 - typer reads it, nothing changes it
    weights: cli.WeightsOption = None,
    stems: cli.StemsOption = None,
    two_stems: cli.TwoStemsOption = None,
    residual: cli.ResidualOption = False,
    container: Annotated[cli.Container, typer.Option("--format", help="Format of the stems.")] = "wav",
    bit_depth: cli.BitDepthOption = None,
    bitrate: cli.BitrateOption = None,
    clip_mode: cli.ClipModeOption = "shared",
    shifts: cli.ShiftsOption = 0,
    seed: cli.SeedOption = 0,
    overlap: cli.OverlapOption = None,
    start: Annotated[
        float, typer.Option("--start", min=0.0, metavar="SECONDS", help="Start of the excerpt.")
    ] = 0.0,
    end: Annotated[
        float | None, typer.Option("--end", min=0.0, metavar="SECONDS", help="End of the excerpt.")
    ] = None,
    name_template: Annotated[
        str,
        typer.Option(
            "--name-template",
            metavar="TEMPLATE",
            help="Paths below OUT, of {track}, {stem}, {ext} and {model}.",
        ),
    ] = DEFAULT_TEMPLATE,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist; without it they are an error.")
    ] = False,
    device: cli.DeviceOption = "auto",
    precision: cli.PrecisionOption = "auto",
    threads: cli.ThreadsOption = None,
    low_memory: cli.LowMemoryOption = False,
    accept_licence: cli.AcceptLicenceOption = False,
    json_lines: cli.JsonOption = False,
) -> int:
    """Separate recordings into their stems.

    Writes OUT/TRACK/STEM.EXT and OUT/TRACK/result.json, all at once when a track is complete, and
    prints the paths; with --json one line of JSON for each input. The stems have the recording's
    sample rate, channels, length, tags and cover.

    With -o - the result goes to standard output: one stem, or several as the channels of one WAV
    file, stem after stem in the order of --stems.
    """
    options = cli.track_options(
        stems=stems,
        two_stems=two_stems,
        residual=residual,
        overlap=overlap,
        shifts=shifts,
        seed=seed,
        fmt=cli.output_format(container=container, bit_depth=bit_depth, bitrate=bitrate, clip_mode=clip_mode),
        layout=_layout(out, container),
        clip_mode=clip_mode,
        start_s=start,
        end_s=end,
    )
    template = NameTemplate(name_template)
    if out == STREAM:
        _check_stream(inputs, json_lines=json_lines, templated=name_template != DEFAULT_TEMPLATE)
    names = _track_names(inputs)
    shares = cli.parse_weights(weights, len(model))
    early = _missing_inputs(inputs)
    if len(early) == len(inputs):
        return _show_all(early, json_lines=json_lines)
    session = cli.session_options(device=device, precision=precision, threads=threads, low_memory=low_memory)
    store = ModelStore()
    models = find_models(model, store, accept_licence=accept_licence)
    with open_engine(models, shares, store, session) as engine:
        if out == STREAM:
            return _to_stdout(engine, inputs[0], options)
        run = _Run(engine=engine, options=options, out=Path(out), overwrite=overwrite, json=json_lines)
        places = run.places(inputs, names, template)
        engine.separator.prepare(options.separation)
        return run.separate_all(places, early)


def _layout(out: str, container: cli.Container) -> Layout:
    if out == STREAM:
        if container == "stem.mp4":
            raise OptionError("stem.mp4 cannot be written to standard output", "give a folder with -o")
        return "joined"
    return "stem.mp4" if container == "stem.mp4" else "file_per_stem"


def _check_stream(inputs: Sequence[str], *, json_lines: bool, templated: bool) -> None:
    if len(inputs) > 1:
        raise OptionError("standard output takes the stems of one recording", "give a folder with -o")
    if json_lines or templated:
        raise OptionError(
            "-o - leaves no room for --json or --name-template", "leave them out or give a folder with -o"
        )
    if sys.stdout.isatty():
        raise OptionError("standard output is a terminal", "send it to a file or into a pipe")


def _track_names(inputs: Sequence[str]) -> dict[str, str]:
    """Name each input's track.

    Raises
    ------
    OptionError
        Two inputs would write the same files.
    """
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for item in inputs:
        name = track_name(item)
        key = same_file_key(PurePosixPath(name))
        if key in owners:
            both = f"{owners[key]!r} and {item!r}" if owners[key] != item else f"{item!r} twice"
            raise OptionError(
                f"the inputs name {both}: both would be written as {name!r}",
                "separate them in two runs with a different -o",
            )
        owners[key] = item
        names[item] = name
    return names


def track_name(item: str) -> str:
    """Return the track's name: the file's without extensions of audio, made safe."""
    if item == STREAM:
        return _STREAM_TRACK
    name = Path(item).name
    stem = name[: -len(".stem.mp4")] if name.lower().endswith(".stem.mp4") else Path(name).stem
    return safe_name(stem)


def _missing_inputs(inputs: Sequence[str]) -> dict[str, StemwrightError]:
    """Find what needs no decoder to be told, before a model is loaded for it."""
    errors: dict[str, StemwrightError] = {}
    for item in inputs:
        path = Path(item)
        if item == STREAM:
            continue
        try:
            if path.is_dir():
                errors[item] = InputError(f"{item} is a folder", "use `stemwright batch` for folders")
            elif not path.exists():
                errors[item] = InputError(f"{item} does not exist", "check the path")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            errors[item] = InputError(f"cannot read {item}: {reason}", "check the path")
    return errors


def _show_all(errors: dict[str, StemwrightError], *, json_lines: bool) -> int:
    for item, error in errors.items():
        _show_failure(item, error, json_lines=json_lines)
    return exit_code(list(errors.values()))


def _show_failure(item: str, error: StemwrightError, *, json_lines: bool) -> None:
    show_error(error.message, error.remedy)
    if json_lines:
        print_json_line({"input": item, "outcome": "failed", "error": error_facts(error).as_dict()})


def _to_stdout(engine: Engine, item: str, options: TrackOptions) -> int:
    """Separate into a temporary file, so that a failure in the middle sends nothing."""
    stems = engine.separator.output_stems(options.separation)
    if len(stems) > 1 and options.fmt.container != "wav":
        raise OptionError("several stems go to standard output as WAV only", "use --format wav or one stem")
    with tempfile.TemporaryDirectory(prefix="stemwright-") as folder, ProgressDisplay() as display:
        file = PlacedFile(path=PurePosixPath(f"stems.{options.extension}"), stems=stems)
        place = Place(out=Path(folder), label="stdout", files=(file,), result=None)
        with display.track(track_name(item)) as bar:
            separate_to_files(engine, item, place, options, progress=shown_by(bar.update))
        with (Path(folder) / file.path).open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    return exit_code([None])


def shown_by(update: Callable[[float, str], None]) -> Callable[[Progress], None]:
    """Turn the engine's progress into a bar's."""

    def report(progress: Progress) -> None:
        update(progress.fraction, progress.stage)

    return report


@dataclass(frozen=True, kw_only=True)
class _Run:
    engine: Engine
    options: TrackOptions
    out: Path
    overwrite: bool
    json: bool

    def places(
        self, inputs: Sequence[str], names: dict[str, str], template: NameTemplate
    ) -> dict[str, Place]:
        """Place all tracks; raises OptionError where two of their files would be the same."""
        stems = self.engine.separator.output_stems(self.options.separation)
        model = safe_name(self.engine.label, fallback="model")
        places: dict[str, Place] = {}
        owners: dict[str, str] = {}
        for item in inputs:
            place = place_track(self.out, names[item], stems, self.options, template, model)
            for path in place.published:
                other = owners.setdefault(same_file_key(path), item)
                if other != item or len({*place.published}) < len(place.published):
                    raise OptionError(
                        f"{other!r} and {item!r} would both be written to {path}",
                        "put {track} and {stem} into --name-template",
                    )
            places[item] = place
        return places

    def separate_all(self, places: dict[str, Place], early: dict[str, StemwrightError]) -> int:
        """Separate every input; return the exit code."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.out, error) from error
        sweep(self.out)
        errors: list[StemwrightError | None] = []
        with ProgressDisplay(len(places)) as display:
            for item, place in places.items():
                errors.append(self._one(item, place, early.get(item), display))
        return exit_code(errors)

    def _one(
        self, item: str, place: Place, early: StemwrightError | None, display: ProgressDisplay
    ) -> StemwrightError | None:
        try:
            if early is not None:
                raise early
            with display.track(place.label) as bar:
                result = self._separate(item, place, shown_by(bar.update))
        except FATAL_ERRORS:
            raise
        except StemwrightError as error:
            with display.hidden():
                _show_failure(item, error, json_lines=self.json)
            return error
        with display.hidden():
            self._show(item, place, result)
        return None

    def _separate(self, item: str, place: Place, report: Callable[[Progress], None]) -> TrackResult:
        with _unforeseen_as_ours():
            return separate_to_files(self.engine, item, place, self.options, progress=report)

    def _show(self, item: str, place: Place, result: TrackResult) -> None:
        paths = [self.out / path for path in place.published]
        if self.json:
            data = {"input": item, "outcome": "done", "paths": [str(path) for path in paths]}
            print_json_line({**data, "result": result.as_dict()})
            return
        for path in paths:
            print_path(path)


@contextlib.contextmanager
def _unforeseen_as_ours() -> Iterator[None]:
    try:
        yield
    except StemwrightError:
        raise
    except Exception as error:
        raise unforeseen(error) from error
