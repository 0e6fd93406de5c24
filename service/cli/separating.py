"""The work of `stemwright separate`."""

import contextlib
import dataclasses
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import typer

from stemwright.core.audio.source import open_source
from stemwright.core.errors import InputError, OptionError, StemwrightError, output_error, unforeseen
from stemwright.models.separation.separator import Progress
from stemwright.service.asking import Asker
from stemwright.service.cli.engine import open_asker, open_engine, track_options
from stemwright.service.cli.main import printable, show_error
from stemwright.service.cli.options import Choices, Container
from stemwright.service.cli.output import print_json_line, print_path
from stemwright.service.cli.progress import ProgressDisplay
from stemwright.service.naming import DEFAULT_TEMPLATE, NameTemplate, safe_name, same_file_key
from stemwright.service.outcomes import FATAL_ERRORS, error_facts, exit_code
from stemwright.service.places import Layout, Place, PlacedFile, earlier_files, place_track
from stemwright.service.results import TrackResult
from stemwright.service.staging import sweep
from stemwright.service.tracks import (
    Engine,
    TrackOptions,
    separate_to_files,
)

_LOG = logging.getLogger(__name__)

STREAM = "-"
_STREAM_TRACK = "stdin"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked of `separate` beside the shared options."""

    inputs: tuple[str, ...]
    out: str
    name_template: str = DEFAULT_TEMPLATE
    overwrite: bool = False
    start_s: float = 0.0
    end_s: float | None = None


def separate_inputs(choices: Choices, request: Request) -> int:
    """Separate all inputs; return the exit code.

    Raises
    ------
    StemwrightError
        What is wrong with the request as a whole; an error of one input is shown, and the next is done.
    """
    options = track_options(
        choices,
        layout=_layout(request.out, choices.container),
        start_s=request.start_s,
        end_s=request.end_s,
    )
    template = NameTemplate(request.name_template)
    if request.out == STREAM:
        _check_stream(choices, request)
    names = _track_names(request.inputs)
    early = _missing_inputs(request.inputs)
    if len(early) == len(request.inputs):
        return _show_all(early, json_lines=choices.json_lines)
    with open_engine(choices) as engine:
        asker = open_asker(choices, engine)
        if asker.automatic and (STREAM in request.inputs or request.out == STREAM):
            raise OptionError(
                "--auto hears the recording first and names the files by what is in it",
                "give a file, and a folder with -o",
            )
        if not asker.automatic:
            options = asker.options(options)
        if request.out == STREAM:
            return _to_stdout(engine, request.inputs[0], options)
        run = _Run(
            engine=engine,
            asker=asker,
            options=options,
            out=Path(request.out),
            template=template,
            names=names,
            overwrite=request.overwrite,
            json=choices.json_lines,
        )
        run.check_places(request.inputs)
        if not asker.automatic:
            engine.separator.prepare(options.separation)
        return run.separate_all(request.inputs, early)


def _layout(out: str, container: Container) -> Layout:
    if out == STREAM:
        if container == "stem.mp4":
            raise OptionError("stem.mp4 cannot be written to standard output", "give a folder with -o")
        return "joined"
    return "stem.mp4" if container == "stem.mp4" else "file_per_stem"


def _check_stream(choices: Choices, request: Request) -> None:
    if len(request.inputs) > 1:
        raise OptionError("standard output takes the stems of one recording", "give a folder with -o")
    if choices.json_lines or request.name_template != DEFAULT_TEMPLATE:
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
    _LOG.debug("%s failed", item, exc_info=error)
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
            separate_to_files(engine, item, place, options, progress=bar.update)
        with (Path(folder) / file.path).open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    return exit_code([None])


@dataclass(frozen=True, kw_only=True)
class _Run:
    engine: Engine
    asker: Asker
    options: TrackOptions
    out: Path
    template: NameTemplate
    names: dict[str, str]
    overwrite: bool
    json: bool

    def check_places(self, inputs: Sequence[str]) -> None:
        """Check that no two files would be the same, nor one an input; raises OptionError.

        What automatic queries will find is not known yet: a stem of any name stands for all.
        """
        options = self.options
        stems = ("stem",) if self.asker.automatic else self.engine.separator.output_stems(options.separation)
        owners: dict[str, str] = {}
        recordings = {os.path.realpath(item) for item in inputs if item != STREAM}
        for item in inputs:
            place = self._place(item, options, stems)
            for path in place.published:
                other = owners.setdefault(same_file_key(path), item)
                if other != item or len({*place.published}) < len(place.published):
                    raise OptionError(
                        f"{other!r} and {item!r} would both be written to {path}",
                        "put {track} and {stem} into --name-template",
                    )
                if os.path.realpath(self.out / path) in recordings:
                    raise OptionError(f"{self.out / path} is an input itself", "choose another -o")

    def place(self, item: str, options: TrackOptions) -> Place:
        """Return the place of a recording's stems."""
        place = self._place(item, options, self.engine.separator.output_stems(options.separation))
        return self._replacing(place) if self.overwrite else place

    def _place(self, item: str, options: TrackOptions, stems: tuple[str, ...]) -> Place:
        return place_track(
            self.out,
            self.names[item],
            stems,
            layout=options.layout,
            extension=options.extension,
            template=self.template,
            model=safe_name(self.engine.label, fallback="model"),
            groups=options.groups,
        )

    def _replacing(self, place: Place) -> Place:
        stale = () if place.result is None else earlier_files(self.out, place.result)
        return dataclasses.replace(place, replace=True, stale=stale)

    def separate_all(self, inputs: Sequence[str], early: dict[str, StemwrightError]) -> int:
        """Separate every input; return the exit code."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.out, error) from error
        sweep(self.out)
        errors: list[StemwrightError | None] = []
        with ProgressDisplay(len(inputs)) as display:
            for item in inputs:
                errors.append(self._one(item, early.get(item), display))
        return exit_code(errors)

    def _one(
        self, item: str, early: StemwrightError | None, display: ProgressDisplay
    ) -> StemwrightError | None:
        try:
            if early is not None:
                raise early
            with display.track(self.names[item]) as bar:
                place, result = self._separate(item, bar.update)
        except FATAL_ERRORS:
            raise
        except StemwrightError as error:
            with display.hidden():
                _show_failure(item, error, json_lines=self.json)
            return error
        with display.hidden():
            self._show(item, place, result)
        return None

    def _separate(self, item: str, report: Callable[[Progress], None]) -> tuple[Place, TrackResult]:
        with _unforeseen_as_ours():
            options = self.options
            if self.asker.automatic:
                with open_source(item, start_s=options.start_s, end_s=options.end_s) as recording:
                    options = self.asker.options(options, recording)
            place = self.place(item, options)
            return place, separate_to_files(self.engine, item, place, options, progress=report)

    def _show(self, item: str, place: Place, result: TrackResult) -> None:
        paths = [self.out / path for path in place.published]
        for query in result.queries:
            if query.inactive:
                asked, where = printable(query.asked), printable(item)
                typer.echo(f"note: {asked!r} was not heard in {where}; its stem is silence", err=True)
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
