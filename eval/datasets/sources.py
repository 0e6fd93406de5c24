"""Signals made of others while they are read: a channel, a sum."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.frames import default_layout
from stemwright.core.audio.source import BLOCK_FRAMES, AudioInfo, AudioSource, open_source
from stemwright.core.errors import InputError


@dataclass(frozen=True)
class Named:
    """A source with a name for messages."""

    name: str
    source: AudioSource


def open_named(path: Path, *, stream: int = 0) -> Named:
    """Open a file and call it by its folder and name, since stems of all tracks have the same names.

    Raises
    ------
    InputError
        As open_source does.
    """
    name = f"{path.parent.name}/{path.name}"
    source = open_source(path, stream=stream, name=name)
    return Named(name if stream == 0 else f"stream {stream} of {name}", source)


class ChannelSource:
    """One channel of a source, as mono.

    Raises
    ------
    InputError
        The source has no such channel.
    """

    def __init__(self, source: AudioSource, channel: int, name: str) -> None:
        if channel >= source.info.channels:
            raise InputError(
                f"{name} has {source.info.channels} channel(s), not two",
                "give recordings with the accompaniment in the left and the voice in the right channel",
            )
        self._source = source
        self._channel = channel

    @property
    def info(self) -> AudioInfo:
        """That of the source, but for the channels."""
        return dataclasses.replace(self._source.info, channels=1, layout=default_layout(1))

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
        """Float32 blocks, shape=(1, n)."""
        for block in self._source.blocks(block_frames):
            yield block[self._channel : self._channel + 1]


class SumSource:
    """The sum of sources of the same rate and channels, as long as the shortest.

    Raises
    ------
    InputError
        Rates or channels differ.
    """

    def __init__(self, sources: Sequence[Named]) -> None:
        require_one_form(sources)
        self._sources = tuple(named.source for named in sources)

    @property
    def info(self) -> AudioInfo:
        """That of the first source."""
        lengths = [source.info.frames for source in self._sources]
        known = [length for length in lengths if length is not None]
        frames = min(known) if len(known) == len(lengths) else None
        return dataclasses.replace(self._sources[0].info, frames=frames, bit_depth=None)

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
        """Float32 blocks, shape=(channels, n)."""
        streams = [source.blocks(block_frames) for source in self._sources]
        for parts in zip(*streams, strict=False):
            count = min(part.shape[1] for part in parts)
            total = parts[0][:, :count].copy()
            for part in parts[1:]:
                total += part[:, :count]
            yield total
            if any(part.shape[1] > count for part in parts):
                return


def require_one_form(sources: Sequence[Named]) -> None:
    """Check that rates and channels are the same.

    Raises
    ------
    InputError
        Two differ; both are named.
    """
    first = sources[0]
    for other in sources[1:]:
        mine, theirs = first.source.info, other.source.info
        if theirs.sample_rate != mine.sample_rate:
            raise InputError(
                f"{other.name} has {theirs.sample_rate} Hz, {first.name} {mine.sample_rate} Hz",
                "nothing is resampled silently: bring both to one rate",
            )
        if theirs.channels != mine.channels:
            raise InputError(
                f"{other.name} has {theirs.channels} channels, {first.name} {mine.channels}",
                "bring both to the same channels",
            )
