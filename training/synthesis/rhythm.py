"""Drums and basses by rule."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stemwright.training.synthesis.scores import Note

# General MIDI's percussion.
KICK, SNARE, SIDE_STICK, CLAP = 36, 38, 37, 39
CLOSED_HAT, OPEN_HAT, RIDE, CRASH, TAMBOURINE = 42, 46, 51, 49, 54
TOMS = (50, 48, 47, 45, 43, 41)
BAR = 4.0
_STEPS = 16  # of a bar


@dataclass(frozen=True, kw_only=True)
class Groove:
    """A bar of drums as steps of a sixteenth: where kick, snare and hats are struck."""

    kick: tuple[int, ...]
    snare: tuple[int, ...]
    hat: tuple[int, ...]
    snare_sound: int = SNARE
    hat_sound: int = CLOSED_HAT


GROOVES = (
    Groove(kick=(0, 8), snare=(4, 12), hat=tuple(range(0, 16, 2))),  # rock
    Groove(kick=(0, 6, 8), snare=(4, 12), hat=tuple(range(0, 16, 2))),
    Groove(kick=(0, 4, 8, 12), snare=(4, 12), hat=(2, 6, 10, 14), hat_sound=OPEN_HAT),  # house
    Groove(kick=(0, 4, 8, 12), snare=(4, 12), hat=tuple(range(16)), snare_sound=CLAP),
    Groove(kick=(0, 7, 10), snare=(4, 12), hat=tuple(range(0, 16, 2))),  # hip hop
    Groove(kick=(0, 3, 10), snare=(8,), hat=tuple(range(0, 16, 2))),  # half time
    Groove(kick=(0, 10), snare=(4, 12), hat=(0, 4, 6, 8, 12, 14), hat_sound=RIDE),  # swing
    Groove(kick=(0, 8), snare=(4, 12), hat=(0, 4, 8, 12), snare_sound=SIDE_STICK),  # ballad
    Groove(kick=(0, 6, 11), snare=(4, 9, 12), hat=tuple(range(16))),  # funk
    Groove(kick=(0, 3, 8, 11), snare=(3, 6, 10), hat=tuple(range(0, 16, 2)), snare_sound=SIDE_STICK),  # latin
)


def drum_bar(
    rng: np.random.Generator, groove: Groove, start: float, *, first: bool, fill: bool, swing: float
) -> Iterator[Note]:
    """Yield a bar of drums.

    Parameters
    ----------
    start
        Of the bar, in beats.
    first
        A cymbal opens the section.
    fill
        Toms end it.
    swing
        How late every second sixteenth is, as a part of a sixteenth.
    """

    def struck(step: int, sound: int, velocity: float) -> Note:
        late = swing if step % 2 else 0.0
        at = start + (step + late) * BAR / _STEPS + float(rng.normal(0, 0.006))
        loud = int(np.clip(velocity + rng.normal(0, 6), 20, 127))
        return Note(start=max(start, at), length=0.2, pitch=sound, velocity=loud)

    last = 12 if fill else _STEPS
    beats = [(step, KICK, 108) for step in groove.kick]
    beats += [(step, groove.snare_sound, 104) for step in groove.snare]
    beats += [(step, groove.hat_sound, 84 if step % 4 == 0 else 64) for step in groove.hat]
    yield from (struck(*beat) for beat in beats if beat[0] < last)
    if rng.random() < 0.3:
        yield struck(int(rng.choice((7, 9, 15))) % last, SNARE, 38)
    if first:
        yield struck(0, CRASH, 100)
    if fill:
        order = sorted(rng.choice(len(TOMS), 4, replace=True))
        for step, tom in enumerate(order):
            yield struck(12 + step, TOMS[int(tom)], 96)


# Basses: steps of a sixteenth, length in sixteenths, semitones above the chord's root.
BASS_LINES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    tuple((step, 2, 0) for step in range(0, 16, 2)),
    ((0, 8, 0), (8, 6, 0), (14, 2, 7)),
    ((0, 3, 0), (4, 2, 0), (6, 2, 12), (8, 3, 0), (12, 2, 7), (14, 2, 12)),
    ((0, 16, 0),),
    ((0, 4, 0), (4, 4, 7), (8, 4, 12), (12, 4, 7)),
    ((2, 2, 0), (6, 2, 0), (10, 2, 0), (14, 2, 0)),
    ((0, 3, 0), (3, 3, 0), (6, 4, 0), (10, 3, 7), (13, 3, 0)),
    ((0, 2, 0), (3, 1, 0), (6, 2, 12), (10, 2, 0), (12, 2, 10), (14, 2, 7)),
)


def bass_bar(
    rng: np.random.Generator, line: tuple[tuple[int, int, int], ...], root: int, start: float
) -> Iterator[Note]:
    """Yield a bar of bass over a chord whose root is `root`."""
    for step, length, above in line:
        yield Note(
            start=start + step * BAR / _STEPS,
            length=length * BAR / _STEPS * 0.92,
            pitch=root + above,
            velocity=int(np.clip(98 + rng.normal(0, 6), 40, 127)),
        )
