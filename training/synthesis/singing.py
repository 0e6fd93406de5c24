"""Singing made of speech: its syllables stretched and re-pitched onto a melody.

Grains of two periods are moved to where the melody's periods are, which keeps the vowels' formants where the
speaker had them.

References
----------
E. Moulines, F. Charpentier, "Pitch-synchronous waveform processing techniques for text-to-speech synthesis
using diphones", Speech Communication 9, 1990. P. Boersma, "Accurate short-term analysis of the fundamental
frequency and the harmonics-to-noise ratio of a sampled sound", IFA Proceedings 17, 1993.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.training.synthesis.scores import Note

HOP_S = 0.01
_WINDOW_S = 0.04
_RANGE_HZ = (75.0, 600.0)
_VOICED = 0.5  # of the normalised autocorrelation
_QUIET = 0.03  # of the loudest frame's amplitude
_OCTAVE_COST = 0.02
_SHORTEST_S, _LONGEST_S = 0.08, 0.45
_CONSONANT_S = 0.07


@dataclass(frozen=True, kw_only=True)
class Syllable:
    """A stretch of voice: first and last sample of the voiced part, and where its consonant begins."""

    consonant: int
    start: int
    end: int


def pitch_track(samples: FloatArray, sample_rate: int) -> FloatArray:
    """Return the pitch in Hz of frames of 10 ms, 0 where none is heard, shape=(frames,).

    Parameters
    ----------
    samples
        One channel, shape=(n,).
    """
    size, hop = round(_WINDOW_S * sample_rate), round(HOP_S * sample_rate)
    count = max(1, -(-len(samples) // hop))
    padded = np.pad(samples.astype(np.float64), (size // 2, size + count * hop - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: count * hop : hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    window = np.hanning(size)
    length = 1 << (2 * size - 1).bit_length()
    shape = np.fft.irfft(np.abs(np.fft.rfft(window, length)) ** 2)[:size]
    spectra = np.fft.rfft(frames * window, length, axis=1)
    likeness = np.fft.irfft(np.abs(spectra) ** 2, axis=1)[:, :size]
    loud = np.sqrt(likeness[:, 0])
    first, last = (
        round(sample_rate / _RANGE_HZ[1]),
        min(round(sample_rate / _RANGE_HZ[0]), size // 2 + size // 4),
    )
    normal = likeness[:, first:last] / np.maximum(likeness[:, :1], 1e-12) / (shape[first:last] / shape[0])
    lags = np.arange(first, last)
    score = normal - _OCTAVE_COST * np.log2(lags / first)  # of equal peaks the shorter period
    best = score.argmax(axis=1)
    heard = (normal[np.arange(count), best] > _VOICED) & (loud > _QUIET * loud.max())
    pitch: FloatArray = np.where(heard, sample_rate / (lags[best] + _between(normal, best)), 0).astype(
        np.float32
    )
    return pitch


def _between(rows: npt.NDArray[np.float64], best: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return how far a parabola's peak is from the largest value of each row, in -0.5..0.5."""
    at = np.clip(best, 1, rows.shape[1] - 2)
    left, middle, right = (np.take_along_axis(rows, (at + by)[:, None], axis=1)[:, 0] for by in (-1, 0, 1))
    curve = left - 2 * middle + right
    offset = (left - right) / (2 * np.where(curve < 0, curve, -np.inf))
    between: npt.NDArray[np.float64] = np.where(at == best, np.clip(offset, -0.5, 0.5), 0.0)
    return between


def syllables(samples: FloatArray, pitch: FloatArray, sample_rate: int) -> tuple[Syllable, ...]:
    """Find the voiced stretches of 0.08 s or more; long ones are cut to pieces of 0.45 s."""
    hop = round(HOP_S * sample_rate)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (pitch > 0).astype(np.int8), [0]])))
    found: list[Syllable] = []
    before = 0
    for first, last in edges.reshape(-1, 2):
        start, end = int(first) * hop, min(int(last) * hop, len(samples))
        consonant = max(before, start - round(_CONSONANT_S * sample_rate))
        while end - start >= _SHORTEST_S * sample_rate:
            stop = min(end, start + round(_LONGEST_S * sample_rate))
            found.append(Syllable(consonant=consonant, start=start, end=stop))
            start = consonant = stop
        before = end
    return tuple(found)


