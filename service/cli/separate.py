"""`stemwright separate`: recordings in, folders of stems out."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.service.cli import options as cli
from stemwright.service.naming import DEFAULT_TEMPLATE

DEFAULT_OUT = Path("separated")

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def separate(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Recordings of any format; - is standard input.")
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="OUT", help="Output folder; - is standard output (see above)."),
    ] = str(DEFAULT_OUT),
    model: cli.ModelsOption = [cli.DEFAULT_MODEL],  # noqa: B006 - typer reads it, nothing changes it
    weights: cli.WeightsOption = None,
    stems: cli.StemsOption = None,
    two_stems: cli.TwoStemsOption = None,
    residual: cli.ResidualOption = False,
    remainder: cli.RemainderOption = None,
    query: cli.QueryOption = None,
    query_audio: cli.QueryAudioOption = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="For models that are asked: find the sounds, and write a stem for each that is there.",
        ),
    ] = False,
    level: Annotated[
        list[int] | None,
        typer.Option(
            "--level",
            min=1,
            max=6,
            help=f"Level of AudioSet's ontology for --auto, from 1 (coarse); several are alternatives."
            f" Default: {cli.DEFAULT_LEVEL}.",
        ),
    ] = None,
    max_stems: Annotated[
        int, typer.Option("--max-stems", min=1, metavar="N", help="Most stems of a level with --auto.")
    ] = cli.MAX_STEMS,
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

    Models that are asked take --query, --query-audio or --auto; docs/queries.md tells what they find.
    """
    choices = cli.Choices(
        models=tuple(model),
        weights=cli.parse_weights(weights, len(model)),
        stems=cli.split_list(stems),
        two_stems=two_stems,
        residual=residual,
        remainder=remainder,
        container=container,
        bit_depth=bit_depth,
        bitrate=bitrate,
        clip_mode=clip_mode,
        shifts=shifts,
        seed=seed,
        overlap=overlap,
        device=device,
        precision=precision,
        threads=threads,
        low_memory=low_memory,
        accept_licence=accept_licence,
        json_lines=json_lines,
        queries=tuple(query or ()),
        query_audio=tuple(query_audio or ()),
        auto=auto,
        levels=tuple(level or ()),
        max_stems=max_stems,
    )
    from stemwright.service.cli.separating import Request, separate_inputs

    return separate_inputs(
        choices,
        Request(
            inputs=tuple(inputs),
            out=out,
            name_template=name_template,
            overwrite=overwrite,
            start_s=start,
            end_s=end,
        ),
    )
