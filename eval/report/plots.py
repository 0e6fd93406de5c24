"""Plots of runs, as figures; `core.figures` writes them."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stemwright.core.errors import InputError, OptionError
from stemwright.core.figures import plain
from stemwright.eval.listening import Agreement, Ratings
from stemwright.eval.report.summary import Aggregate, track_values
from stemwright.eval.report.tables import run_name
from stemwright.eval.rows import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that people who see fewer of them tell apart (Okabe and Ito's).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
_SPECTROGRAM_POINTS = 1200
_RANGE_DB = 80.0


def box_plot(runs: Sequence[Run], column: str, aggregate: Aggregate = "median") -> "Figure":
    """Draw a metric of all stems: a box for each run, of the tracks' numbers."""
    stems = tuple(dict.fromkeys(stem for run in runs for stem in run.stems))
    figure, axes = _figure(width=2 + 0.5 * len(stems) * len(runs))
    width = 0.8 / len(runs)
    for index, run in enumerate(runs):
        places, boxes = [], []
        for place, stem in enumerate(stems):
            values = np.array(list(track_values(run, stem, column, aggregate).values()), np.float64)
            finite = values[np.isfinite(values)]
            if finite.size:
                places.append(place + (index - (len(runs) - 1) / 2) * width)
                boxes.append(finite)
        if not boxes:
            continue
        drawn = axes.boxplot(
            boxes, positions=places, widths=width * 0.85, patch_artist=True, manage_ticks=False
        )
        colour = COLOURS[index % len(COLOURS)]
        for box in drawn["boxes"]:
            box.set(facecolor=colour, alpha=0.5, edgecolor=colour)
        for line in drawn["medians"]:
            line.set(color="black")
        axes.plot([], [], color=colour, linewidth=6, alpha=0.5, label=plain(run_name(run)))
    axes.set_xticks(range(len(stems)), [plain(stem) for stem in stems])
    axes.set_ylabel(_label(runs, column))
    axes.grid(axis="y", alpha=0.3)
    if len(runs) > 1 and axes.lines:  # there is at least one box
        axes.legend(fontsize="small")
    return figure


def frame_plot(runs: Sequence[Run], track: str, stem: str, column: str) -> "Figure":
    """Draw a framewise metric of a track over time, one line for each run.

    Raises
    ------
    InputError
        No run has frames of that column for the track's stem.
    """
    figure, axes = _figure(width=8, height=3)
    end = 0.0
    for index, run in enumerate(runs):
        row = next((row for row in run.tracks if row.track == track), None)
        frames = row.stems[stem].frames.get(column) if row and stem in row.stems else None
        if not frames:
            continue
        window, hop = frame_geometry(run, column)
        times = np.arange(len(frames)) * hop + window / 2
        axes.plot(
            times, frames, ".-", color=COLOURS[index % len(COLOURS)], label=plain(run_name(run)), markersize=4
        )
        end = max(end, float(times[-1]) + window / 2)
    if not end:
        raise InputError(f"no run has frames of {column} for {stem} of {track}", "draw a framewise metric")
    axes.set_xlim(0, end)  # frames without a number leave their room empty
    axes.set_xlabel("time in s")
    axes.set_ylabel(_label(runs, column))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def spectrogram_plot(signals: Mapping[str, npt.NDArray[np.float32]], sample_rate: int) -> "Figure":
    """Draw spectrograms above each other on one scale: 0 dB is the largest magnitude of all.

    Parameters
    ----------
    signals
        Title -> samples, shape=(channels, samples); channels are averaged.
    sample_rate
        In Hz.
    """
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    if not signals:
        raise InputError("there are no signals to draw", "give at least one")
    longest = max(signal.shape[1] for signal in signals.values())
    hop = max(512, math.ceil(longest / _SPECTROGRAM_POINTS))
    transform = ShortTimeFFT(hann(2048, sym=False), hop, sample_rate, scale_to="magnitude")
    levels = {}
    for title, signal in signals.items():
        mono = np.pad(signal.mean(axis=0), (0, max(0, 2048 - signal.shape[1])))
        levels[title] = 20 * np.log10(np.maximum(np.abs(transform.stft(mono)), 1e-12))
    top = max(float(level.max()) for level in levels.values())
    figure, all_axes = _figure(width=8, height=1.8 * len(signals), rows=len(signals))
    for axes, (title, level) in zip(np.atleast_1d(all_axes), levels.items(), strict=True):
        axes.imshow(
            level - top,
            origin="lower",
            aspect="auto",
            extent=(0, longest / sample_rate, 0, sample_rate / 2000),
            vmin=-_RANGE_DB,
            vmax=0,
            cmap="magma",
            rasterized=True,
        )
        axes.set_title(plain(title), fontsize="small", loc="left")
        axes.set_ylabel("kHz")
    np.atleast_1d(all_axes)[-1].set_xlabel("time in s")
    return figure


def listening_plot(ratings: Ratings, metric: str, agreements: Sequence[Agreement]) -> "Figure":
    """Draw a metric against the listeners' ratings, a colour for each kind of model.

    Raises
    ------
    OptionError
        The ratings have no such metric.
    """
    if metric not in ratings.metrics:
        raise OptionError(f"there is no metric {metric}", f"there are {', '.join(ratings.metrics)}")
    figure, axes = _figure(width=6, height=4.5)
    kinds = np.array(ratings.kinds)
    for index, kind in enumerate(dict.fromkeys(ratings.kinds)):
        mine = kinds == kind
        found = next((a for a in agreements if a.metric == metric and a.group == kind), None)
        label = plain(kind)
        if found is not None:
            label += f": Spearman {found.spearman.value:.2f}, Pearson {found.pearson.value:.2f}"
        axes.plot(
            ratings.metrics[metric][mine],
            ratings.rating[mine],
            "o",
            color=COLOURS[index % len(COLOURS)],
            alpha=0.6,
            markersize=4,
            label=label,
        )
    axes.set_xlabel(plain(metric))
    axes.set_ylabel("mean opinion of the listeners")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def _figure(*, width: float, height: float = 4.0, rows: int = 1) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(max(width, 4), 16), height), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=True)


def _label(runs: Sequence[Run], column: str) -> str:
    from stemwright.eval.metrics import METRICS

    units = {column: metric.unit for metric in METRICS.values() for column in metric.columns}
    unit = units.get(column, "")
    return plain(f"{column} in {unit}" if unit else column)


def frame_geometry(run: Run, column: str) -> tuple[float, float]:
    """Window and hop of a column's frames in seconds."""
    for metric in run.facts.metrics:
        if column in metric.columns:
            return float(metric.options.get("window_s", 1)), float(metric.options.get("hop_s", 1))
    return 1.0, 1.0
