"""What a separation is asked to compute, and how it is checked before any work."""

from dataclasses import dataclass

from stemwright.core.audio.source import BLOCK_FRAMES
from stemwright.core.errors import OptionError
from stemwright.models.separation.lanes import PlanOptions

RESIDUAL = "residual"
COMPLEMENT_PREFIX = "no_"


@dataclass(frozen=True, kw_only=True)
class SeparationOptions:
    """What to compute and how.

    Parameters
    ----------
    stems
        Names of the stems, in the order they are wanted; None for all.
    complement_of
        Two-stem mode: this stem, and `no_STEM`, the recording minus it.
    residual
        Also give `residual`, the recording minus all stems that are given, so that all together
        add up to the recording.
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
    complement_of: str | None = None
    residual: bool = False
    overlap: float | None = None
    discard_s: float = 0.0
    shifts: int = 0
    seed: int = 0
    batch_size: int | None = None
    block_frames: int = BLOCK_FRAMES


@dataclass(frozen=True, kw_only=True)
class WantedStems:
    """What is given for each recording.

    Parameters
    ----------
    computed
        Names of the stems that the models give.
    remainder
        Name of the stem that is the recording minus all of those, None for none.
    """

    computed: tuple[str, ...]
    remainder: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return self.computed if self.remainder is None else (*self.computed, self.remainder)


def wanted_stems(options: SeparationOptions, available: tuple[str, ...]) -> WantedStems:
    """Check which stems are asked for.

    Raises
    ------
    OptionError
        A stem that is not available, or options that contradict each other.
    """
    if options.complement_of is not None:
        if options.stems is not None or options.residual:
            raise OptionError(
                "a stem and its complement leave no room for other stems or a residual",
                "ask for either the complement, or for stems and the residual",
            )
        computed: tuple[str, ...] = (options.complement_of,)
        remainder: str | None = COMPLEMENT_PREFIX + options.complement_of
    else:
        computed = available if options.stems is None else tuple(dict.fromkeys(options.stems))
        remainder = RESIDUAL if options.residual else None
    for stem in computed:
        if stem not in available:
            raise OptionError(f"there is no stem {stem!r}", f"the stems are {', '.join(available)}")
    if not computed:
        raise OptionError("no stems were asked for", f"the stems are {', '.join(available)}")
    if remainder in computed:
        raise OptionError(f"the model has a stem named {remainder} itself", "leave the residual out")
    return WantedStems(computed=computed, remainder=remainder)


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
