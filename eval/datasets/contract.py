"""What a data set is: tracks, each a mixture and its true stems, named but not yet opened."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import InputError, StemwrightError
from stemwright.eval.datasets.sources import ChannelSource, Named, SumSource, open_named

VOCALS, ACCOMPANIMENT = "vocals", "accompaniment"
Nature = Literal["music", "speech", "events"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where a signal is stored.

    Parameters
    ----------
    path
        The file.
    stream
        Which of its audio streams.
    channel
        Only this channel of it, None for all.
    """

    path: Path
    stream: int = 0
    channel: int | None = None

    def open(self) -> Named:
        """Open it; raises what open_source does, and InputError where there is no such channel."""
        named = open_named(self.path, stream=self.stream)
        if self.channel is None:
            return named
        return Named(
            name=f"channel {self.channel + 1} of {named.name}",
            source=ChannelSource(named.source, self.channel, named.name),
        )


@dataclass(frozen=True, kw_only=True)
class OpenTrack:
    """A track that can be read.

    Parameters
    ----------
    mixture
        The recording; the sum of the stems where none is stored.
    references
        The true stems by name.
    notes
        What is worth telling of it.
    """

    mixture: AudioSource
    references: dict[str, Named]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataTrack:
    """A track of a data set.

    Parameters
    ----------
    name
        Unique in the data set.
    stems
        The true stems by name, in the data set's order.
    mixture
        None where it is the sum of the stems.
    problem
        Why it cannot be used, None where nothing speaks against it so far.
    """

    name: str
    stems: dict[str, Part]
    mixture: Part | None
    problem: StemwrightError | None = None

    def open(self) -> OpenTrack:
        """Open all its files.

        Raises
        ------
        InputError
            A file is missing or unreadable, or rates or channels differ.
        """
        if self.problem is not None:
            raise self.problem
        references = {name: part.open() for name, part in self.stems.items()}
        if not references:
            raise InputError(f"{self.name} has no stems", "put the true stems there, one file each")
        if self.mixture is not None:
            return OpenTrack(mixture=self.mixture.open().source, references=references)
        return OpenTrack(
            mixture=SumSource(tuple(references.values())),
            references=references,
            notes=("the mixture is the sum of the stems",),
        )


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set.

    Parameters
    ----------
    label
        As it was asked for: `musdb:PATH`.
    tracks
        In the order of their names.
    nature
        What it holds; it chooses the transform of the oracles.
    interchangeable
        Whether the stems are equal in rank, such as speakers, so that estimates are put in the order that
        fits best.
    notes
        What is worth telling of it.
    """

    label: str
    tracks: tuple[DataTrack, ...]
    nature: Nature = "music"
    interchangeable: bool = False
    notes: tuple[str, ...] = field(default=())
