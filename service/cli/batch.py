"""`stemwright batch`: a folder of recordings or MUSDB18 in, a tree of stems and a ledger out."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.core.musdb import Split
from stemwright.service.cli import options as cli

app = typer.Typer(rich_markup_mode=None, add_completion=False)


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
        int | None,
        typer.Option(
            "--workers",
            min=1,
            max=64,
            metavar="N",
            help="Tracks in flight. Default: 2 around the one network here, 8 with --server.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="Have the tracks separated by the stemwright service there."
        ),
    ] = None,
    key: cli.KeyOption = None,
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
    remainder: cli.RemainderOption = None,
    query: cli.QueryOption = None,
    query_audio: cli.QueryAudioOption = None,
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
    evaluate: Annotated[
        bool,
        typer.Option("--evaluate", help="Score the stems of MUSDB too; OUT/scores is as `eval run` writes."),
    ] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="For --evaluate; default: bsseval; repeatable."),
    ] = None,
    json_lines: cli.JsonOption = False,
) -> int:
    """Separate all recordings of a folder, resumable after a kill at any moment.

    MUSDB18 and MUSDB18-HQ give OUT/{train,test}/TRACK/STEM.wav, as musdb and museval read it, 32-bit
    float unless --bit-depth says otherwise; other folders give OUT/PATH/TRACK/STEM.EXT and a
    result.json beside. OUT/batch.jsonl has a row for every track. Where it exists, say --resume or
    --overwrite. One bad recording does not stop the rest. Prints a table at the end, or with --json
    a line of JSON for each track.
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
    )
    from stemwright.service.cli.batching import Request, separate_folder

    return separate_folder(
        choices,
        Request(
            folder=folder,
            out=out,
            split=split,
            workers=workers,
            server=server,
            key=key,
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
            evaluate=evaluate,
            metrics=tuple(metric or ()),
        ),
    )
