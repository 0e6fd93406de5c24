"""A report as one HTML file: tables, plots, players and a table of tracks, without a request to anywhere."""

import base64
import hashlib
import importlib.resources
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from stemwright.core.figures import figure_bytes
from stemwright.eval.report.choosing import noted_plots, ranking_column
from stemwright.eval.report.excerpts import Excerpt, encoded
from stemwright.eval.report.markup import attribute, data_address, name, sortable_table, table_markup
from stemwright.eval.report.plots import box_plot, frame_plot, spectrogram_plot
from stemwright.eval.report.summary import Aggregate, track_values
from stemwright.eval.report.tables import Table, run_name
from stemwright.eval.rows import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LISTENING_BYTES = 16 * 1024 * 1024
"""Of players and their spectrograms together, before base64 makes them a third larger."""
_MOST_SVG_BYTES = 300_000
_MOST_BOXES, _MOST_ROWS = 12, 5000


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page shows.

    Parameters
    ----------
    runs
        At least one.
    scores, comparisons
        Tables.
    aggregate
        Over the frames of a track, then over tracks.
    excerpts
        What can be heard, read when it is written; among them sentences about what cannot, and why.
    """

    runs: Sequence[Run]
    scores: Sequence[Table]
    comparisons: Sequence[Table]
    aggregate: Aggregate = "median"
    excerpts: Iterable[Excerpt | str] = ()


def page_bytes(report: Report) -> bytes:
    """Return the page.

    Raises
    ------
    StemwrightError
        What reading an excerpt raises.
    """
    style, script = _resource("page.css"), _resource("page.js")
    sections = [
        ("scores", "Scores", [table_markup(table) for table in report.scores]),
        ("comparisons", "Comparisons", [table_markup(table) for table in report.comparisons]),
        ("plots", "Plots", _plots(report)),
        ("listen", "Listen", list(_listening(report.excerpts))),
        ("tracks", "Tracks", [_tracks(report)]),
    ]
    filled = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in filled)
    bodies = "\n".join(
        f"<section id={key} aria-labelledby={key}-title><h2 id={key}-title>{title}</h2>\n"
        + "\n".join(parts)
        + "\n</section>"
        for key, title, parts in filled
    )
    names = [run_name(run) for run in report.runs]
    title = f"Scores of {', '.join(names)}"
    text = f"""<!doctype html>
