"""`stemwright stream`: sound on standard input, its stems on standard output, while it goes on."""

from typing import Annotated, Literal

import typer

from stemwright.service.cli import options as cli

Form = Literal["wav", "s16le", "f32le"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def stream(
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="A streamable model, by name or path.")
    ],
    form: Annotated[
        Form, typer.Option("--format", help="Standard input: WAV, or raw samples of 16 bits or float.")
    ] = "wav",
    out_form: Annotated[
        Form | None, typer.Option("--out-format", help="Standard output. Default: as the input.")
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option("--rate", metavar="HZ", help="Sample rate of raw input. Default: the model's."),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option("--channels", metavar="N", help="Channels of raw input. Default: the model's."),
    ] = None,
    stems: Annotated[
        str | None, typer.Option("--stems", metavar="A,B", help="Give only these stems, in this order.")
    ] = None,
    piece_ms: Annotated[
        float,
        typer.Option(
            "--piece",
            metavar="MS",
            help="Sound that is waited for before the network is called: less answers sooner and costs"
            " more. What has come in meanwhile is taken with it.",
        ),
    ] = 20.0,
    device: cli.DeviceOption = "auto",
    precision: cli.PrecisionOption = "float32",
    threads: cli.ThreadsOption = None,
    json_report: Annotated[
        bool, typer.Option("--json", help="Print the report at the end as JSON, on standard error.")
    ] = False,
) -> int:
    """Separate a stream while it goes on, for models that need no sound that is still to come.

    Reads WAV or raw interleaved samples on standard input and writes the same to standard output, stem
    after stem as channels. At the end, and
    at Ctrl-C, latency and speed are told on standard error. A stream at the model's own rate has the
    least latency.
    """
    from stemwright.service.cli.streaming import StreamRequest, stream_stdin

    return stream_stdin(
        StreamRequest(
            model=model,
            form=form,
            out_form=out_form or form,
            sample_rate=rate,
            channels=channels,
            stems=cli.split_list(stems),
            piece_s=piece_ms / 1000,
            device=device,
            precision=precision,
            threads=threads,
            json_report=json_report,
        )
    )
