"""What may be changed about the sources of a batch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BatchRules:
    """What may be drawn; the defaults change nothing.

    Parameters
    ----------
    shift
        Samples by which a source may be moved; examples have to be longer by so many, and get shorter.
    flip_sign, swap_channels
        With probability 1/2 each, by source.
    gain
        Range of each source's factor, drawn evenly; None leaves them.
    remix_group
        Each source is dealt anew within groups of so many examples; 0 leaves them. The last group may be
        smaller.
    """

    shift: int = 0
    flip_sign: bool = False
    swap_channels: bool = False
    gain: tuple[float, float] | None = None
    remix_group: int = 0
