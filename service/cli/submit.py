"""`stemwright submit`: a recording to a stemwright service, its stems back."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.service.cli import options as cli

DEFAULT_OUT = Path("separated")

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording of any format.")],
    server: cli.ServerOption,
    key: cli.KeyOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Output folder.")] = DEFAULT_OUT,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Model. Default: the service's."),
    ] = None,
    stems: cli.StemsOption = None,
    two_stems: cli.TwoStemsOption = None,
    residual: cli.ResidualOption = False,
    query: cli.QueryOption = None,
    container: Annotated[cli.Container, typer.Option("--format", help="Format of the stems.")] = "wav",
    bit_depth: cli.BitDepthOption = None,
    bitrate: cli.BitrateOption = None,
    clip_mode: cli.ClipModeOption = "shared",
    shifts: cli.ShiftsOption = 0,
    seed: cli.SeedOption = 0,
    overlap: cli.OverlapOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist; without it they are an error.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Only submit it, and print the job's id.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the job with the service; else it is removed at the end.")
    ] = False,
    json_lines: cli.JsonOption = False,
) -> int:
    """Have a recording separated by a service.

    Sends the file, shows the progress, writes OUT/TRACK/STEM.EXT and OUT/TRACK/result.json, all at once when
    the job is done, and prints the paths. While the service is away or busy, it is tried again for two
    minutes. Ctrl-C cancels the job.
    """
    asked = {
        "model": model,
        "stems": cli.split_list(stems),
        "two_stems": two_stems,
        "residual": residual or None,
        "query": query or None,
        "format": container,
        "bit_depth": bit_depth,
        "bitrate": bitrate,
        "clip_mode": clip_mode,
        "shifts": shifts or None,
        "seed": seed or None,
        "overlap": overlap,
    }
    from stemwright.service.cli.submitting import Request, submit_file

    return submit_file(
        Request(
            file=file,
            server=server,
            key=key,
            out=out,
            options={name: value for name, value in asked.items() if value is not None},
            overwrite=overwrite,
            wait=not no_wait,
            keep=keep,
            json_lines=json_lines,
        )
    )
