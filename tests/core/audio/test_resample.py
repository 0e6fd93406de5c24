import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import Resampler, resampled, resampled_length

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44056, 44100, 48000, 88200, 96000, 192000]


def noise(frames: int, channels: int = 2) -> FloatArray:
    return np.random.default_rng(frames).standard_normal((channels, frames)).astype(np.float32)


def run(samples: FloatArray, in_rate: int, out_rate: int, block: int) -> FloatArray:
    resampler = Resampler(in_rate, out_rate, samples.shape[0])
    parts = [resampler.push(samples[:, start : start + block]) for start in range(0, samples.shape[1], block)]
    return np.concatenate([*parts, resampler.flush()], axis=1)


@given(frames=st.integers(0, 10**12), in_rate=st.sampled_from(RATES), out_rate=st.sampled_from(RATES))
def test_length_is_rounded_half_up(frames: int, in_rate: int, out_rate: int) -> None:
    exact = resampled_length(frames, in_rate, out_rate)
    assert 2 * exact * in_rate <= 2 * frames * out_rate + in_rate < 2 * (exact + 1) * in_rate


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 6000),
    block=st.integers(1, 3000),
    in_rate=st.sampled_from(RATES),
    out_rate=st.sampled_from(RATES),
)
def test_stream_equals_whole_whatever_the_blocks(
    frames: int, block: int, in_rate: int, out_rate: int
) -> None:
    samples = noise(frames)
    got = run(samples, in_rate, out_rate, block)
    assert got.shape == (2, resampled_length(frames, in_rate, out_rate))
    assert got.dtype == np.float32
    whole = soxr.resample(samples.T, in_rate, out_rate, quality="HQ").T if in_rate != out_rate else samples
    shared = min(whole.shape[1], got.shape[1])
    assert got.shape[1] - shared <= 1
    np.testing.assert_allclose(got[:, :shared], whole[:, :shared], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 20_000), rate=st.sampled_from([r for r in RATES if r <= 44_100]))
def test_round_trip_over_a_higher_rate_keeps_the_length(frames: int, rate: int) -> None:
    there = run(noise(frames, 1), rate, 44_100, 5000)
    assert run(there, 44_100, rate, 5000).shape == (1, frames)


@pytest.mark.parametrize("rate", [8000, 44_056, 48_000, 96_000])
def test_no_delay(rate: int) -> None:
    time = np.arange(rate) / rate
    samples = np.sin(2 * np.pi * 440 * time)[None].astype(np.float32)
    got = run(samples, rate, 44_100, 4096)[0]
    expected = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    np.testing.assert_allclose(got[2000:-2000], expected[2000:-2000], atol=2e-4)


def test_equal_rates_pass_through() -> None:
    samples = noise(1000)
    resampler = Resampler(44_100, 44_100, 2)
    assert resampler.push(samples) is samples
    assert resampler.flush().shape == (2, 0)


def test_nothing_in_nothing_out() -> None:
    resampler = Resampler(48_000, 44_100, 2)
    assert resampler.push(np.zeros((2, 0), np.float32)).shape == (2, 0)
    assert resampler.flush().shape == (2, 0)
    assert resampler.flush().shape == (2, 0)
    assert list(resampled([], 48_000, 44_100)) == []


def test_iterator_gives_no_empty_blocks() -> None:
    blocks = list(resampled((noise(n) for n in (10, 20_000, 1, 3)), 44_100, 16_000))
    assert all(block.shape[1] for block in blocks)
    assert sum(block.shape[1] for block in blocks) == resampled_length(20_014, 44_100, 16_000)


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Resampler(0, 44_100, 2)
    resampler = Resampler(48_000, 44_100, 2)
    with pytest.raises(ValueError, match="shape"):
        resampler.push(noise(5, 1))
    resampler.flush()
    with pytest.raises(ValueError, match="flushed"):
        resampler.push(noise(5))
