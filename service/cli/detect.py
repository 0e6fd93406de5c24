"""`stemwright detect`: which sounds are in a recording, and when."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.core.errors import EXIT_OK
from stemwright.service.cli import options as cli

DEFAULT_TAGGER = "yamnet"

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def detect(
    recording: Annotated[
        str, typer.Argument(metavar="FILE", help="A recording of any format; - is standard input.")
    ],
    tagger: Annotated[
        str, typer.Option("--tagger", metavar="NAME", help="Tagger, by name or path.")
    ] = DEFAULT_TAGGER,
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="Show so many classes at most.")] = 10,
    level: Annotated[
        int | None,
        typer.Option(
            "--level",
            min=1,
            max=6,
            help="Show the active branches of this level of AudioSet's ontology instead of single classes.",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="Probability from which a class is active.")
    ] = 0.2,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Draw the classes over time, as .png or .svg."),
    ] = None,
    device: cli.DeviceOption = "auto",
    threads: cli.ThreadsOption = None,
    as_json: cli.JsonOption = False,
) -> int:
    """Tell which sounds are in a recording, and when.

    Hears windows of 2 s, and prints a line for each class: its largest and mean probability and the
    times at which it is active; with --json also its probability in each window.
    """
    from stemwright.service.cli.detecting import Request, detect_sounds

    detect_sounds(
        Request(
            recording=recording,
            tagger=tagger,
            top=top,
            level=level,
            threshold=threshold,
            picture=picture,
            device=device,
            threads=threads,
            as_json=as_json,
        )
    )
    return EXIT_OK
