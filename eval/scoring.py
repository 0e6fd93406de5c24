"""The scores of a track: its estimates paired with its true stems, measured, and made a row."""

from collections.abc import Mapping, Sequence

from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import InputError
from stemwright.eval.datasets.contract import OpenTrack
from stemwright.eval.datasets.sources import Named, SumSource
from stemwright.eval.measures.contract import Metric, ScoreOptions, Track
from stemwright.eval.metrics import score_track
from stemwright.eval.pairing import SourcePairs, best_order, pair_sources
from stemwright.eval.rows import TrackScores
from stemwright.eval.stem_plans import plan_stems


def score_estimates(
    name: str,
    track: OpenTrack,
    estimates: Mapping[str, Named],
    metrics: Sequence[Metric],
    options: ScoreOptions,
    *,
    any_order: bool = False,
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

    Raises
    ------
    InputError
        Stems that have nothing in common, other rates, channels or lengths, or audio that cannot be read.
    OptionError
        A metric that cannot be had.
    """
    pairs, notes = _in_any_order(track, estimates) if any_order else _by_name(track, estimates)
    _require_mixture_form(track.mixture, pairs)
    scores = score_track(Track(pairs=pairs, mixture=track.mixture), metrics, options)
    return TrackScores(
        track=name,
        seconds=pairs.samples / pairs.sample_rate,
        sample_rate=pairs.sample_rate,
        channels=pairs.channels,
        stems=scores,
        notes=(*track.notes, *notes, *pairs.notes),
    )


def _by_name(track: OpenTrack, estimates: Mapping[str, Named]) -> tuple[SourcePairs, tuple[str, ...]]:
    plan = plan_stems(tuple(track.references), tuple(estimates))
    references = [_sum(track.references, stem.references, "reference") for stem in plan.stems]
    found = [_sum(estimates, stem.estimates, "estimate") for stem in plan.stems]
    return pair_sources([stem.name for stem in plan.stems], references, found), plan.notes


def _in_any_order(track: OpenTrack, estimates: Mapping[str, Named]) -> tuple[SourcePairs, tuple[str, ...]]:
    names, references = tuple(track.references), tuple(track.references.values())
    labels, found = tuple(estimates), tuple(estimates.values())
    order = best_order(references, found)
    notes = [f"{name} is the estimate {labels[index]}" for name, index in zip(names, order, strict=True)]
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
