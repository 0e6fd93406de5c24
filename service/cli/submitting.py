"""The work of `stemwright submit`."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import typer

from stemwright.core.errors import EXIT_OK, StemwrightError
from stemwright.service.cli.output import print_json_line, print_path
from stemwright.service.cli.progress import ProgressDisplay, TrackBar
from stemwright.service.cli.separating import track_name
from stemwright.service.client.asynchronous import AsyncClient
from stemwright.service.client.synchronous import Client
from stemwright.service.client.views import Job
from stemwright.service.naming import RESULT_FILE, safe_name
from stemwright.service.places import Place, PlacedFile, earlier_files
from stemwright.service.remote import fetching, finished, forget, local_result, run, write_result
from stemwright.service.results import TrackResult
from stemwright.service.staging import Staging, refuse_existing, sweep


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked of `submit`; `options` are the job's, as the API has them."""

    file: Path
    server: str
    key: str | None
    out: Path
    options: Mapping[str, Any]
    overwrite: bool
    wait: bool
    keep: bool
    json_lines: bool


def submit_file(request: Request) -> int:
    """Have a file separated by a service; return the exit code.

    Raises
    ------
    StemwrightError
        The file, the options, the output folder or the service do not allow it; or the job's own error.
    """
    track = PurePosixPath(track_name(str(request.file)))
    if not request.overwrite:
        refuse_existing(request.out, [track / RESULT_FILE])
    with Client(request.server, key=request.key) as client, ProgressDisplay() as display:
        with display.track(str(track)) as bar:
            job = client.submit(request.file, **request.options)
            if request.wait:
                with _cancelled_with_us(client, job):
                    job = _wait(client, job, bar)
                    place = _place(request, track, job)
                    result = _fetch(client, job, place)
        if not request.wait:
            _show_job(job, json_lines=request.json_lines)
            return EXIT_OK
        if not request.keep:
            forget(client, job)
    _show(request, place, result)
    return EXIT_OK


def _wait(client: Client, job: Job, bar: TrackBar) -> Job:
    async def wait(inner: AsyncClient) -> Job:
        return await finished(inner, job, bar.update)

    done: Job = run(client, wait)
    return done


@contextlib.contextmanager
def _cancelled_with_us(client: Client, job: Job) -> Any:
    """Cancel the job where this process is interrupted: nobody would fetch its result."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        with contextlib.suppress(StemwrightError):
            client.cancel(job.id)
        raise


def _place(request: Request, track: PurePosixPath, job: Job) -> Place:
    files = tuple(PlacedFile(path=track / safe_name(stem.file), stems=stem.stems) for stem in job.stems)
    stale = earlier_files(request.out, track / RESULT_FILE) if request.overwrite else ()
    return Place(
        out=request.out,
        label=track.name,
        files=files,
        result=track / RESULT_FILE,
        replace=request.overwrite,
        stale=stale,
    )


def _fetch(client: Client, job: Job, place: Place) -> TrackResult:
    place.out.mkdir(parents=True, exist_ok=True)
    sweep(place.out)
    with Staging(place.out, place.label) as staging:
        run(client, fetching(job, {file: staging.path(file.path) for file in place.files}))
        result = local_result(job, place)
        write_result(staging.path(place.published[-1]), result)
        staging.publish(place.published, stale=place.stale, replace=place.replace)
    return result


def _show_job(job: Job, *, json_lines: bool) -> None:
    if json_lines:
        print_json_line({"job": job.id, "status": job.status})
    else:
        typer.echo(job.id)


def _show(request: Request, place: Place, result: TrackResult) -> None:
    paths = [place.out / path for path in place.published]
    if request.json_lines:
        data = {"input": str(request.file), "outcome": "done", "paths": [str(path) for path in paths]}
        print_json_line({**data, "result": result.as_dict()})
        return
    for path in paths:
        print_path(path)
