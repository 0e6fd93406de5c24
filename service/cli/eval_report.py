"""`stemwright eval report`: runs as tables, comparisons, plots and a page."""

from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer


class Form(StrEnum):
    """What a report is written as."""

    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"


class Aggregate(StrEnum):
    """How numbers of frames become those of tracks, and those the run's."""

    MEDIAN = "median"
    MEAN = "mean"
    WEIGHTED_MEAN = "weighted-mean"


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of `eval run`, or of museval's JSON files."),
    ],
    form: Annotated[Form, typer.Option("--format", help="Of the tables.")] = Form.MARKDOWN,
    aggregate: Annotated[
        Aggregate, typer.Option("--aggregate", help="Over frames, then tracks; weighted: by length.")
    ] = Aggregate.MEDIAN,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="COLUMN", help="Only this column, such as SDR; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the tables there.")
    ] = None,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Draws of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a FILE that exists.")] = False,
) -> int:
    """Tell what runs scored: a table for each metric, and for two or more runs whether they differ.

    Numbers are medians over the frames of a track and then over tracks, as the field's papers give them;
    frames and tracks without a number are counted. Two runs are compared track by track: the median
    difference with its 95 % interval, the rank-biserial effect, Wilcoxon's signed-rank test corrected for
    the stems. Of three or more runs each is compared with the first, after Friedman's test of all.
    """
    from stemwright.service.cli.eval_reporting import ReportRequest, write_report
    from stemwright.service.staging import Staging, refuse_existing

    if out is not None and not overwrite:
        refuse_existing(out.parent, [PurePosixPath(out.name)])
    text = write_report(
        ReportRequest(
            runs=tuple(runs),
            form=form.value,
            aggregate=aggregate.value,
            columns=tuple(metrics) if metrics else None,
            resamples=resamples,
            seed=seed,
        )
    )
    if out is None:
        typer.echo(text, nl=False)
        return 0
    file = PurePosixPath(out.name)
    with Staging(out.parent, out.stem) as staging:
        staging.path(file).write_text(text, encoding="utf-8")
        staging.publish([file], replace=overwrite)
    return 0