<html lang=en>
<head>
<meta charset=utf-8>
<meta http-equiv=Content-Security-Policy content="{_policy(style, script)}">
<meta name=viewport content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>Scores of {", ".join(name(one) for one in names)}</h1>
{"".join(_about(run) for run in report.runs)}
<nav aria-label="Parts of this page"><ul>{links}</ul></nav>
</header>
<main>
{bodies}
</main>
<script>{script}</script>
</body>
</html>
"""
    return text.encode("utf-8", "replace")  # names of files may be no text


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _resource(file: str) -> str:
    return importlib.resources.files("stemwright.eval.report").joinpath(file).read_text(encoding="utf-8")


def _about(run: Run) -> str:
    metrics = ", ".join(metric.name for metric in run.facts.metrics)
    versions = ", ".join(f"{package} {version}" for package, version in run.facts.versions.items())
    lines = [f"{name(run_name(run))}: {name(run.facts.data)}, {name(metrics)}"]
    lines += [name(text) for text in (versions, *run.facts.notes) if text]
    return "".join(f'<p class="quiet">{line}</p>\n' for line in lines)


def _plots(report: Report) -> list[str]:
    columns = list(dict.fromkeys(column for run in report.runs for column in run.columns))
    pictures = [
        _picture(box_plot(report.runs, column, report.aggregate), f"{column}: the tracks' numbers as boxes")
        for column in columns[:_MOST_BOXES]
    ]
    column = ranking_column(report.runs)
    for stem, what, track in noted_plots(report.runs, column, report.aggregate):
        title = f"{column} of {stem} over time in the {what} track, {track}"
        pictures.append(_picture(frame_plot(report.runs, track, stem, column), title))
    left_out = len(columns) - _MOST_BOXES
    note = f'<p class="quiet">{left_out} more metrics have no boxes here.</p>' if left_out > 0 else ""
    return [f"<div class=plots>{''.join(pictures)}</div>{note}"] if pictures else []


def _picture(figure: "Figure", title: str) -> str:
    figure.patch.set_alpha(0)  # the page's own ground shows through, light or dark
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    data, media_type = figure_bytes(figure, "svg"), "image/svg+xml"
    if len(data) > _MOST_SVG_BYTES:
        data, media_type = figure_bytes(figure, "png"), "image/png"
    return _figure(data, media_type, title, "plot")


def _figure(data: bytes, media_type: str, title: str, kind: str) -> str:
    return (
        f"<figure class={kind}><img alt={attribute(title)} src={data_address(data, media_type)}>"
        f"<figcaption>{name(title)}</figcaption></figure>"
    )


def _listening(excerpts: Iterable[Excerpt | str]) -> Iterable[str]:
    """Yield players by track and stem until they have the size that a page may have."""
    size, left_out = 0, 0
    before: tuple[str, str] = ("", "")
    for index, excerpt in enumerate(excerpts):
        if isinstance(excerpt, str):
            yield f'<p class="quiet">{name(excerpt)}</p>'
            continue
        if left_out:
            left_out += 1
            continue
        text = _excerpt(excerpt, index)
        size += len(text) * 3 // 4
        if size > MOST_LISTENING_BYTES:
            left_out = 1
            continue
        if excerpt.track != before[0]:
            yield f"<h3>{name(excerpt.track)}</h3>"
        if (excerpt.track, excerpt.stem) != before:
            yield f"<h4>{name(excerpt.stem)}</h4>"
        before = (excerpt.track, excerpt.stem)
        yield text
    if left_out:
        yield (
            f'<p class="quiet">{left_out} more excerpts are left out: players and spectrograms may have'
            f" {MOST_LISTENING_BYTES // 1024**2} MiB.</p>"
        )


def _excerpt(excerpt: Excerpt, index: int) -> str:
    seconds = max(signal.shape[1] for signal in excerpt.signals.values()) / excerpt.sample_rate
    where = f"{excerpt.start_s:.1f} to {excerpt.start_s + seconds:.1f} s"
    what = "From the middle"
    if excerpt.what:
        what = (
            f"Around the {excerpt.what} frame of {name(excerpt.run)}"
            f" ({name(excerpt.column)} {excerpt.value:.2f})"
        )
    quieter = "" if excerpt.gain == 1 else f"; all turned down by {-20 * math.log10(excerpt.gain):.1f} dB"
    clips = []
    for title, signal in excerpt.signals.items():
        data, media_type = encoded(signal, excerpt.sample_rate)
        label = f"{title}, {excerpt.stem} of {excerpt.track}, {where}"
        clips.append(
            f"<figure><figcaption>{name(title)}</figcaption><audio controls preload=metadata"
            f" data-excerpt={index} aria-label={attribute(label)} src={data_address(data, media_type)}>"
            "</audio></figure>"
        )
    drawn = {title: signal for title, signal in excerpt.signals.items() if title != "mixture"}
    spectrograms = figure_bytes(spectrogram_plot(drawn, excerpt.sample_rate), "png")
    picture = _figure(spectrograms, "image/png", f"Spectrograms of {excerpt.stem}, {where}", "paper")
    return (
        f'<p class="quiet">{what}: {where}{quieter}</p>\n<div class=clips>{"".join(clips)}</div>\n'
        f"<details><summary>Spectrograms of {where}</summary>{picture}</details>"
    )


def _tracks(report: Report) -> str:
    columns = list(dict.fromkeys(column for run in report.runs for column in run.columns))
    rows: list[tuple[str | int | float, ...]] = []
    for run in report.runs:
        numbers = {
            (stem, column): track_values(run, stem, column, report.aggregate)
            for stem in run.stems
            for column in run.columns
        }
        for row in run.tracks:
            for stem in row.stems:
                values = [numbers[stem, c][row.track] if c in run.columns else math.nan for c in columns]
                rows.append((row.track, run_name(run), stem, *values))
    notes = [f"Each number is the {report.aggregate} over the track's frames, where it has frames."]
    if len(rows) > _MOST_ROWS:
        notes.append(f"The first {_MOST_ROWS} of {len(rows)} rows.")
    failed = [
        f"{run_name(run)} failed on {one.track}: {one.message}" for run in report.runs for one in run.failed
    ]
    return sortable_table(
        Table(
            title="Tracks",
            header=("track", "run", "stem", *columns),
            rows=tuple(rows[:_MOST_ROWS]),
            notes=(*notes, *failed),
        ),
        "track-table",
    )
