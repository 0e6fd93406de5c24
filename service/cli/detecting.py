"""The work of `stemwright detect`."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from stemwright.core.audio.source import AudioInfo, open_source
from stemwright.core.errors import OutputError
from stemwright.core.figures import picture_format
from stemwright.models.query.detection import ClassActivity, detect
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import tagger_session
from stemwright.service.cli.main import printable
from stemwright.service.cli.output import print_json_line
from stemwright.service.detection_picture import draw_detection

_SHOWN_TIMES = 4


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked of `detect`."""

    recording: str
    tagger: str
    top: int
    level: int | None
    threshold: float
    picture: Path | None
    device: str
    threads: int | None
    as_json: bool


def detect_sounds(request: Request) -> None:
    """Hear a recording, and print or draw what is in it.

    Raises
    ------
    StemwrightError
        The recording, the tagger or the place of the picture cannot be used.
    """
    if request.picture is not None:
        picture_format(request.picture)  # a wrong name is told before the work, and so is a wrong place
        if not request.picture.parent.is_dir():
            raise OutputError(f"{request.picture} cannot be written: there is no such folder", "make it")
    tagger = tagger_session(request.tagger, SessionOptions(device=request.device, threads=request.threads))
    with open_source(request.recording) as source, _bar(source.info) as report:
        name, detection = source.name, detect(source, tagger, progress=report)
    if request.level is None:
        shown = detection.strongest(request.top, threshold=request.threshold)
    else:
        shown = detection.at_level(request.level, threshold=request.threshold)[: request.top]
    if request.picture is not None:
        draw_detection(detection, shown, request.picture, title=name)
    if request.as_json:
        print_json_line({"input": request.recording} | detection.as_dict(shown, threshold=request.threshold))
    else:
        _print_table(name, shown, detection.duration_s)


@contextlib.contextmanager
def _bar(info: AudioInfo) -> Iterator[Callable[[float], None]]:
    """Show on standard error, where it is a terminal, how many seconds were heard."""
    if not sys.stderr.isatty():
        yield lambda seconds: None
        return
    from rich.console import Console
    from rich.progress import Progress

    total = None if info.frames is None else info.frames / info.sample_rate
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("hearing", total=total)
        yield lambda seconds: progress.update(task, completed=seconds)


def _print_table(name: str, shown: Sequence[ClassActivity], duration_s: float) -> None:
    typer.echo(f"{printable(name)}, {duration_s:.1f} s")
    if not shown:
        typer.echo("nothing is active at this level")
        return
    width = max(len("class"), *(len(one.sound.name) for one in shown))
    typer.echo(f"{'class':{width}}  {'peak':>5}  {'mean':>5}  active")
    for one in shown:
        times = ", ".join(f"{_clock(start)}-{_clock(end)}" for start, end in one.active[:_SHOWN_TIMES])
        more = len(one.active) - _SHOWN_TIMES
        if more > 0:
            times += f" and {more} more"
        typer.echo(f"{one.sound.name:{width}}  {one.peak:5.2f}  {one.mean:5.2f}  {times}".rstrip())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
