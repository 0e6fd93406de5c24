"""What a separation is asked to compute, and how it is checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass

from stemwright.core.audio.source import BLOCK_FRAMES
from stemwright.core.errors import OptionError
from stemwright.models.manifest import Manifest
from stemwright.models.separation.lanes import RemainderMode
from stemwright.models.separation.plan import PlanOptions
from stemwright.models.separation.queries import StemQuery

RESIDUAL = "residual"
COMPLEMENT_PREFIX = "no_"


@dataclass(frozen=True, kw_only=True)
class SeparationOptions:
    """What to compute and how.

    Parameters
    ----------
    stems
        Names of the stems, in the order they are wanted; None for all.
    queries
        The stems of a model that is asked, each by its query.
    complement_of
        Two-stem mode: this stem, and `no_STEM`, the recording minus it.
    residual
        Also give `residual`, the recording minus all stems that are given, so that all together
        add up to the recording. Stems that are alternatives of each other take no part.
    remainder
        How the stem that is a model's remainder is made: `subtract`, the recording minus the model's
        other stems, or `network`, what the network gives for it. None for `subtract` where there is
        such a stem.
    overlap
        Share of a chunk by which consecutive chunks overlap; None for each model's own.
    discard_s
        Seconds of every call's output to discard at both ends, because the network lacks context
        there; 0 is the reference implementations' plan.
    shifts
        Number of randomly shifted passes to average (demucs' time-shift trick); 0 for a single
        pass without a shift.
    seed
        Seed of the shifts.
    batch_size
        Most chunks in one call of the network; None for what the device takes. It does not change
        the result.
    block_frames
        Samples in which the recording is read at a time.
    """

    stems: tuple[str, ...] | None = None
    queries: tuple[StemQuery, ...] = ()
    complement_of: str | None = None
    residual: bool = False
    remainder: RemainderMode | None = None
    overlap: float | None = None
    discard_s: float = 0.0
    shifts: int = 0
    seed: int = 0
    batch_size: int | None = None
    block_frames: int = BLOCK_FRAMES


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the models of a separator can give.

    Parameters
    ----------
    stems
        Names of the stems that can be had; none where stems are asked for by queries.
    by_query
        Whether there is a stem for each query instead.
    remainder
        Name of the stem that is a model's remainder, None for none.
    joint
        Whether the stems are scaled together, so that each needs all.
    """

    stems: tuple[str, ...]
    by_query: bool
    remainder: str | None
    joint: bool

    @classmethod
    def of(cls, manifests: Sequence[Manifest], stems: tuple[str, ...]) -> "Offer":
        """Tell what models of these manifests offer together.

        Raises
        ------
        OptionError
            Models that cannot be averaged.
        """
        by_query = any(manifest.stem_kind == "query" for manifest in manifests)
        joint = any(manifest.scale_fit is not None for manifest in manifests)
        if len(manifests) > 1:
            for what, found in (
                ("take queries", by_query),
                ("fit the scale of their stems", joint),
                ("give equal speakers", any(one.stem_kind == "interchangeable" for one in manifests)),
            ):
                if found:
                    raise OptionError(f"models that {what} cannot be averaged", "use one of them alone")
        remainder = next((one.remainder for one in manifests if one.remainder in stems), None)
        return cls(stems=stems, by_query=by_query, remainder=remainder, joint=joint)


@dataclass(frozen=True, kw_only=True)
class WantedStems:
    """What is computed and what is given for each recording.

    Parameters
    ----------
    computed
        Names of the stems that the models give.
    given
        Those of them that are handed out, in order.
    rest
        Name of the stem that is the recording minus some of those, None for none.
    rest_of
        The stems that are taken away for it.
    """

    computed: tuple[str, ...]
    given: tuple[str, ...]
    rest: str | None = None
    rest_of: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that is handed out, in order."""
        return self.given if self.rest is None else (*self.given, self.rest)


def wanted_stems(options: SeparationOptions, offer: Offer) -> WantedStems:
    """Check which stems are asked for.

    Raises
    ------
    OptionError
        A stem that is not available, or options that contradict each other.
    """
    available = _available(options, offer)
    if options.remainder is not None and offer.remainder is None:
        raise OptionError("no stem of the model is a remainder", "leave the choice for the remainder out")
    if options.complement_of is not None:
        if options.stems is not None or options.residual:
            raise OptionError(
                "a stem and its complement leave no room for other stems or a residual",
                "ask for either the complement, or for stems and the residual",
            )
        given: tuple[str, ...] = (options.complement_of,)
        rest: str | None = COMPLEMENT_PREFIX + options.complement_of
        rest_of = given
    else:
        given = available if options.stems is None else tuple(dict.fromkeys(options.stems))
        rest = RESIDUAL if options.residual else None
        rest_of = _summable(given, options) if options.residual else ()
    for stem in given:
        if stem not in available:
            raise OptionError(f"there is no stem {stem!r}", f"the stems are {', '.join(available)}")
    if not given:
        raise OptionError("no stems were asked for", f"the stems are {', '.join(available)}")
    if rest in given:
        raise OptionError(f"there is a stem named {rest} already", "leave the residual out")
    return WantedStems(computed=available if offer.joint else given, given=given, rest=rest, rest_of=rest_of)


def _available(options: SeparationOptions, offer: Offer) -> tuple[str, ...]:
    if not offer.by_query:
        if options.queries:
            raise OptionError(
                "this model's stems are fixed, it takes no queries",
                f"the stems are {', '.join(offer.stems)}; for queries use a model that takes them",
            )
        return offer.stems
    if not options.queries:
        raise OptionError("this model separates what it is asked for", "give it at least one query")
    if options.stems is not None:
        raise OptionError(
            "this model's stems are those of its queries, none can be chosen besides", "leave the stems out"
        )
    names = tuple(query.name for query in options.queries)
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two queries would give the stem {name!r}", "ask for each sound once")
    return names


def _summable(given: tuple[str, ...], options: SeparationOptions) -> tuple[str, ...]:
    """Stems that add up with each other: those that are no alternatives."""
    alternatives = {query.name for query in options.queries if query.exclusive_group is not None}
    stems = tuple(stem for stem in given if stem not in alternatives)
    if given and not stems:
        raise OptionError(
            "all stems are alternatives of each other, which leave no residual", "leave the residual out"
        )
    return stems


def plan_options(options: SeparationOptions) -> PlanOptions:
    """Take out what concerns the cutting of tracks.

    Raises
    ------
    OptionError
        A number that makes no sense.
    """
    for name, value, least in (
        ("shifts", options.shifts, 0),
        ("seed", options.seed, 0),
        ("discard_s", options.discard_s, 0),
        ("batch size", options.batch_size, 1),
        ("block size", options.block_frames, 1),
    ):
        if value is not None and not value >= least:
            raise OptionError(f"{name} {value} is not possible", f"give at least {least}")
    return PlanOptions(
        overlap=options.overlap, discard_s=options.discard_s, shifts=options.shifts, seed=options.seed
    )
