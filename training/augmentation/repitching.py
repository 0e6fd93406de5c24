"""Pitch and tempo of whole examples, drawn as Demucs does.

References
----------
A. Défossez et al., "Music Source Separation in the Waveform Domain", arXiv 1911.13254, and its code: with
probability 0.2, -2 to 2 semitones, and a tempo that is normal with a deviation of 5 % and at most 12 % off.
"""

from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.training.augmentation.stretching import repitched
from stemwright.training.data import draws


@dataclass(frozen=True, kw_only=True)
class RepitchRules:
    """What may be drawn.

    Parameters
    ----------
    share
        Of the examples that are changed.
    semitones
        Largest change of pitch, whole semitones.
    tempo_std, largest_tempo
        Deviation and largest size of the change of tempo, as parts of it.
    """

    share: float = 0.2
    semitones: int = 2
    tempo_std: float = 0.05
    largest_tempo: float = 0.12

    def samples_needed(self, samples: int) -> int:
        """Return the samples of the recording that an example of `samples` may need."""
        return int(np.ceil(samples * (1 + self.largest_tempo))) + 1


@dataclass(frozen=True, kw_only=True)
class RepitchDraw:
    """A change of pitch in semitones and the factor of the tempo."""

    semitones: int = 0
    tempo: float = 1.0


def draw_repitch(rules: RepitchRules, *, seed: int, step: int, index: int) -> RepitchDraw:
    """Draw for an example; all its sources are changed alike."""
    rng = draws.generator(seed, "repitch", step, index)
    changed = rng.random() < rules.share
    semitones = int(rng.integers(-rules.semitones, rules.semitones + 1))
    tempo = float(np.clip(rng.normal(0, rules.tempo_std), -rules.largest_tempo, rules.largest_tempo))
    return RepitchDraw(semitones=semitones, tempo=1 + tempo) if changed else RepitchDraw()


def apply_repitch(
    samples: FloatArray, draw: RepitchDraw, *, sample_rate: int, length: int, voice: bool = False
) -> FloatArray:
    """Change a source.

    Parameters
    ----------
    samples
        shape=(channels, n), n at least `RepitchRules.samples_needed(length)`.
    draw, sample_rate
        What was drawn; Hz.
    length
        Samples of the result.
    voice
        It is a voice, cut into shorter pieces.
    """
    if draw == RepitchDraw():
        return samples[:, :length]
    used = samples[:, : int(np.ceil(length * draw.tempo)) + 1]
    out = repitched(used, semitones=draw.semitones, tempo=draw.tempo, sample_rate=sample_rate, voice=voice)
    return out[:, :length]
