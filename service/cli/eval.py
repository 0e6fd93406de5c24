"""`stemwright eval`: how good stems are."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.core.errors import OptionError
from stemwright.service.cli.eval_fad import fad
from stemwright.service.cli.eval_lyrics import lyrics_text
from stemwright.service.cli.eval_report import report
from stemwright.service.cli.eval_run import run

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.callback()
def evaluate() -> None:
    """Score stems against references."""


app.command()(run)
app.command()(fad)
app.command()(report)
app.command()(lyrics_text)


@app.command()
def score(
    reference: Annotated[
        Path, typer.Option("--reference", metavar="DIR", help="Folder of the true stems, one file each.")
    ],
    estimate: Annotated[
        Path,
        typer.Option("--estimate", metavar="DIR", help="Folder of the stems to score, by the same names."),
    ],
    stems: Annotated[
        list[str] | None, typer.Option("--stem", metavar="STEM", help="Score only this stem; repeatable.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Default: bsseval; repeatable. Names: see below."),
    ] = None,
    mixture: Annotated[
        Path | None,
        typer.Option(
            "--mixture", metavar="FILE", help="For improvements; default: `mixture.*` beside the references."
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Do as museval does also where its equations are singular.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write all frames as museval's JSON.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a FILE that exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as a line of JSON, frames included.")
    ] = False,
    window: Annotated[float, typer.Option("--window", min=0.01, help="Frames of bsseval in seconds.")] = 1.0,
    hop: Annotated[float, typer.Option("--hop", min=0.01, help="From frame to frame, in seconds.")] = 1.0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Frames scored at a time.")] = 2,
) -> int:
    """Score stems against references; by default by BSS Eval 4, SDR, ISR, SIR and SAR in frames of 1 s.

    Files are paired by name: `vocals.wav` with `vocals.flac`. Metrics: bsseval, bsseval-sources, nsdr, sdr,
    sdri, si-sdr, si-sdr-zero-mean, si-sdri, mrstft, logmel; for speech pesq, pesq-nb, stoi, estoi, dnsmos;
    mse:EMBEDDER, mse32:EMBEDDER and fad:EMBEDDER. nsdr, sdri and si-sdri are gains over the mixture.

    Of bsseval the table gives medians over the frames; a frame in which any reference or estimate is silent
    counts for none of the stems. Values are those of museval 0.4.1, but for SIR and SAR where the
    references lack bandwidth (music from MP3 or AAC): there its equations are singular and its values
    meaningless, unless `--exact` asks for them.
    """
    from stemwright.eval.measures.contract import ScoreOptions
    from stemwright.service.cli.scoring import ScoreRequest
    from stemwright.service.cli.scoring import score as score_folders

    score_folders(
        ScoreRequest(
            reference=reference,
            estimate=estimate,
            stems=tuple(stems) if stems else None,
            metrics=tuple(metrics or ()),
            mixture=mixture,
            exact=exact,
            out=out,
            overwrite=overwrite,
            as_json=as_json,
            options=ScoreOptions(window_s=window, hop_s=hop, threads=threads),
        )
    )
    return 0


@app.command()
def listening(
    ratings: Annotated[Path, typer.Argument(metavar="RATINGS.csv", help="One row for each stimulus.")],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="COLUMN", help="Only this metric; default: all after the rating."),
    ] = None,
    compared: Annotated[
        str | None,
        typer.Option("--compare", metavar="COLUMN", help="Compare every other metric with this one."),
    ] = None,
    excerpt: Annotated[str, typer.Option("--excerpt-column", metavar="NAME")] = "file_id",
    model: Annotated[str, typer.Option("--model-column", metavar="NAME")] = "model_name",
    kind: Annotated[str, typer.Option("--kind-column", metavar="NAME")] = "model_type",
    rating: Annotated[str, typer.Option("--rating-column", metavar="NAME")] = "DMOS",
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Draws of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw a metric against the listeners, .png or .svg."),
    ] = None,
    plotted: Annotated[
        str | None,
        typer.Option("--plot-metric", metavar="COLUMN", help="Which; default: the best for the first kind."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a FILE that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> int:
    """Tell which metrics agree with listeners: Spearman's and Pearson's correlations.

    RATINGS.csv names for each stimulus its excerpt, its model, the kind of model and the mean opinion;
    the columns after that hold metrics. Correlations are given for each kind of model and for each model,
    with 95 % intervals from resampled excerpts (at least 8 of them). `--compare` tells whether another
    metric's correlation differs from that of the one named: an interval without 0 does.
    """
    from stemwright.eval.listening import Columns, agreements, compare, read_ratings
    from stemwright.service.cli.listening_table import (
        as_data,
        print_agreements,
        print_comparisons,
        require_plot,
        write_plot,
    )
    from stemwright.service.cli.output import print_json_line

    columns = Columns(
        excerpt=excerpt, model=model, kind=kind, rating=rating, metrics=tuple(metrics) if metrics else None
    )
    if plot is not None:
        require_plot(plot, overwrite=overwrite)
    table = read_ratings(ratings, columns)
    if compared is not None and compared not in table.metrics:
        raise OptionError(f"{compared} is no metric of {ratings}", f"it has {', '.join(table.metrics)}")
    found = agreements(table, resamples=resamples, seed=seed)
    others = [name for name in table.metrics if name != compared] if compared is not None else []
    differences = {
        (group, name): compare(table, group, compared or "", name, resamples=resamples, seed=seed)
        for group in dict.fromkeys(table.kinds)
        for name in others
    }
    if plot is not None:
        write_plot(plot, table, found, plotted or found[0].metric, overwrite=overwrite)
    if as_json:
        print_json_line(as_data(found, differences))
    else:
        print_agreements(found)
        print_comparisons(compared or "", differences)
    return 0
