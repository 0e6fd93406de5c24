"""Which passes a separation makes over a recording: one *lane* a member, channel group and shift.

A `Request` is what was asked for, resolved; a `Schedule` is what that means for one recording once
its length and level are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.channels import ChannelGroup, channel_groups
from stemwright.core.audio.source import AudioInfo
from stemwright.core.errors import OptionError
from stemwright.models.manifest import Manifest
from stemwright.models.separation.feeds import Feed, FeedFacts, TrackAnalysis
from stemwright.models.separation.members import Member
from stemwright.models.separation.overlap import Part
from stemwright.models.separation.plan import PlanOptions, TrackPlan, draw_origins
from stemwright.models.separation.queries import StemQuery

RemainderMode = Literal["subtract", "network"]
"""How a stem that is a model's remainder is made; see SeparationOptions."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One pass of a member over a feed.

    Parameters
    ----------
    member
        The model.
    feed
        Index of the feed that it hears.
    picks
        Indices of the stems that are used among those the network gives.
    rows
        For each stem of `part`, which of the picks it is; None for minus the sum of all, to which the
        recording is added at the end.
    part
        Where they go in the sum of all lanes of this sample rate.
    origin
        Where its track begins, from the time-shift trick.
    query
        What the network is asked for.
    """

    member: Member
    feed: int
    picks: tuple[int, ...]
    rows: tuple[int | None, ...]
    part: Part
    origin: int
    query: StemQuery | None = None

    def stems(self, picked: FloatArray) -> FloatArray:
        """Turn what was picked, shape=(picks, ...), into the stems of `part`, in order."""
        if self.rows == tuple(range(len(self.picks))):
            return picked
        return np.stack([-picked.sum(axis=0) if row is None else picked[row] for row in self.rows])


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a separation computes.

    Parameters
    ----------
    stems
        Names of the computed stems.
    feeds
        What the members hear.
    lanes
        All passes, in the order in which they are summed.
    plan
        How tracks are cut.
    recording
        For each stem, the factor with which the recording itself is added to the lanes' sum.
    """

    stems: tuple[str, ...]
    feeds: tuple[Feed, ...]
    lanes: tuple[Lane, ...]
    plan: PlanOptions
    recording: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which stems are computed, and how.

    Parameters
    ----------
    stems
        Names of the stems.
    queries
        The stems' queries, for a member that takes them.
    remainder
        How a remainder among them is made.
    """

    stems: tuple[str, ...]
    queries: tuple[StemQuery, ...] = ()
    remainder: RemainderMode = "subtract"


def resolve(members: Sequence[Member], choice: Choice, info: AudioInfo, plan: PlanOptions) -> Request:
    """Plan the passes over a recording; members without a share in the stems get none.

    The shifts of every member are drawn whether it runs or not, so that a stem does not depend on
    which other stems are asked for.

    Raises
    ------
    OptionError
        Equal speakers, or calls with a state, in passes that cannot be brought together.
    """
    generator = np.random.default_rng(plan.seed)
    feeds: list[Feed] = []
    lanes: list[Lane] = []
    recording = dict.fromkeys(choice.stems, 0.0)
    for member in members:
        audio = member.manifest.audio
        origins = draw_origins(generator, plan.shifts, audio.sample_rate)
        parts = _parts(member, choice)
        groups = channel_groups(info.layout, audio.channels, audio.mode) if parts else ()
        _check_passes(member, len(groups), plan)
        for group in groups:
            feed = Feed(sample_rate=audio.sample_rate, group=group)
            if feed not in feeds:
                feeds.append(feed)
            for part in parts:
                lanes.extend(_passes(member, part, choice.stems, feeds.index(feed), group, origins))
        for part in parts:
            if None in part.rows:
                name = part.names[part.rows.index(None)]
                recording[name] += part.gains[part.rows.index(None)]
    return Request(
        stems=choice.stems,
        feeds=tuple(feeds),
        lanes=tuple(lanes),
        plan=plan,
        recording=tuple(recording.values()),
    )


@dataclass(frozen=True, kw_only=True)
class _MemberPart:
    """What one call of a member gives: stems, their gains, and how they are made of its outputs."""

    names: tuple[str, ...]
    gains: tuple[float, ...]
    picks: tuple[int, ...]
    rows: tuple[int | None, ...]
    query: StemQuery | None = None


def _parts(member: Member, choice: Choice) -> list[_MemberPart]:
    """Stems of a member: all in one call, or a call for each query."""
    manifest = member.manifest
    if manifest.stem_kind == "query":
        return [
            _MemberPart(names=(query.name,), gains=(1.0,), picks=(0,), rows=(0,), query=query)
            for query in choice.queries
            if query.name in choice.stems
        ]
    names = tuple(stem for stem in choice.stems if stem in member.gains)
    if not names:
        return []
    gains = tuple(member.gains[name] for name in names)
    if choice.remainder == "subtract" and manifest.remainder in names:
        others = manifest.stems[:-1]
        rows = tuple(None if name == manifest.remainder else others.index(name) for name in names)
        return [_MemberPart(names=names, gains=gains, picks=tuple(range(len(others))), rows=rows)]
    picks = tuple(manifest.stems.index(name) for name in names)
    if manifest.stem_kind == "interchangeable":  # only all of them together can be kept in order
        return [_MemberPart(names=names, gains=gains, picks=tuple(range(len(manifest.stems))), rows=picks)]
    return [_MemberPart(names=names, gains=gains, picks=picks, rows=tuple(range(len(names))))]


def _passes(
    member: Member,
    part: _MemberPart,
    stems: tuple[str, ...],
    feed: int,
    group: ChannelGroup,
    origins: tuple[int, ...],
) -> list[Lane]:
    where = Part(
        stems=tuple(stems.index(name) for name in part.names),
        channels=group.channels,
        gains=tuple(gain / len(origins) for gain in part.gains),
    )
    return [
        Lane(
            member=member,
            feed=feed,
            picks=part.picks,
            rows=part.rows,
            part=where,
            origin=origin,
            query=part.query,
        )
        for origin in origins
    ]


def _check_passes(member: Member, groups: int, plan: PlanOptions) -> None:
    """Refuse passes whose results cannot be brought together."""
    if member.manifest.graph.state and (plan.shifts or plan.discard_s or plan.overlap):
        raise OptionError(
            f"{member.name} goes over a recording once, in order and without overlap",
            "leave shifts, overlap and discarded context out",
        )
    if member.manifest.stem_kind == "interchangeable":
        if plan.shifts > 1:
            raise OptionError(
                f"the speakers of {member.name} may change places between shifted passes",
                "use at most one shift",
            )
        if plan.overlap == 0 and not member.manifest.graph.state:
            raise OptionError(
                f"{member.name} needs an overlap to keep its speakers in order", "leave the overlap out"
            )
        if groups > 1:
            raise OptionError(
                f"{member.name} would separate the speakers of each pair of channels on their own",
                "mix the recording down to the channels of the model",
            )


@dataclass(frozen=True, kw_only=True)
class Level:
    """Whole-track normalisation: the network hears (x - mean) / scale; stems are y * scale + mean."""

    mean: np.float32
    scale: np.float32

    def apply(self, samples: FloatArray, out: FloatArray) -> None:
        """Write the normalised samples to `out`."""
        np.subtract(samples, self.mean, out=out)
        np.divide(out, self.scale, out=out)

    def undo(self, stems: FloatArray) -> None:
        """Bring stems back to the recording's level, in place."""
        np.multiply(stems, self.scale, out=stems)
        np.add(stems, self.mean, out=stems)


