"""What is played, as data: notes in parts, parts in a score."""

from dataclasses import dataclass, replace
from typing import Literal

Stem = Literal["drums", "bass", "other"]
STEMS: tuple[Stem, ...] = ("drums", "bass", "other")
DRUM_CHANNEL = 9
BASS_PROGRAMS = frozenset((*range(32, 40), 43))  # General MIDI from 0: basses, and the contrabass


@dataclass(frozen=True, kw_only=True)
class Note:
    """A note.

    Parameters
    ----------
    start, length
        In beats.
    pitch
        MIDI's number: 69 is 440 Hz.
    velocity
        1..127.
    """

    start: float
    length: float
    pitch: int
    velocity: int = 90


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one instrument plays.

    Parameters
    ----------
    stem
        The stem that it belongs to.
    program
        General MIDI's instrument from 0; of drums the kit.
    notes
        By start.
    volume, pan
        0..127; a pan of 64 is the middle.
    """

    stem: Stem
    program: int
    notes: tuple[Note, ...]
    volume: int = 100
    pan: int = 64


@dataclass(frozen=True, kw_only=True)
class Score:
    """A song.

    Parameters
    ----------
    tempo
        Beats a minute.
    beats
        Length.
    parts
        What instruments play.
    melody
        What is sung: one note at a time.
    """

    tempo: float
    beats: float
    parts: tuple[Part, ...]
    melody: tuple[Note, ...]

    @property
    def seconds(self) -> float:
        """Length of the song."""
        return self.beats * 60 / self.tempo

    def sung(self) -> tuple[Note, ...]:
        """Return the melody with starts and lengths in seconds."""
        beat = 60 / self.tempo
        return tuple(
            replace(note, start=note.start * beat, length=note.length * beat) for note in self.melody
        )

    def of_stem(self, stem: Stem) -> tuple[Part, ...]:
        """Return the parts of a stem."""
        return tuple(part for part in self.parts if part.stem == stem)
