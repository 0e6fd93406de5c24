"""`stemwright eval run`: a model or an oracle over a data set."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.service.cli import options as cli


def run(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="KIND:PATH",
            help="musdb, musdb-hq, folder, mir-1k, ikala, librimix, wsj0-2mix or fuss, and its folder.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run; a run in it goes on.")
    ],
    model: cli.ModelsOption = [cli.DEFAULT_MODEL],  # noqa: B006 - typer reads it, nothing changes it
    weights: cli.WeightsOption = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="As in `eval score`; default: bsseval; repeatable."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Part of the data. Default: the test part.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, metavar="N", help="Processes that share the cores.")
    ] = 1,
    keep_estimates: Annotated[
        bool, typer.Option("--keep-estimates", help="Keep them, as RUN/estimates/TRACK/STEM.wav.")
    ] = False,
    window: Annotated[float, typer.Option("--window", min=0.01, help="Frames of bsseval in seconds.")] = 1.0,
    hop: Annotated[float, typer.Option("--hop", min=0.01, help="From frame to frame, in seconds.")] = 1.0,
    remainder: cli.RemainderOption = None,
    shifts: cli.ShiftsOption = 0,
    seed: cli.SeedOption = 0,
    overlap: cli.OverlapOption = None,
    device: cli.DeviceOption = "auto",
    precision: cli.PrecisionOption = "auto",
    threads: cli.ThreadsOption = None,
    low_memory: cli.LowMemoryOption = False,
    accept_licence: cli.AcceptLicenceOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each track instead of a table.")
    ] = False,
) -> int:
    """Separate every track of a data set and score the estimates; a run that was stopped goes on.

    Data: MUSDB18 (`musdb`), MUSDB18-HQ, folders of stems with or without a mixture (`folder`), MIR-1K and
    iKala (accompaniment left, voice right), LibriMix and WSJ0-2mix (`?mix=mix_both` chooses the
    mixtures), and the layout of FUSS. Equal speakers or sounds are put in the order of the best mean
    SI-SDR.

    Models: any model; one that takes queries is asked for the true stems that are called as sounds. Or an
    oracle, which gives every table its ceiling and its floor: `oracle:ibm`, `oracle:irm` and
    `oracle:wiener` are masks of the true stems, `oracle:mixture` is the mixture itself. Masks take
    `?n_fft=4096&hop=1024`; default: that for music (1024 and 256 below 32 kHz), else 32 and 8 ms.

    RUN/run.json tells what was run, RUN/tracks.jsonl has a row for each track, frames included. A track
    that fails does not stop the rest, and is tried again when the run goes on.
    """
    from stemwright.eval.measures.contract import ScoreOptions
    from stemwright.service.cli.eval_running import RunRequest, run_over_data

    choices = cli.Choices(
        models=tuple(model),
        weights=cli.parse_weights(weights, len(model)),
        stems=None,
        two_stems=None,
        residual=False,
        remainder=remainder,
        container="wav",
        bit_depth=None,
        bitrate=None,
        clip_mode="shared",
        shifts=shifts,
        seed=seed,
        overlap=overlap,
        device=device,
        precision=precision,
        threads=threads,
        low_memory=low_memory,
        accept_licence=accept_licence,
        json_lines=as_json,
    )
    request = RunRequest(
        data=data,
        split=split,
        out=out,
        metrics=tuple(metrics or ()),
        workers=workers,
        keep=keep_estimates,
        options=ScoreOptions(window_s=window, hop_s=hop),
    )
    return run_over_data(choices, request)
