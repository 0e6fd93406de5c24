"""`stemwright worker`: does the jobs of a server's queues."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.service.cli import options as cli

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def worker(
    queues: Annotated[
        str | None,
        typer.Option(
            "--queues", metavar="A,B", help="Queues to take jobs from; a process each. Default: the setting."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="DEVICE", help="auto, cpu, openvino, cuda, cuda:N or tensorrt."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when no job is left in the queue.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="TOML file of settings.")
    ] = None,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> int:
    """Do the jobs that a server takes, on this machine.

    Any number of workers on any number of machines serve the same database and storage, which the settings
    name. A worker does one job at a time. On SIGTERM it finishes its job within the grace time, or hands it
    back; the job of one that dies is taken over by another, from the last finished stage.
    """
    from stemwright.service.cli.working import Request, work

    return work(
        Request(queues=cli.split_list(queues), device=device, once=once, config=config, until_eof=until_eof)
    )
