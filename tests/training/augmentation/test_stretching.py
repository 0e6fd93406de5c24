import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.training.augmentation.repitching import RepitchDraw, RepitchRules, apply_repitch, draw_repitch
from stemwright.training.augmentation.stretching import repitched, resampled_by, stretched

RATE = 16000


def _tone(hz: float, seconds: float = 2.0) -> FloatArray:
    samples = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([samples, -samples]).astype(np.float32)


def _spectrum(samples: FloatArray) -> tuple[float, float]:
    """Frequency of the strongest part, and how far it stands above all else in dB."""
    middle = samples[0, RATE // 4 : -RATE // 4].astype(np.float64)
    size = 1 << 19
    power = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), size)) ** 2
    peak = int(power.argmax())
    near = 8 * size // len(middle)
    inside = power[max(0, peak - near) : peak + near + 1].sum()
    return peak * RATE / size, 10 * np.log10(inside / (power.sum() - inside))


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.07, 1.3])
@pytest.mark.parametrize("voice", [False, True])
def test_a_stretched_tone_keeps_its_pitch(factor: float, voice: bool) -> None:
    tone = _tone(440)
    longer = stretched(tone, factor, RATE, voice=voice)
    assert longer.shape == (2, round(tone.shape[1] * factor))
    hz, clean_db = _spectrum(longer)
    assert hz == pytest.approx(440, rel=3e-4)
    assert clean_db > 30
    np.testing.assert_allclose(longer[0], -longer[1])  # the channels stay together


def test_a_stretched_rhythm_has_its_beats_where_they_belong() -> None:
    beats = np.zeros((1, 4 * RATE), np.float32)
    noise = np.random.default_rng(0).standard_normal(400).astype(np.float32) * np.exp(-np.arange(400) / 80)
    for place in range(0, 4 * RATE, RATE // 2):
        beats[0, place : place + 400] = noise
    for factor in (0.9, 1.12):
        out = np.abs(stretched(beats, factor, RATE)[0])
        for beat in range(1, 7):
            at = round(beat * RATE / 2 * factor)
            near = out[at - RATE // 8 : at + RATE // 8]
            assert abs(int(near.argmax()) - RATE // 8) < 0.02 * RATE


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0 ** (1 / 12), 2.0])
def test_speed_changes_pitch_and_length(factor: float) -> None:
    out = resampled_by(_tone(440), factor)
    assert out.shape[1] == pytest.approx(2 * RATE / factor, rel=1e-3)
    hz, clean_db = _spectrum(out)
    assert hz == pytest.approx(440 * factor, rel=5e-4)
    assert clean_db > 60
    assert np.abs(out[0, 1000:-1000]).max() == pytest.approx(0.5, rel=2e-3)


def test_speeding_up_lets_nothing_alias() -> None:
    out = resampled_by(_tone(7800), 1.2)
    assert np.abs(out[0, 1000:-1000]).max() < 5e-3  # 9360 Hz would fold back to 6640 Hz


@pytest.mark.parametrize(("semitones", "tempo"), [(0, 1.1), (2, 1.0), (-2, 0.88), (1, 1.12)])
def test_pitch_and_tempo_change_each_by_itself(semitones: int, tempo: float) -> None:
    tone = _tone(440)
    out = repitched(tone, semitones=semitones, tempo=tempo, sample_rate=RATE)
    assert out.shape[1] == round(tone.shape[1] / tempo)
    hz, clean_db = _spectrum(out)
    assert hz == pytest.approx(440 * 2 ** (semitones / 12), rel=5e-4)
    assert clean_db > 30


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(0, 3000), factor=st.floats(0.5, 2), channels=st.integers(1, 2))
def test_lengths_are_exact_whatever_they_are(frames: int, factor: float, channels: int) -> None:
    samples = np.random.default_rng(frames).standard_normal((channels, frames)).astype(np.float32)
    out = stretched(samples, factor, 8000)
    assert out.shape == (channels, round(frames * factor))
    assert np.isfinite(out).all()
    assert not np.any(stretched(np.zeros_like(samples), factor, 8000))


def test_draws_of_pitch_and_tempo_are_the_papers() -> None:
    rules = RepitchRules()
    drawn = [draw_repitch(rules, seed=0, step=step, index=3) for step in range(3000)]
    changed = [one for one in drawn if one != RepitchDraw()]
    assert 0.17 < len(changed) / len(drawn) < 0.23
    assert {one.semitones for one in changed} == {-2, -1, 0, 1, 2}
    tempos = np.array([one.tempo for one in changed])
    assert 0.88 <= tempos.min() and tempos.max() <= 1.12
    assert tempos.std() == pytest.approx(0.05, rel=0.1)
    assert drawn[7] == draw_repitch(rules, seed=0, step=7, index=3)


@pytest.mark.parametrize(
    "draw", [RepitchDraw(), RepitchDraw(semitones=2, tempo=1.12), RepitchDraw(tempo=0.88)]
)
def test_examples_keep_their_length_and_end_in_sound(draw: RepitchDraw) -> None:
    length = 20000
    tone = _tone(440)[:, : RepitchRules().samples_needed(length)]
    out = apply_repitch(tone, draw, sample_rate=RATE, length=length)
    assert out.shape == (2, length)
    assert np.abs(out[0, -200:]).max() > 0.3
