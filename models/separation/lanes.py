"""Which passes a separation makes over a recording: one *lane* a member, channel group and shift.

A `Request` is what was asked for, resolved; a `Schedule` is what that means for one recording once
its length and level are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.channels import channel_groups
from stemwright.core.audio.source import AudioInfo
from stemwright.models.manifest import Manifest
from stemwright.models.separation.feeds import Feed, FeedFacts, TrackAnalysis
from stemwright.models.separation.members import Member
from stemwright.models.separation.overlap import Part
from stemwright.models.separation.plan import TrackPlan, draw_origins


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How the tracks are to be cut.

    Parameters
    ----------
    overlap
        Share of a chunk, None for each manifest's own.
    discard_s
        Seconds of output to discard at both ends of every call.
    shifts
        Number of shifted passes to average; 0 makes a single one without shift.
    seed
        Seed of the shifts.
    """

    overlap: float | None
    discard_s: float
    shifts: int
    seed: int


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
        Indices of the stems that are used among those the model gives.
    part
        Where they go in the sum of all lanes of this sample rate.
    origin
        Where its track begins, from the time-shift trick.
    """

    member: Member
    feed: int
    picks: tuple[int, ...]
    part: Part
    origin: int


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
    """

    stems: tuple[str, ...]
    feeds: tuple[Feed, ...]
    lanes: tuple[Lane, ...]
    plan: PlanOptions


def resolve(members: Sequence[Member], stems: tuple[str, ...], info: AudioInfo, plan: PlanOptions) -> Request:
    """Plan the passes over a recording; members without a share in `stems` get none.

    The shifts of every member are drawn whether it runs or not, so that a stem does not depend on
    which other stems are asked for.
    """
    generator = np.random.default_rng(plan.seed)
    feeds: list[Feed] = []
    lanes: list[Lane] = []
    for member in members:
        audio = member.manifest.audio
        origins = draw_origins(generator, plan.shifts, audio.sample_rate)
        names = [stem for stem in stems if stem in member.gains]
        if not names:
            continue
        for group in channel_groups(info.layout, audio.channels, audio.mode):
            feed = Feed(sample_rate=audio.sample_rate, group=group)
            if feed not in feeds:
                feeds.append(feed)
            part = Part(
                stems=tuple(stems.index(name) for name in names),
                channels=group.channels,
                gains=tuple(member.gains[name] / len(origins) for name in names),
            )
            lanes.extend(
                Lane(
                    member=member,
                    feed=feeds.index(feed),
                    picks=tuple(member.manifest.stems.index(name) for name in names),
                    part=part,
                    origin=origin,
                )
                for origin in origins
            )
    return Request(stems=stems, feeds=tuple(feeds), lanes=tuple(lanes), plan=plan)


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
    )
