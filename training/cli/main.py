"""`stemwright train`: from data to models of one's own."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stemwright.training.cli.data import app as data_app

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
app.add_typer(data_app, name="data")

_Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


@app.callback()
def train() -> None:
    """Train models, and make data for it."""


@app.command()
def run(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A TOML file, or the name of a shipped configuration.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="RUN", help="Folder of the run; default: runs/NAME."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="CHECKPOINT", help="Begin with the weights of this checkpoint."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as loop.steps=100; repeatable."),
    ] = None,
) -> int:
    """Train as a configuration says.

    Ctrl-C ends it after the current step with a checkpoint; `resume` goes on, also after a crash. On several
    GPUs: `torchrun --nproc-per-node=N --no-python stemwright train run CONFIG`.
    """
    from stemwright.training.cli.running import run_config

    return run_config(config, out, start, settings or [])


@app.command()
def resume(where: _Run) -> int:
    """Go on with a run from its last checkpoint."""
    from stemwright.training.cli.running import resume_run

    return resume_run(where)


@app.command()
def plot(
    where: _Run,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Picture (.png, .svg); default: in RUN."),
    ] = None,
) -> int:
    """Draw the losses and scores of a run."""
    from stemwright.training.plotting import plot_run

    typer.echo(plot_run(where, out))
    return 0


@app.command()
def publish(
    where: _Run,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the model.")],
    storage: Annotated[
        Literal["float32", "float16", "int8"], typer.Option("--storage", help="How its weights are stored.")
    ] = "float16",
    measure: Annotated[
        Path | None,
        typer.Option("--measure", metavar="DIR", help="Songs with true stems to measure what that costs."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="Which weights; default: the best."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
) -> int:
    """Install the best weights of a run as a model.

    The engine's output is held to the network's, the model to the contract of all models; its manifest tells
    the terms, the data and the configuration of the run.
    """
    from stemwright.training.cli.running import publish_run

    return publish_run(where, name=name, storage=storage, measure=measure, checkpoint=checkpoint, force=force)
