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


class PlotFormat(StrEnum):
    """What plots are written as."""

    PNG = "png"
    SVG = "svg"


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
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE.html", help="Write one page of tables, plots and players."),
    ] = None,
    heard: Annotated[
        int, typer.Option("--page-tracks", min=0, metavar="N", help="Tracks that the page lets one hear.")
    ] = 3,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Write the plots there, a file each.")
    ] = None,
    plot_format: Annotated[PlotFormat, typer.Option("--plot-format", help="Of --plots.")] = PlotFormat.PNG,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="KIND:PATH", help="Where the true stems are; default: where the runs had them."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Which part of --data.")] = None,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Draws of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> int:
    """Tell what runs scored: a table for each metric, and for two or more runs whether they differ.

    Numbers are medians over the frames of a track and then over tracks, as the field's papers give them;
    frames and tracks without a number are counted. Two runs are compared track by track: the median
    difference with its 95 % interval, the rank-biserial effect, Wilcoxon's signed-rank test corrected for
    the stems. Of three or more runs each is compared with the first, after Friedman's test of all.

    The page is one file that needs no network. Where runs kept their estimates and the true stems are found,
    it plays and draws excerpts of mixture, reference, estimate and residual around the median and the worst
    frame of the worst, the median and the best track (--page-tracks), and --plots writes the spectrograms.
    """
    from stemwright.service.cli.eval_report_files import Picturing, write_page, write_plots
    from stemwright.service.cli.eval_reporting import ReportRequest, open_runs, report_tables
    from stemwright.service.staging import publish_file, refuse_existing

    for path in (out, page):
        if path is not None and not overwrite:
            refuse_existing(path.parent, [PurePosixPath(path.name)])
    request = ReportRequest(
        runs=tuple(runs),
        form=form.value,
        aggregate=aggregate.value,
        columns=tuple(metrics) if metrics else None,
        resamples=resamples,
        seed=seed,
    )
    picturing = Picturing(data=data, split=split, tracks=heard, overwrite=overwrite)
    opened = open_runs(request)
    tables = report_tables(opened, request)
    if plots is not None:
        write_plots(opened, request, picturing, plots, plot_format.value)
    if page is not None:
        write_page(opened, tables, request, picturing, page)
    text = tables.text(request.form)
    if out is None:
        typer.echo(text, nl=False)
    else:
        publish_file(out, text.encode("utf-8", "replace"), replace=overwrite)
    return 0
