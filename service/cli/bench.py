"""`stemwright bench`: how fast each provider of this machine separates, as ratios."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.core.errors import EXIT_FAILURE, EXIT_OK
from stemwright.service.cli.options import DEFAULT_MODEL

app = typer.Typer(help="Measure the speed of this machine's providers.")


@app.command()
def bench(
    audio: Annotated[
        Path | None, typer.Argument(metavar="[AUDIO]", help="A recording. Default: generated music.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="Model, by name or path.")
    ] = DEFAULT_MODEL,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1.0, help="Length to separate, from the start.")
    ] = 30.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=99, help="Turns that each one takes.")] = 3,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="DEVICE[:PRECISION]",
            help="Measure only these, for example openvino:bfloat16.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, metavar="N", help="CPU threads.")] = None,
    peer: Annotated[
        bool, typer.Option("--demucs/--no-demucs", help="Measure the demucs package too, if it is installed.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> int:
    """Measure the speed of this machine's providers.

    Each provider and precision, and the demucs package if it is installed, gets a process of its own;
    all are warmed up and then take turns, because other programs disturb. Quote the ratios, not the
    seconds. The demucs package is timed on its own network with random weights: speed does not depend on
    them.
    """
    from stemwright.service import benchmarking
    from stemwright.service.cli.bench_table import print_table
    from stemwright.service.cli.output import print_json_line

    plan = benchmarking.BenchPlan(
        model=model, audio=audio, seconds=seconds, rounds=rounds, threads=threads, peer=peer
    )
    results = benchmarking.run(plan, benchmarking.chosen_contenders(plan, tuple(device or ())))
    if as_json:
        print_json_line(results.as_json())
    else:
        print_table(results)
    return EXIT_OK if results.reference is not None else EXIT_FAILURE
