import csv

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from stemwright.core.arrays import FloatArray
from stemwright.training.synthesis.scores import Note
from stemwright.training.synthesis.singing import pitch_track, sing, syllables
from tests.support.paths import shared

RATE = 16000


def _vowel(hz: float, seconds: float, formants: tuple[float, ...] = (700.0, 1200.0)) -> FloatArray:
    """Harmonics through two resonances."""
    time = np.arange(round(seconds * RATE)) / RATE
    pulses = sum(np.cos(2 * np.pi * hz * n * time) for n in range(1, int(7000 / hz)))
    for centre in formants:
        pole = 0.97 * np.exp(2j * np.pi * centre / RATE)
        pulses = lfilter([1.0], [1, -2 * pole.real, abs(pole) ** 2], pulses)
    voice: FloatArray = (0.3 * pulses / np.abs(pulses).max()).astype(np.float32)
    return voice


def _speech(hz: float = 120.0) -> FloatArray:
    pause = np.zeros(round(0.1 * RATE), np.float32)
    return np.concatenate([part for _ in range(6) for part in (_vowel(hz, 0.3), pause)])


@pytest.mark.parametrize("hz", [90.0, 123.4, 220.0, 440.0])
def test_the_pitch_of_a_vowel_is_found(hz: float) -> None:
    pitch = pitch_track(_vowel(hz, 0.6), RATE)[5:-6]
    assert (pitch > 0).all()
    np.testing.assert_allclose(pitch, hz, rtol=0.003)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert (pitch_track(noise, RATE) > 0).mean() < 0.03
    assert not pitch_track(np.zeros(RATE, np.float32), RATE).any()


@pytest.mark.slow
def test_the_pitch_of_a_singer_agrees_with_annotations() -> None:
    folder = shared("data", "singing_solo")
    samples, rate = soundfile.read(folder / "vocadito_1.flac", dtype="float32")
    text = (folder / "vocadito_1_f0.csv").read_text()
    rows = [tuple(map(float, row)) for row in csv.reader(text.splitlines())]
    times, truth = (np.array(column) for column in zip(*rows, strict=True))
    pitch = pitch_track(samples, rate)
    wanted = truth[np.clip(np.searchsorted(times, np.arange(len(pitch)) * 0.01), 0, len(truth) - 1)]
    both = (pitch > 0) & (wanted > 0)
    cents = np.abs(1200 * np.log2(pitch[both] / wanted[both]))
    assert (cents < 50).mean() > 0.97
    assert ((pitch > 0) == (wanted > 0)).mean() > 0.9


def test_syllables_are_the_voiced_parts() -> None:
    speech = _speech()
    found = syllables(speech, pitch_track(speech, RATE), RATE)
    assert len(found) == 6
    for number, one in enumerate(found):
        assert one.start == pytest.approx(number * 0.4 * RATE, abs=0.03 * RATE)
        assert one.end - one.start == pytest.approx(0.3 * RATE, abs=0.06 * RATE)
        assert one.consonant <= one.start


def test_a_melody_is_sung_in_tune_and_in_time_with_the_speakers_formants() -> None:
    notes = [Note(start=0.2 + 0.6 * n, length=0.5, pitch=p) for n, p in enumerate((48, 50, 52, 55))]
    song = sing(np.random.default_rng(0), _speech(), notes, frames=3 * RATE, sample_rate=RATE)
    assert song.shape == (3 * RATE,)
    pitch = pitch_track(song, RATE)
    for note in notes:
        held = pitch[round((note.start + 0.2) * 100) : round((note.start + 0.42) * 100)]
        wanted = 440 * 2 ** ((note.pitch - 69) / 12)
        assert abs(1200 * np.log2(np.median(held[held > 0]) / wanted)) < 50
        before = song[round((note.start - 0.06) * RATE) : round((note.start - 0.05) * RATE)]
        assert np.abs(before).max() < 0.2 * np.abs(song).max()
    # The vowel's resonance stays at 700 Hz, where resampling would have moved it with the pitch.
    spectrum = np.abs(np.fft.rfft(song)) ** 2
    hz = np.fft.rfftfreq(len(song), 1 / RATE)
    band = [spectrum[(hz > low) & (hz < low + 300)].sum() for low in (550, 850, 1500)]
    assert band[0] > band[1] > band[2]


def test_melodies_move_to_the_voices_octave() -> None:
    notes = [Note(start=0.1, length=1.0, pitch=84)]
    song = sing(np.random.default_rng(0), _speech(110), notes, frames=2 * RATE, sample_rate=RATE)
    pitch = pitch_track(song, RATE)[40:100]
    assert np.median(pitch[pitch > 0]) == pytest.approx(130.8, rel=0.03)  # C3


def test_the_same_draws_sing_alike_and_others_do_not() -> None:
    notes = [Note(start=0.1, length=1.0, pitch=50)]
    takes = [
        sing(np.random.default_rng(seed), _speech(), notes, frames=2 * RATE, sample_rate=RATE)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(takes[0], takes[1])
    assert not np.array_equal(takes[0], takes[2])


def test_what_has_no_voice_sings_nothing() -> None:
    rng = np.random.default_rng(0)
    notes = [Note(start=0, length=1, pitch=60)]
    for speech in (np.zeros(RATE, np.float32), rng.standard_normal(100).astype(np.float32) * 0):
        assert not sing(rng, speech, notes, frames=RATE, sample_rate=RATE).any()
    assert not sing(rng, _speech(), [], frames=RATE, sample_rate=RATE).any()


def test_notes_beyond_the_end_are_cut() -> None:
    notes = [Note(start=0.9, length=5, pitch=50), Note(start=7, length=1, pitch=50)]
    song = sing(np.random.default_rng(0), _speech(), notes, frames=RATE, sample_rate=RATE)
    assert song.shape == (RATE,) and np.isfinite(song).all()
