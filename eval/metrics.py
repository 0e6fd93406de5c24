"""The metrics by name, and the scores of a track by any of them.

>>> score_track(Track(pairs=open_stem_folders(true, found)), parse_metrics(["bsseval", "si-sdr"]))
{'bass': StemScores(values={'SDR': 6.1, ...}), ...}
"""

import difflib
import importlib
from collections.abc import Sequence
from typing import Protocol, cast

from stemwright.core.errors import OptionError
from stemwright.eval.measures.bss import BSS_METRICS
from stemwright.eval.measures.contract import Engine, Metric, ScoreOptions, Track
from stemwright.eval.measures.energies import ENERGY_METRICS
from stemwright.eval.measures.spectra import SPECTRAL_METRICS
from stemwright.eval.measures.speech import SPEECH_METRICS
from stemwright.eval.rows import StemScores

DEFAULT_METRICS = ("bsseval",)
METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*BSS_METRICS, *ENERGY_METRICS, *SPECTRAL_METRICS, *SPEECH_METRICS)
}
"""All metrics that have no argument, by name."""

_WITH_ARGUMENT = {
    "mse": "stemwright.eval.embedding.metrics",
    "mse32": "stemwright.eval.embedding.metrics",
    "fad": "stemwright.eval.embedding.metrics",
}
"""Metrics of the form `name:argument` -> the module that makes them, imported when one is asked for."""


class _MetricModule(Protocol):
    """A module that makes metrics with an argument."""

    def arguments(self, name: str) -> tuple[str, ...]:
        """Arguments that the metric can have."""

    def metric(self, name: str, argument: str) -> Metric:
        """Return the metric; the argument is one of those above."""


def parse_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Find metrics by name, each once, in the order given.

    Raises
    ------
    OptionError
        An unknown name (the nearest are told), or metrics that write the same columns.
    """
    metrics = tuple(_find(name) for name in dict.fromkeys(names))
    writers: dict[str, str] = {}
    for metric in metrics:
        for column in metric.columns:
            if column in writers:
                raise OptionError(
                    f"{metric.name} and {writers[column]} both write the column {column}",
                    "score by one of them at a time",
                )
            writers[column] = metric.name
    return metrics


def metric_names() -> tuple[str, ...]:
    """Names of all metrics, those with an argument included."""
    with_argument = [
        f"{name}:{argument}"
        for name, place in _WITH_ARGUMENT.items()
        for argument in _module(place).arguments(name)
    ]
    return (*METRICS, *with_argument)


def score_track(
    track: Track, metrics: Sequence[Metric], options: ScoreOptions | None = None
) -> dict[str, StemScores]:
    """Score the estimates of a track.

    Parameters
    ----------
    track
        References, estimates and perhaps the mixture; read in bounded memory, as often as needed.
    metrics
        From `parse_metrics`.
    options
        Frames and threads.

    Returns
    -------
    dict
        Scores of every stem, by its name: a value for every column, NaN with a note where there is none.

    Raises
    ------
    OptionError
        A metric needs the mixture and there is none, or it needs a package that is not installed.
    InputError
        Audio that cannot be scored.
    """
    options = options or ScoreOptions()
    for metric in metrics:
        if "mixture" in metric.needs and track.mixture is None:
            raise OptionError(
                f"{metric.name} compares with the mixture, which is not there",
                "give the mixture, or leave the metric out",
            )
    engines: dict[Engine, list[Metric]] = {}
    for metric in metrics:
        engines.setdefault(metric.engine, []).append(metric)
    parts = [engine(track, tuple(chosen), options) for engine, chosen in engines.items()]
    return {name: _merged([part[name] for part in parts], metrics) for name in track.pairs.names}


def _merged(parts: Sequence[StemScores], metrics: Sequence[Metric]) -> StemScores:
    columns = [column for metric in metrics for column in metric.columns]
    values = {column: value for part in parts for column, value in part.values.items()}
    return StemScores(
        values={column: values[column] for column in columns},
        frames={column: row for part in parts for column, row in part.frames.items()},
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _find(name: str) -> Metric:
    if name in METRICS:
        return METRICS[name]
    kind, _, argument = name.partition(":")
    if kind in _WITH_ARGUMENT and argument:
        module = _module(_WITH_ARGUMENT[kind])
        if argument in module.arguments(kind):
            return module.metric(kind, argument)
    near = difflib.get_close_matches(name, metric_names(), n=3, cutoff=0.4)
    known = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(metric_names())}"
    raise OptionError(f"there is no metric {name}", known)


def _module(place: str) -> _MetricModule:
    return cast(_MetricModule, importlib.import_module(place))
