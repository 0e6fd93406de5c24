"""The plots and the page of `stemwright eval report`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stemwright.core.errors import StemwrightError
from stemwright.core.figures import PictureFormat, figure_bytes
from stemwright.eval.report.choosing import (
    framewise_columns,
    noted_plots,
    ranked_tracks,
    ranking_column,
    spread,
)
from stemwright.eval.report.excerpts import Excerpt, excerpts, open_references
from stemwright.eval.report.page import Report, page_bytes
from stemwright.eval.report.plots import box_plot, frame_plot, spectrogram_plot
from stemwright.eval.rows import Run
from stemwright.service.cli.eval_reporting import ReportRequest, ReportTables
from stemwright.service.naming import safe_name, same_file_key
from stemwright.service.staging import Staging, publish_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Picturing:
    """What plots and pages are made with.

    Parameters
    ----------
    data, split
        Where the true stems are; None for where the runs had them.
    tracks
        Number of tracks that can be heard.
    overwrite
        Whether files that exist are replaced.
    """

    data: str | None
    split: str | None
    tracks: int
    overwrite: bool


def write_page(
    runs: list[Run], tables: ReportTables, request: ReportRequest, picturing: Picturing, path: Path
) -> None:
    """Write the page.

    Raises
    ------
    OutputError, ResourceError
        It exists, or the disk refuses.
    """
    report = Report(
        runs=runs,
        scores=tables.scores,
        comparisons=tables.comparisons,
        aggregate=request.aggregate,
        excerpts=_heard(runs, request, picturing),
    )
    publish_file(path, page_bytes(report), replace=picturing.overwrite)


def write_plots(
    runs: list[Run], request: ReportRequest, picturing: Picturing, folder: Path, form: PictureFormat
) -> None:
    """Write boxes of every column, frames of the worst and the median track, and spectrograms.

    Raises
    ------
    OutputError, ResourceError
        A file exists, or the disk refuses.
    """
    taken: dict[str, PurePosixPath] = {}
    with Staging(folder, "plots") as staging:
        for words, figure in _figures(runs, request, picturing):
            file = _free_name(words, form, taken)
            staging.path(file).write_bytes(figure_bytes(figure, form))
        if taken:
            staging.publish(list(taken.values()), replace=picturing.overwrite)


def _figures(
    runs: list[Run], request: ReportRequest, picturing: Picturing
) -> Iterator[tuple[tuple[str, ...], "Figure"]]:
    for column in dict.fromkeys(column for run in runs for column in run.columns):
        yield ("boxes", column), box_plot(runs, column, request.aggregate)
    for column in framewise_columns(runs):
        for stem, what, track in noted_plots(runs, column, request.aggregate):
            yield ("frames", column, stem, what), frame_plot(runs, track, stem, column)
    for excerpt in _heard(runs, request, picturing):
        if isinstance(excerpt, Excerpt):
            words = ("spectrogram", excerpt.track, excerpt.stem, excerpt.what or "middle")
            yield words, spectrogram_plot(excerpt.signals, excerpt.sample_rate)


def _free_name(words: Sequence[str], form: str, taken: dict[str, PurePosixPath]) -> PurePosixPath:
    """Return a file name of its own, also where two names differ only in what no disk takes."""
    base = safe_name("-".join(words))
    for ending in ("", *(f"-{count}" for count in range(2, len(taken) + 3))):
        file = PurePosixPath(f"{base}{ending}.{form}")
        if same_file_key(file) not in taken:
            break
    taken[same_file_key(file)] = file
    return file


def _heard(runs: list[Run], request: ReportRequest, picturing: Picturing) -> Iterator[Excerpt | str]:
    """Yield excerpts of some tracks, and why there are none of others."""
    column = ranking_column(runs)
    kept = next((run for run in runs if any(row.estimates for row in run.tracks)), None)
    if kept is None:
        yield "There is nothing to hear: no run kept its estimates (`stemwright eval run --keep-estimates`)."
        return
    try:
        data = open_references(runs, picturing.data, picturing.split)
    except StemwrightError as error:
        yield f"There is nothing to hear: {error.message} (--data tells where the true stems are)."
        return
    with_audio = {row.track for row in kept.tracks if row.estimates}
    ranking = [track for track in ranked_tracks(kept, column, request.aggregate) if track in with_audio]
    for track in spread(ranking, picturing.tracks):
        try:
            yield from excerpts([kept, *(run for run in runs if run is not kept)], data, track, column)
        except StemwrightError as error:
            yield f"{track} cannot be heard: {error.message}."
