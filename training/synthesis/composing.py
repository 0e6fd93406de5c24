"""Songs by rule: key, tempo, sections with chords, and what each instrument makes of them.

They need not be good: they need drums, basses, chords and melodies that belong together in time and in key,
as in songs, and no two alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stemwright.training.data import draws
from stemwright.training.synthesis.rhythm import BAR, BASS_LINES, GROOVES, bass_bar, drum_bar
from stemwright.training.synthesis.scores import Note, Part, Score

_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
# Degrees of the scale from 0, a bar each.
_PROGRESSIONS: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {
    _MAJOR: (
        (0, 4, 5, 3),
        (5, 3, 0, 4),
        (0, 5, 3, 4),
        (1, 4, 0, 0),
        (0, 3, 4, 3),
        (3, 0, 4, 5),
        (0, 2, 3, 4),
    ),
    _MINOR: ((0, 5, 2, 6), (0, 3, 6, 2), (0, 6, 5, 6), (0, 3, 0, 4), (5, 6, 0, 0), (0, 2, 6, 3)),
}
_TEMPOS = (68.0, 172.0)
_DRUM_KITS = (0, 0, 8, 16, 24, 25, 32, 40)
_BASSES = (32, 33, 33, 34, 35, 36, 38, 39)
_CHORDAL = (0, 1, 4, 5, 16, 19, 24, 25, 27, 28, 29, 30, 48, 50, 61, 62, 81, 88, 89, 90, 91)
_SUSTAINED = frozenset((16, 19, 48, 50, 61, 62, 88, 89, 90, 91))
_LEADS = (11, 12, 22, 26, 40, 56, 65, 66, 68, 71, 73, 80, 81, 84, 87)
_SECTION_BARS = (4, 8)
_SUNG_ANYWAY = 0.9  # of the songs that would be instrumental


@dataclass(frozen=True, kw_only=True)
class _Section:
    """Some bars of one kind: who plays, the degrees of the chords, and how."""

    bars: int
    degrees: tuple[int, ...]
    drums: bool
    bass: bool
    chords: tuple[bool, ...]
    lead: bool
    sung: bool
    groove: int
    bass_line: int


def compose(seed: int, song: int, seconds: float) -> Score:
    """Compose a song.

    Parameters
    ----------
    seed, song
        The set's seed, and the number of the song in it.
    seconds
        About how long it is: rounded up to whole bars.
    """
    rng = draws.generator(seed, "compose", song)
    tempo = float(np.round(rng.uniform(*_TEMPOS), 1))
    scale = _MAJOR if rng.random() < 0.55 else _MINOR
    key = int(rng.integers(12))
    bars = max(1, int(np.ceil(seconds * tempo / 60 / BAR)))
    chordal = [int(p) for p in rng.choice(_CHORDAL, int(rng.integers(1, 4)), replace=False)]
    sections = list(_sections(rng, scale, bars, len(chordal)))
    if not any(section.sung for section in sections) and rng.random() < _SUNG_ANYWAY:
        sections[0] = replace(sections[0], sung=True)
    parts = [
        Part(
            stem="drums",
            program=int(rng.choice(_DRUM_KITS)),
            notes=_sorted(_drums(rng, sections)),
            volume=110,
        ),
        Part(stem="bass", program=int(rng.choice(_BASSES)), notes=_sorted(_bass(rng, sections, scale, key))),
    ]
    for number, program in enumerate(chordal):
        notes = _sorted(_chords(rng, sections, scale, key, number, sustained=program in _SUSTAINED))
        parts.append(
            Part(stem="other", program=program, notes=notes, volume=int(rng.integers(65, 100)), pan=_pan(rng))
        )
    lead = _sorted(_melody(rng, [one.lead for one in sections], sections, scale, key, middle=72))
    parts.append(Part(stem="other", program=int(rng.choice(_LEADS)), notes=lead, volume=90, pan=_pan(rng)))
    low = bool(rng.random() < 0.5)
    melody = _melody(rng, [one.sung for one in sections], sections, scale, key, middle=55 if low else 66)
    return Score(
        tempo=tempo, beats=bars * BAR, parts=tuple(p for p in parts if p.notes), melody=_sorted(melody)
    )


def _sections(
    rng: np.random.Generator, scale: tuple[int, ...], bars: int, chordal: int
) -> Iterator[_Section]:
    progressions = _PROGRESSIONS[scale]
    kinds = [
        (
            progressions[int(rng.integers(len(progressions)))],
            int(rng.integers(len(GROOVES))),
            int(rng.integers(len(BASS_LINES))),
        )
        for _ in range(3)
    ]
    place = 0
    while place < bars:
        length = min(int(rng.choice(_SECTION_BARS)), bars - place)
        degrees, groove, line = kinds[int(rng.integers(3))]
        chords = tuple(bool(flag) for flag in rng.random(chordal) < 0.75)
        sung = bool(rng.random() < 0.7)
        yield _Section(
            bars=length,
            degrees=degrees,
            drums=bool(rng.random() < 0.87),
            bass=bool(rng.random() < 0.87),
            chords=chords if any(chords) else (True,) * chordal,
            lead=bool(rng.random() < (0.15 if sung else 0.6)),
            sung=sung,
            groove=groove,
            bass_line=line,
        )
        place += length


def _drums(rng: np.random.Generator, sections: list[_Section]) -> Iterator[Note]:
    swing = float(rng.choice((0.0, 0.0, 0.0, 0.33)))
    for section, bar, start in _bars(sections):
        if section.drums:
            yield from drum_bar(
                rng,
                GROOVES[section.groove],
                start,
                first=bar == 0,
                fill=bar == section.bars - 1 and rng.random() < 0.7,
                swing=swing,
            )


def _bass(
    rng: np.random.Generator, sections: list[_Section], scale: tuple[int, ...], key: int
) -> Iterator[Note]:
    for section, bar, start in _bars(sections):
        if section.bass:
            root = _pitch(scale, key, section.degrees[bar % len(section.degrees)], 28)
            yield from bass_bar(rng, BASS_LINES[section.bass_line], root, start)


def _chords(
    rng: np.random.Generator,
    sections: list[_Section],
    scale: tuple[int, ...],
    key: int,
    number: int,
    *,
    sustained: bool,
) -> Iterator[Note]:
    """Yield the chords of one instrument: held, struck, or broken."""
    patterns = (
        ((0.0,),) if sustained else ((0.0, 2.0), (0.0, 1.5, 3.0), (0.0, 1.0, 2.0, 3.0), (0.5, 1.5, 2.5, 3.5))
    )
    pattern = patterns[int(rng.integers(len(patterns)))]
    broken = not sustained and rng.random() < 0.35
    lowest = int(rng.choice((48, 52, 57)))
    for section, bar, start in _bars(sections):
        if not section.chords[number]:
            continue
        degree = section.degrees[bar % len(section.degrees)]
        tones = sorted(_pitch(scale, key, degree + third, lowest) for third in (0, 2, 4))
        velocity = int(np.clip(rng.normal(84, 5), 40, 120))
        if broken:
            for step in range(8):
                tone = tones[(step * 2) % 3] + (12 if step % 4 == 3 else 0)
                yield Note(start=start + step / 2, length=0.5, pitch=tone, velocity=velocity)
            continue
        for place, at in enumerate(pattern):
            until = pattern[place + 1] if place + 1 < len(pattern) else BAR
            for late, tone in enumerate(tones):
                yield Note(
                    start=start + at + 0.02 * late,
                    length=(until - at) * (0.98 if sustained else 0.8),
                    pitch=tone,
                    velocity=velocity,
                )


def _melody(
    rng: np.random.Generator,
    plays: list[bool],
    sections: list[_Section],
    scale: tuple[int, ...],
    key: int,
    *,
    middle: int,
) -> Iterator[Note]:
    """Yield a melody that walks the scale in phrases of two bars, on the chord's tones where a bar begins."""
    lengths = (
        (1.0, 0.5, 0.5, 1.0),
        (0.5, 0.5, 1.0, 2.0),
        (1.5, 0.5, 1.0, 1.0),
        (2.0, 1.0, 0.5, 0.5),
        (0.5,) * 6,
    )
    step = int(rng.integers(-3, 4))
    playing = iter(plays)
    on = False
    for section, bar, start in _bars(sections):
        if bar == 0:
            on = next(playing)
        if not on or (bar % 2 == 1 and rng.random() < 0.25):
            continue
        degree = section.degrees[bar % len(section.degrees)]
        step = degree + 7 * round((step - degree) / 7) + int(rng.choice((0, 2, 4)))
        at = float(rng.choice((0.0, 0.0, 0.5)))
        for length in lengths[int(rng.integers(len(lengths)))]:
            held = min(length, BAR - at - (0.5 if bar % 2 else 0.0))
            if held <= 0.2:
                break
            step = int(np.clip(step, -5, 7))
            yield Note(
                start=start + at,
                length=held * 0.95,
                pitch=_scale_pitch(scale, key, step, middle),
                velocity=int(np.clip(rng.normal(92, 6), 50, 120)),
            )
            at += length
            step += int(rng.choice((-2, -1, -1, 0, 1, 1, 2)))


def _bars(sections: list[_Section]) -> Iterator[tuple[_Section, int, float]]:
    """Yield each bar with its section, its number there and its start in beats."""
    start = 0.0
    for section in sections:
        for bar in range(section.bars):
            yield section, bar, start
            start += BAR


def _pitch(scale: tuple[int, ...], key: int, degree: int, lowest: int) -> int:
    """Return the lowest pitch from `lowest` on that is a degree of the scale."""
    tone = (key + scale[degree % 7]) % 12
    return lowest + (tone - lowest) % 12


def _scale_pitch(scale: tuple[int, ...], key: int, step: int, middle: int) -> int:
    """Return a step of the scale, counted from the key's tone that is nearest to `middle`."""
    base = middle + (key - middle + 6) % 12 - 6
    return base + 12 * (step // 7) + scale[step % 7]


def _pan(rng: np.random.Generator) -> int:
    return int(np.clip(64 + rng.normal(0, 28), 0, 127))


def _sorted(notes: Iterator[Note]) -> tuple[Note, ...]:
    return tuple(sorted(notes, key=lambda note: (note.start, note.pitch)))
