import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import sosfreqz

from stemwright.core.arrays import FloatArray
from stemwright.training.synthesis import effects
from stemwright.training.synthesis.effects import Band, Compressor, Room, Treatment, treated

RATE = 44100


def _noise(seconds: float = 1.0, gain: float = 0.1) -> FloatArray:
    return (gain * np.random.default_rng(0).standard_normal((2, round(seconds * RATE)))).astype(np.float32)


def _db(samples: FloatArray) -> float:
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean()))


@pytest.mark.parametrize("gain_db", [-9.0, 6.0])
def test_bands_lift_what_they_say(gain_db: float) -> None:
    for kind, inside, outside in (("low", 1.0, 20000.0), ("peak", 1000.0, 20.0), ("high", 20000.0, 10.0)):
        section = effects._section(Band(kind=kind, hz=1000, gain_db=gain_db, q=1.0), RATE)  # type: ignore[arg-type]
        _, response = sosfreqz(section[None], worN=[inside, outside], fs=RATE)
        level = 20 * np.log10(np.abs(response))
        assert level[0] == pytest.approx(gain_db, abs=0.05)
        assert level[1] == pytest.approx(0, abs=0.1)


def test_bands_beyond_the_rate_are_left_out() -> None:
    noise = _noise()
    np.testing.assert_array_equal(
        effects.equalised(noise, (Band(kind="high", hz=9000, gain_db=6),), 16000), noise
    )


def test_levels_above_the_threshold_rise_by_the_ratio() -> None:
    rule = Compressor(threshold_db=-30, ratio=4)
    for level_db in (-40.0, -20.0, -10.0):
        tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE) * np.sqrt(2) * 10 ** (level_db / 20)
        out = effects.compressed(np.stack([tone, tone]).astype(np.float32), rule, RATE)
        wanted = level_db if level_db < -30 else -30 + (level_db + 30) / 4
        assert _db(out[:, RATE // 2 :]) == pytest.approx(wanted, abs=0.2)


def test_a_rooms_sound_decays_in_its_time() -> None:
    room = Room(decay_s=1.0, size_m=8, wet_db=-10, damping_hz=20000, seed=3)
    response = effects.room_response(room, RATE)
    assert np.square(response).sum() == pytest.approx(2, rel=1e-3)  # two ears
    left = np.cumsum(np.square(response[:, ::-1]).sum(axis=0))[::-1]  # Schroeder's integral
    level = 10 * np.log10(left / left[0])
    first, last = np.argmax(level < -5), np.argmax(level < -25)
    assert 3 * (last - first) / RATE == pytest.approx(1.0, rel=0.15)


def test_a_room_adds_what_it_says() -> None:
    noise = _noise(2.0)
    room = Room(decay_s=0.3, size_m=5, wet_db=-12, damping_hz=8000, seed=1)
    assert _db(effects.in_room(noise, room, RATE) - noise) == pytest.approx(_db(noise) - 12, abs=1.0)


def test_codecs_keep_place_and_length() -> None:
    time = np.arange(2 * RATE) / RATE
    chirp = (0.3 * np.sin(2 * np.pi * (200 + 800 * time) * time)).astype(np.float32)
    samples = np.stack([chirp, 0.5 * chirp])
    out = effects.coded(samples, 192, RATE)
    assert out.shape == samples.shape
    middle = slice(4096, -4096)
    assert _db(out[:, middle] - samples[:, middle]) < _db(samples) - 20
    low = effects.coded(_noise(1.0)[:, :16000], 192, 16000)
    assert low.shape == (2, 16000)


def test_width_scales_the_difference_of_the_channels() -> None:
    noise = _noise()
    np.testing.assert_allclose(treated(noise, Treatment(), RATE), noise, atol=1e-6)
    mono = treated(noise, Treatment(width=0.0), RATE)
    np.testing.assert_allclose(mono[0], mono[1], atol=1e-7)
    np.testing.assert_allclose(mono.mean(axis=0), noise.mean(axis=0), atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_drawn_chains_are_finite_and_keep_silence_and_length(seed: int) -> None:
    treatment = effects.draw_treatment(np.random.default_rng(seed), codec_share=0.0)
    assert treatment == effects.draw_treatment(np.random.default_rng(seed), codec_share=0.0)
    samples = _noise(0.3)
    out = treated(samples, treatment, RATE)
    assert out.shape == samples.shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert not treated(np.zeros_like(samples), treatment, RATE).any()
