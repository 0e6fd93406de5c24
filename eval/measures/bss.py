"""BSS Eval as metrics: version 4 in frames, version 3 over the whole track, NSDR."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stemwright.eval.bss_eval.images import METRICS, ImageScores, ImagesOptions
from stemwright.eval.bss_eval.projection import RELATIVE_LOADING, Doubles
from stemwright.eval.bss_eval.scenarios import score_scenarios
from stemwright.eval.bss_eval.sources import TAPS, cross_scores
from stemwright.eval.measures.contract import Metric, ScoreOptions, Track
from stemwright.eval.measures.reading import mixed_blocks, pair_blocks
from stemwright.eval.rows import StemScores


@dataclass(frozen=True)
class _Images:
    """Version 4, robust or exact."""

    exact: bool

    def __call__(
        self, track: Track, metrics: tuple[Metric, ...], options: ScoreOptions
    ) -> dict[str, StemScores]:
        images = ImagesOptions(
            window_s=options.window_s, hop_s=options.hop_s, exact=self.exact, threads=options.threads
        )
        return image_rows(score_scenarios(track.pairs, images))


def image_rows(scores: ImageScores) -> dict[str, StemScores]:
    """Scores of images as rows: medians over the frames that have a finite value."""
    medians = {metric: scores.median(metric) for metric in METRICS}
    return {
        name: StemScores(
            values={metric: medians[metric][name] for metric in METRICS},
            frames={
                metric: tuple(float(value) for value in scores.values[row, index])
                for row, metric in enumerate(METRICS)
            },
            notes=_frame_notes(scores, index),
        )
        for index, name in enumerate(scores.names)
    }


def _frame_notes(scores: ImageScores, index: int) -> tuple[str, ...]:
    name = scores.names[index]
    if name in scores.reasons:
        return (f"SDR, ISR, SIR, SAR: {scores.reasons[name]}",)
    notes = []
    for metric, row in zip(METRICS, scores.values[:, index], strict=True):
        if metric == "SDR" and np.isnan(row).any():
            notes.append(
                f"{int(np.isnan(row).sum())} of {len(row)} frames have no value: a stem is silent there"
            )
        if np.isinf(row).any():
            notes.append(f"{metric}: {int(np.isinf(row).sum())} frames are infinite and count for nothing")
    return tuple(notes)


def _sources(track: Track, metrics: tuple[Metric, ...], options: ScoreOptions) -> dict[str, StemScores]:
    names, columns = track.pairs.names, [column for metric in metrics for column in metric.columns]
    mixed = any("mixture" in metric.needs for metric in metrics)

    def read() -> Iterator[tuple[Doubles, Doubles]]:
        if not mixed:
            yield from pair_blocks(track)
            return
        for references, estimates, mixture in mixed_blocks(track):
            yield references, np.concatenate([estimates, mixture[None]])

    wanted = np.eye(len(names), len(names) + mixed, dtype=bool)
    wanted[:, len(names) :] = True
    scores = cross_scores(read, wanted)
    own = np.arange(len(names)), np.arange(len(names))
    values = {"SDR_sources": scores.sdr[own], "SIR_sources": scores.sir[own], "SAR_sources": scores.sar[own]}
    if mixed:
        values["NSDR"] = scores.sdr[own] - scores.sdr[:, -1]
    return {
        name: StemScores(
            values={column: float(values[column][index]) for column in columns},
            notes=tuple(
                f"{column}: the reference, the estimate or the mixture is silent throughout"
                for column in columns
                if np.isnan(values[column][index])
            ),
        )
        for index, name in enumerate(names)
    }


_FRAMES = "in frames of 1 s with filters of the whole track"
BSS_METRICS = (
    Metric(
        name="bsseval",
        columns=METRICS,
        better="higher",
        unit="dB",
        meaning=f"BSS Eval 4 {_FRAMES}; robust where references lack bandwidth",
        engine=_Images(exact=False),
        framewise=True,
        options={"taps": TAPS, "relative_loading": RELATIVE_LOADING},
    ),
    Metric(
        name="bsseval-exact",
        columns=METRICS,
        better="higher",
        unit="dB",
        meaning=f"BSS Eval 4 {_FRAMES}; as museval also where its equations are singular",
        engine=_Images(exact=True),
        framewise=True,
        options={"taps": TAPS},
    ),
    Metric(
        name="bsseval-sources",
        columns=("SDR_sources", "SIR_sources", "SAR_sources"),
        better="higher",
        unit="dB",
        meaning="BSS Eval 3, sources: over the whole track, any filter of 512 taps forgiven",
        engine=_sources,
        options={"taps": TAPS},
    ),
    Metric(
        name="nsdr",
        columns=("NSDR",),
        better="higher",
        unit="dB",
        meaning="what SDR_sources gains over the mixture",
        engine=_sources,
        needs=frozenset({"mixture"}),
        options={"taps": TAPS},
    ),
)
