"""How the channels of a recording meet the channels of a model.

No channel is ever dropped: every channel of the recording is in exactly one group, each group is
one pass through the model, and the stems get the channels of the recording back.

=================  =============================================================================
model              groups
=================  =============================================================================
native, stereo     left-right pairs by the names of the layout (FL-FR, SL-SR, BL-BR ...), each
                   a stereo pass; every other channel (FC, LFE, unnamed ...) alone: it is given
                   to both channels of the model, and the two channels of its stems are averaged
native, mono       every channel alone
native, C > 2      all channels together where the recording has exactly C; else every channel
                   alone, given to all C channels, whose stems are averaged
per_channel        every channel alone
downmix            all channels together: the model hears their mean, and every channel of a
                   stem is the model's mono stem
=================  =============================================================================
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stemwright.core.arrays import FloatArray

ChannelMode = Literal["native", "downmix", "per_channel"]

# Left-right pairs of the layouts that FFmpeg names.
_PAIRS = (
    ("FL", "FR"),
    ("SL", "SR"),
    ("BL", "BR"),
    ("FLC", "FRC"),
    ("WL", "WR"),
    ("SDL", "SDR"),
    ("TFL", "TFR"),
    ("TBL", "TBR"),
    ("TSL", "TSR"),
    ("BFL", "BFR"),
    ("DL", "DR"),
)
_PARTNER = dict(_PAIRS)


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels of a recording that go through the model in one pass.

    Parameters
    ----------
    channels
        Indices of the recording's channels.
    model_channels
        Channels the model takes.
    downmix
        True where the mean of the channels goes in and one mono stem comes out for all of them.
    """

    channels: tuple[int, ...]
    model_channels: int
    downmix: bool = False

    def to_model(self, block: FloatArray) -> FloatArray:
        """Pick the group from a block of the recording.

        Parameters
        ----------
        block
            shape=(channels of the recording, n), float32.

        Returns
        -------
        FloatArray
            shape=(model_channels, n), float32.
        """
        picked = block[list(self.channels)]
        if self.downmix and len(self.channels) > 1:
            picked = picked.mean(axis=0, keepdims=True, dtype=np.float32)
        if picked.shape[0] == self.model_channels:
            return picked
        return np.ascontiguousarray(np.broadcast_to(picked, (self.model_channels, block.shape[1])))

    def from_model(self, stems: FloatArray) -> FloatArray:
        """Bring the stems back to the group's channels.

        Parameters
        ----------
        stems
            shape=(stems, model_channels, n), float32.

        Returns
        -------
        FloatArray
            shape=(stems, len(channels), n), float32.
        """
        if self.downmix or len(self.channels) != self.model_channels:
            if stems.shape[1] > 1:
                stems = stems.mean(axis=1, keepdims=True, dtype=np.float32)
            shape = (stems.shape[0], len(self.channels), stems.shape[2])
            return np.ascontiguousarray(np.broadcast_to(stems, shape))
        return stems


def channel_groups(
    layout: tuple[str, ...], model_channels: int, mode: ChannelMode = "native"
) -> tuple[ChannelGroup, ...]:
    """Plan the passes of a recording through a model; together they hold every channel once.

    Parameters
    ----------
    layout
        Names of the recording's channels, in order ("FL", "FR", "FC", "LFE" ...).
    model_channels
        Channels the model takes.
    mode
        The manifest's channel mode; see the table of this module.

    Raises
    ------
    ValueError
        No channels, on either side.
    """
    if not layout or model_channels < 1:
        raise ValueError("a recording and a model have at least one channel each")
    everything = tuple(range(len(layout)))
    if mode == "downmix":
        return (ChannelGroup(channels=everything, model_channels=model_channels, downmix=True),)
    if mode == "native" and model_channels == len(layout) and model_channels != 2:
        groups: tuple[tuple[int, ...], ...] = (everything,)
    elif mode == "native" and model_channels == 2:
        groups = (everything,) if len(layout) == 2 else _pairs_and_singles(layout)
    else:
        groups = tuple((index,) for index in everything)
    return tuple(ChannelGroup(channels=group, model_channels=model_channels) for group in groups)


def _pairs_and_singles(layout: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    groups: list[tuple[int, ...]] = []
    taken: set[int] = set()
    for index, name in enumerate(layout):
        if index in taken:
            continue
        partner = _partner(layout, index, name, taken)
        group = (index,) if partner is None else _left_first(layout, index, partner)
        taken.update(group)
        groups.append(group)
    return tuple(groups)


def _partner(layout: tuple[str, ...], index: int, name: str, taken: set[int]) -> int | None:
    wanted = {right if name == left else left for left, right in _PAIRS if name in (left, right)}
    for other in range(index + 1, len(layout)):
        if layout[other] in wanted and other not in taken:
            return other
    return None


def _left_first(layout: tuple[str, ...], one: int, other: int) -> tuple[int, int]:
    return (one, other) if layout[one] in _PARTNER else (other, one)