def level_of(manifest: Manifest, facts: FeedFacts) -> Level | None:
    """Level of a feed for a model, None if the model takes it as it is."""
    if manifest.normalisation is None:
        return None
    scale = np.float32(np.float32(facts.std) + np.float32(manifest.normalisation.epsilon))
    return Level(mean=np.float32(facts.mean), scale=scale)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The plan of every lane for one recording.

    Parameters
    ----------
    analysis
        What the first pass found.
    plans
        Plan of each lane.
    levels
        Level of each lane.
    """

    analysis: TrackAnalysis
    plans: tuple[TrackPlan, ...]
    levels: tuple[Level | None, ...]

    @property
    def chunks(self) -> int:
        """Number of chunks in all lanes."""
        return sum(plan.count for plan in self.plans)


def schedule(request: Request, analysis: TrackAnalysis) -> Schedule:
    """Plan the lanes of a request for a recording that was analysed."""
    lanes = request.lanes
    return Schedule(
        analysis=analysis,
        plans=tuple(track_plan(lane, request.plan, analysis.feeds[lane.feed].frames) for lane in lanes),
        levels=tuple(level_of(lane.member.manifest, analysis.feeds[lane.feed]) for lane in lanes),
    )


def track_plan(lane: Lane, options: PlanOptions, frames: int) -> TrackPlan:
    """Plan one lane over a track of `frames` samples; raises OptionError as TrackPlan does."""
    manifest = lane.member.manifest
    return TrackPlan(
        call=manifest.plan,
        frames=frames,
        overlap=manifest.plan.overlap if options.overlap is None else options.overlap,
        discard=round(options.discard_s * manifest.audio.sample_rate),
        origin=lane.origin,
        lag=0 if manifest.streaming is None else manifest.streaming.latency_samples,
    )
