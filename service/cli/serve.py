"""`stemwright serve`: the HTTP API, and a worker beside it."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def serve(
    host: Annotated[
        str | None,
        typer.Option(
            "--host", metavar="ADDRESS", help="Address to listen on; all but loopback needs API keys."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one. Default: 8000.")
    ] = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Only the API; `stemwright worker` does the jobs.")
    ] = False,
    no_ui: Annotated[bool, typer.Option("--no-ui", help="Only the API, without the page.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Model of jobs that name none.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Device of the worker, as of `separate`.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file of settings.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as TOML, secrets masked, and exit.")
    ] = False,
) -> int:
    """Serve separation over HTTP.

    Settings come from options, then STEMWRIGHT_* variables, then the file. By default it listens on
    127.0.0.1:8000 without keys, with an SQLite file and a folder in the user's data folder, and runs one
    worker process. On SIGTERM it stops listening, lets requests and jobs finish within the grace time, and
    hands back jobs that are not done.
    """
    from stemwright.service.cli.serving import Request, serve_until_signal

    return serve_until_signal(
        Request(
            host=host,
            port=port,
            worker=not no_worker,
            ui=False if no_ui else None,
            model=model,
            device=device,
            config=config,
            print_config=print_config,
        )
    )
