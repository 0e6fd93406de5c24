"""The scores of a track: its estimates paired with its true stems, measured, and made a row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import InputError
from stemwright.eval.bss_eval.projection import Doubles
from stemwright.eval.datasets.contract import OpenTrack
from stemwright.eval.datasets.sources import Named, SumSource
from stemwright.eval.measures.contract import Engine, Metric, ScoreOptions, Track
from stemwright.eval.metrics import score_track
from stemwright.eval.pairing import SourcePairs, best_order, pair_sources
from stemwright.eval.rows import StemScores, TrackScores
from stemwright.eval.stem_plans import plan_stems

_ORDERED = " is the estimate "


def estimate_in_order(row: TrackScores, stem: str) -> str | None:
    """Return which estimate a stem of a scored track was found to be; None where names decided."""
    begin = f"{stem}{_ORDERED}"
    return next((note.removeprefix(begin) for note in row.notes if note.startswith(begin)), None)


def score_estimates(
    name: str,
    track: OpenTrack,
    estimates: Mapping[str, Named],
    metrics: Sequence[Metric],
    options: ScoreOptions,
    *,
    any_order: bool = False,
    watch: Callable[[float], None] | None = None,
) -> TrackScores:
    """Score the estimates of a track.

    Parameters
    ----------
    name
        What the track is called.
    track
        Its mixture and true stems.
    estimates
        By the names of their stems.
    metrics, options
        What is measured and how.
    any_order
        Whether the estimates are equal in rank, and each belongs to the true stem that it fits best.
    watch
        Called with the share of the metrics that is done, again and again; what it raises ends the work.

    Raises
    ------
    InputError
        Stems that have nothing in common, other rates, channels or lengths, or audio that cannot be read.
    OptionError
        A metric that cannot be had.
    """
    pairs, notes = _in_any_order(track, estimates) if any_order else _by_name(track, estimates)
    _require_mixture_form(track.mixture, pairs)
    scores = _scores(pairs, track.mixture, metrics, options, watch or (lambda share: None))
    return TrackScores(
        track=name,
        seconds=pairs.samples / pairs.sample_rate,
        sample_rate=pairs.sample_rate,
        channels=pairs.channels,
        stems=scores,
        notes=(*track.notes, *notes, *pairs.notes),
    )


def _scores(
    pairs: SourcePairs,
    mixture: AudioSource,
    metrics: Sequence[Metric],
    options: ScoreOptions,
    watch: Callable[[float], None],
) -> dict[str, StemScores]:
    """Measure, metrics that are computed together at a time."""
    groups: dict[Engine, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault(metric.engine, []).append(metric)
    parts: list[dict[str, StemScores]] = []
    for done, group in enumerate(groups.values()):
        share = done / len(groups)
        watched = _WatchedPairs(pairs, lambda share=share: watch(share))  # type: ignore[misc]
        parts.append(score_track(Track(pairs=watched, mixture=mixture), group, options))
    watch(1.0)
    columns = [column for metric in metrics for column in metric.columns]
    return {name: _merged([part[name] for part in parts], columns) for name in pairs.names}


def _merged(parts: Sequence[StemScores], columns: Sequence[str]) -> StemScores:
    values = {column: value for part in parts for column, value in part.values.items()}
    return StemScores(
        values={column: values[column] for column in columns},
        frames={column: row for part in parts for column, row in part.frames.items()},
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


@dataclass(frozen=True)
class _WatchedPairs:
    """Pairs that call something before every block is read."""

    pairs: SourcePairs
    watch: Callable[[], None]

    @property
    def names(self) -> tuple[str, ...]:
        return self.pairs.names

    @property
    def samples(self) -> int:
        return self.pairs.samples

    @property
    def sample_rate(self) -> int:
        return self.pairs.sample_rate

    def blocks(self, size: int) -> Iterator[tuple[Doubles, Doubles]]:
        for block in self.pairs.blocks(size):
            self.watch()
            yield block


def _by_name(track: OpenTrack, estimates: Mapping[str, Named]) -> tuple[SourcePairs, tuple[str, ...]]:
    plan = plan_stems(tuple(track.references), tuple(estimates))
    references = [_sum(track.references, stem.references, "reference") for stem in plan.stems]
    found = [_sum(estimates, stem.estimates, "estimate") for stem in plan.stems]
    return pair_sources([stem.name for stem in plan.stems], references, found), plan.notes


def _in_any_order(track: OpenTrack, estimates: Mapping[str, Named]) -> tuple[SourcePairs, tuple[str, ...]]:
    names, references = tuple(track.references), tuple(track.references.values())
    labels, found = tuple(estimates), tuple(estimates.values())
    order = best_order(references, found)
    notes = [f"{name}{_ORDERED}{labels[index]}" for name, index in zip(names, order, strict=True)]
    notes += [
        f"{label} is not scored: there is no reference"
        for index, label in enumerate(labels)
        if index not in order
    ]
    return pair_sources(names, references, [found[index] for index in order]), tuple(notes)


def _sum(sources: Mapping[str, Named], names: Sequence[str], what: str) -> Named:
    if len(names) == 1:
        return sources[names[0]]
    parts = [sources[name] for name in names]
    return Named(f"the sum of the {what}s {', '.join(names)}", SumSource(parts))


def _require_mixture_form(mixture: AudioSource, pairs: SourcePairs) -> None:
    info = mixture.info
    if (info.sample_rate, info.channels) != (pairs.sample_rate, pairs.channels):
        raise InputError(
            f"the mixture has {info.sample_rate} Hz and {info.channels} channel(s), the stems"
            f" {pairs.sample_rate} Hz and {pairs.channels}",
            "give the mixture of these stems",
        )
