"""The steps before an embedder, against libsndfile and the arithmetic of their origin."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.errors import InputError
from stemwright.models.embedders.preparation import Window, mono_of, prepared, through_pcm16, windows_of
from stemwright.models.manifest import EmbedderWindows, Preparation

NOISE = np.random.default_rng(0).normal(0, 0.4, 20_000).astype(np.float32)


def test_16_bits_as_libsndfile_writes_them() -> None:
    sound = np.concatenate([NOISE, np.asarray([1.0, -1.0, 2.0, -2.0, 0.0, 1 / 32768, -1e-6], np.float32)])
    file = io.BytesIO()
    soundfile.write(file, sound, 8000, format="WAV", subtype="PCM_16")
    file.seek(0)
    integers, _ = soundfile.read(file, dtype="int16")
    np.testing.assert_array_equal(through_pcm16(sound, down=True), (integers / 32768.0).astype(np.float32))


def test_16_bits_rounded() -> None:
    made = through_pcm16(NOISE, down=False)
    assert np.abs(made[np.abs(NOISE) < 1] - NOISE[np.abs(NOISE) < 1]).max() <= 0.5 / 32768 + 1e-9


def test_the_second_rounding_is_claps() -> None:
    steps = Preparation(pcm16="none", second_pcm16="toward_zero_by_32767")
    wanted = (np.clip(NOISE, -1, 1) * 32767.0).astype(np.int16) / 32767.0
    np.testing.assert_array_equal(prepared(NOISE, 8000, 8000, steps), wanted.astype(np.float32))


def test_cut_filled_and_scaled() -> None:
    steps = Preparation(pcm16="none", max_samples=5, scale=32768.0)
    np.testing.assert_array_equal(prepared(NOISE, 8000, 8000, steps), NOISE[:5] * np.float32(32768))
    filled = prepared(NOISE[:3], 8000, 8000, Preparation(pcm16="none", min_samples=7))
    np.testing.assert_array_equal(filled, [*NOISE[:3], 0, 0, 0, 0])


def test_the_channels_mean() -> None:
    np.testing.assert_array_equal(mono_of(np.stack([NOISE, -NOISE])), 0)
    with pytest.raises(ValueError, match="shape"):
        mono_of(NOISE)
    with pytest.raises(ValueError, match="shape"):
        mono_of(np.zeros((2, 0), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        mono_of(np.asarray([[0.0, value]], np.float32))


def bounds(length: int, **rule: object) -> list[tuple[int, int]]:
    return [(one.start, one.samples) for one in windows_of(length, EmbedderWindows.model_validate(rule))]


def test_windows() -> None:
    assert bounds(25, samples=10, tail="short") == [(0, 10), (10, 10), (20, 5)]
    assert bounds(25, samples=10, tail="zeros") == [(0, 10), (10, 10), (20, 10)]
    assert bounds(25, samples=10, tail="dropped") == [(0, 10), (10, 10)]
    assert bounds(25, samples=10, hop=8, tail="dropped") == [(0, 10), (8, 10)]
    assert bounds(25, samples=10, hop=8, tail="zeros") == [(0, 10), (8, 10), (16, 10), (24, 10)]
    assert bounds(25) == [(0, 25)]
    assert bounds(25, multiple=8, rest=3) == [(0, 19)]
    assert bounds(10, multiple=8, rest=3) == []
    assert bounds(25, samples=10, multiple=4) == [(0, 10), (10, 10), (20, 4)]
    assert bounds(5, samples=10, tail="dropped") == []


def test_claps_windows_of_five_seconds_are_five() -> None:
    """As measured in the study: 10 s windows every second, each filled up with zeros."""
    rule = EmbedderWindows(samples=480_000, hop=48_000, tail="zeros")
    assert len(windows_of(240_000, rule)) == 5


@settings(deadline=None)
@given(
    length=st.integers(1, 500),
    samples=st.integers(1, 100),
    hop=st.integers(1, 100),
    tail=st.sampled_from(["zeros", "short", "dropped"]),
)
def test_windows_begin_at_every_hop(length: int, samples: int, hop: int, tail: str) -> None:
    made = windows_of(length, EmbedderWindows.model_validate({"samples": samples, "hop": hop, "tail": tail}))
    assert [one.start for one in made] == list(range(0, length, hop))[: len(made)]
    if tail == "dropped":
        assert len(made) == max(0, (length - samples) // hop + 1)
    else:
        assert len(made) == -(-length // hop)
        assert made[0] == Window(start=0, samples=samples if tail == "zeros" else min(samples, length))