def sing(
    rng: np.random.Generator,
    speech: FloatArray,
    notes: Sequence[Note],
    *,
    frames: int,
    sample_rate: int,
    cents: float = 0.0,
) -> FloatArray:
    """Sing a melody with someone's speech.

    Parameters
    ----------
    rng
        Draws what singers do not do twice alike: vibrato, onset, where the speech begins.
    speech
        One channel, shape=(n,).
    notes
        Starts and lengths in seconds; the melody is moved by octaves to suit the voice.
    frames
        Length of the result.
    sample_rate
        Of speech and result.
    cents
        By how much all notes are off.

    Returns
    -------
    FloatArray
        shape=(frames,), silence where the speech has no voice at all.
    """
    out = np.zeros(frames, np.float32)
    pitch = pitch_track(speech, sample_rate)
    material = syllables(speech, pitch, sample_rate)
    if not material or not notes:
        return out
    octaves = _octaves(notes, pitch)
    place = int(rng.integers(len(material)))
    for note in notes:
        syllable = material[place % len(material)]
        place += 1
        hz = 440 * 2 ** ((note.pitch + 12 * octaves - 69) / 12 + cents / 1200)
        late = float(rng.normal(0, 0.012))
        start = round(max(0.0, note.start + late) * sample_rate)
        length = max(1, round(note.length * sample_rate))
        _put(
            out,
            speech[syllable.consonant : syllable.start] * 0.8,
            start - (syllable.start - syllable.consonant),
        )
        curve = _intonation(rng, hz, length, sample_rate)
        voiced = _voiced(speech, pitch, syllable, curve, sample_rate)
        _put(out, voiced * np.float32(note.velocity / 100), start)
    return out


def _octaves(notes: Sequence[Note], pitch: FloatArray) -> int:
    """Return by how many octaves the melody is moved, so that it lies a little above the speaking voice."""
    spoken = 69 + 12 * np.log2(float(np.median(pitch[pitch > 0])) / 440)
    sung = float(np.mean([note.pitch for note in notes]))
    octaves: int = round((spoken + 5 - sung) / 12)
    return octaves


def _intonation(
    rng: np.random.Generator, hz: float, length: int, sample_rate: int
) -> npt.NDArray[np.float64]:
    """Pitch of a note over time: a short slide up to it, then vibrato that grows, shape=(length,)."""
    time = np.arange(length) / sample_rate
    slide = -float(abs(rng.normal(0, 60))) * np.exp(-time / 0.04)
    depth = float(rng.uniform(0, 45)) * np.clip((time - 0.2) / 0.4, 0, 1)
    vibrato = depth * np.sin(2 * np.pi * float(rng.uniform(4.8, 6.4)) * time + float(rng.uniform(0, 6.28)))
    curve: npt.NDArray[np.float64] = hz * 2 ** ((slide + vibrato) / 1200)
    return curve


def _voiced(
    speech: FloatArray,
    pitch: FloatArray,
    syllable: Syllable,
    curve: npt.NDArray[np.float64],
    sample_rate: int,
) -> FloatArray:
    """Stretch a syllable's voice to the length of a curve of pitch, and give it that pitch."""
    marks, periods = _marks(speech, pitch, syllable, sample_rate)
    length = len(curve)
    out = np.zeros(length + 2 * int(periods.max()) + 2, np.float32)
    offset = int(periods.max())
    at = 0.0
    scale = (syllable.end - syllable.start) / length
    while at < length:
        source = syllable.start + at * scale
        nearest = int(np.argmin(np.abs(marks - source)))
        mark, period = int(marks[nearest]), int(periods[nearest])
        target = sample_rate / float(curve[int(at)])
        first, last = max(0, mark - period), min(len(speech), mark + period)
        window = np.hanning(2 * period + 1)[first - mark + period : last - mark + period]
        grain = speech[first:last] * (window * min(2.0, target / period)).astype(np.float32)
        begin = offset + round(at) - (mark - first)
        out[begin : begin + len(grain)] += grain[: len(out) - begin]
        at += target
    out = out[offset : offset + length]
    fade_in, fade_out = (min(length // 3, round(s * sample_rate)) for s in (0.012, 0.05))
    out[:fade_in] *= np.linspace(0, 1, fade_in, dtype=np.float32)
    out[length - fade_out :] *= np.linspace(1, 0, fade_out, dtype=np.float32)
    return out


def _marks(
    speech: FloatArray, pitch: FloatArray, syllable: Syllable, sample_rate: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return one place in each period of a syllable, at its peak, and the periods."""
    hop = round(HOP_S * sample_rate)
    marks: list[int] = []
    periods: list[int] = []
    place = syllable.start
    while place < syllable.end:
        hz = float(pitch[min(place // hop, len(pitch) - 1)]) or sample_rate / (
            periods[-1] if periods else 100
        )
        period = max(2, round(sample_rate / hz))
        reach = period if not marks else period // 5
        first = max(0, place - (0 if not marks else reach))
        window = speech[first : place + reach + 1]
        mark = first + int(np.argmax(window)) if len(window) else place
        if marks and mark <= marks[-1]:
            mark = marks[-1] + period
        marks.append(mark)
        periods.append(period)
        place = mark + period
    return np.array(marks), np.array(periods)


def _put(out: FloatArray, piece: FloatArray, start: int) -> None:
    """Add a piece where it falls inside."""
    first, last = max(0, start), min(len(out), start + len(piece))
    if last > first:
        out[first:last] += piece[first - start : last - start]
