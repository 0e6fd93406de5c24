"""Whose voice a song is sung with."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import Resampler
from stemwright.core.errors import InputError
from stemwright.training.data import draws
from stemwright.training.data.pack import Pack
from stemwright.training.synthesis.speaking import draw_speaker, draw_text, spoken

_WORDS = 24


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Speech or singing of one person: one channel, shape=(n,), and what to call it."""

    samples: FloatArray
    name: str


class Voices(Protocol):
    """Gives each song a voice."""

    def voice(self, seed: int, song: int, sample_rate: int) -> Voice:
        """Return the voice of a song."""
        ...


class MachineVoices:
    """Voices of espeak-ng."""

    def voice(self, seed: int, song: int, sample_rate: int) -> Voice:
        """Speak some words as someone who is drawn; raises OptionError without espeak-ng."""
        speaker = draw_speaker(seed, song)
        samples, rate = spoken(draw_text(draws.generator(seed, "words", song), _WORDS), speaker)
        return Voice(samples=_at_rate(samples, rate, sample_rate), name=f"espeak-ng {speaker.voice}")


class RecordedVoices:
    """Voices from a pack of speech, or the vocals of a pack of stems; groups are drawn evenly.

    Parameters
    ----------
    pack
        Of speech, or of stems with one named vocals.
    seconds
        How much of someone's voice is used at most.

    Raises
    ------
    InputError
        A pack without voices.
    """

    def __init__(self, pack: Pack, *, seconds: float = 30.0) -> None:
        if pack.index.kind == "stems":
            pack = pack.where(lambda one: one.role == "vocals" and one.peak > 0)
        if pack.index.kind == "events" or not pack.numbers:
            raise InputError(f"{pack.folder} has no voices", "give speech, or songs with a stem vocals")
        self._pack = pack
        self._frames = round(seconds * pack.sample_rate)

    def voice(self, seed: int, song: int, sample_rate: int) -> Voice:
        """Return recordings of someone who is drawn, in random order."""
        names = tuple(self._pack.groups)
        name = names[draws.nth_of_rounds(song, len(names), seed, "singers")]
        rng = draws.generator(seed, "takes", song)
        numbers = rng.permutation(np.array(self._pack.groups[name]))
        pieces, left = [], self._frames
        for number in numbers:
            if left <= 0:
                break
            frames = min(left, self._pack.index.recordings[number].frames)
            pieces.append(self._pack.read(int(number), 0, frames).mean(axis=0, keepdims=True))
            left -= frames
        samples = np.concatenate(pieces, axis=1)
        return Voice(samples=_at_rate(samples, self._pack.sample_rate, sample_rate), name=name)


def _at_rate(samples: FloatArray, rate: int, wanted: int) -> FloatArray:
    resampler = Resampler(rate, wanted, 1)
    out: FloatArray = np.concatenate([resampler.push(samples), resampler.flush()], axis=1)[0]
    return out
