from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.channels import ChannelGroup
from stemwright.core.audio.source import ArraySource, AudioInfo
from stemwright.core.errors import InputError
from stemwright.models.separation.feeds import Feed, Lockstep, Moments, SlidingBuffer, analyse
from tests.support.fake_sessions import noise

STEREO = ChannelGroup(channels=(0, 1), model_channels=2)


class ClosableSource:
    """A source that remembers whether its blocks were closed."""

    def __init__(self, samples: FloatArray) -> None:
        self._inner = ArraySource(samples, 1000)
        self.closed = 0

    @property
    def info(self) -> AudioInfo:
        return self._inner.info

    def blocks(self, block_frames: int = 4) -> Iterator[FloatArray]:
        try:
            yield from self._inner.blocks(block_frames)
        finally:
            self.closed += 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.floats(-10, 10), st.integers(0, 2**32 - 1))
def test_moments_are_those_of_the_whole(sizes: list[int], offset: float, seed: int) -> None:
    samples = (np.random.default_rng(seed).standard_normal(sum(sizes)) + offset).astype(np.float32)
    moments = Moments()
    for block in np.split(samples, np.cumsum(sizes)[:-1]):
        moments.add(block)
    whole = samples.astype(np.float64)
    assert moments.count == whole.size
    assert moments.mean == pytest.approx(whole.mean(), rel=1e-12, abs=1e-12)
    assert moments.std == pytest.approx(whole.std(ddof=1) if whole.size > 1 else 0.0, rel=1e-9, abs=1e-12)


def test_moments_keep_their_precision_over_a_long_loud_offset() -> None:
    moments = Moments()
    for index in range(2000):
        moments.add(np.full(1000, 1.0 if index % 2 else 0.999, np.float32))
    assert moments.std == pytest.approx(0.0005, rel=1e-4)


@pytest.mark.parametrize("block_frames", [1, 7, 100, 5000])
def test_analysis_measures_the_channel_mean_of_the_whole_track(block_frames: int) -> None:
    samples = noise(2, 1234, seed=5)
    found = analyse(
        ArraySource(samples, 1000), [Feed(sample_rate=1000, group=STEREO)], block_frames, lambda _: None
    )
    mono = samples.astype(np.float64).mean(axis=0)
    assert found.frames == found.feeds[0].frames == 1234
    assert found.feeds[0].mean == pytest.approx(mono.mean(), rel=1e-6)
    assert found.feeds[0].std == pytest.approx(mono.std(ddof=1), rel=1e-6)
    assert found.peak == np.abs(samples).max()
    assert not found.silent
    assert found.duration_s == 1.234


def test_analysis_measures_every_feed_at_its_own_rate() -> None:
    right = Feed(sample_rate=2000, group=ChannelGroup(channels=(1,), model_channels=2))
    found = analyse(
        ArraySource(noise(2, 1001), 1000), [Feed(sample_rate=1000, group=STEREO), right], 64, lambda _: None
    )
    assert [feed.frames for feed in found.feeds] == [1001, 2002]


def test_analysis_tells_how_far_it_is_and_can_be_ended() -> None:
    seen: list[int] = []
    source = ClosableSource(noise(2, 10))

    def observe(frames: int) -> None:
        seen.append(frames)
        if frames >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse(source, [Feed(sample_rate=1000, group=STEREO)], 4, observe)
    assert seen == [4, 8]
    assert source.closed == 1


def test_a_source_without_samples_is_refused() -> None:
    class Empty(ClosableSource):
        def blocks(self, block_frames: int = 4) -> Iterator[FloatArray]:
            yield from ()

    with pytest.raises(InputError, match="no samples"):
        analyse(Empty(noise(2, 1)), [], 4, lambda _: None)


@given(st.integers(1, 200), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_sliding_buffer_gives_every_window_of_the_whole(frames: int, size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    whole = noise(2, frames, seed=seed)
    padded = np.pad(whole, ((0, 0), (size, size)))
    buffer, read, start = SlidingBuffer(2, frames), 0, -size + 1
    while start < frames:
        while not buffer.has(start + size):
            count = int(generator.integers(1, 40))
            buffer.append(whole[:, read : read + count])
            read += count
        samples, before = buffer.span(start, start + size)
        window = np.zeros((2, size), np.float32)
        window[:, before : before + samples.shape[1]] = samples
        np.testing.assert_array_equal(window, padded[:, start + size : start + 2 * size])
        start += int(generator.integers(1, size + 1))
        buffer.discard(start)


def test_sliding_buffer_holds_only_what_is_needed() -> None:
    buffer = SlidingBuffer(1, 10_000)
    for start in range(0, 10_000, 100):
        buffer.append(np.ones((1, 100), np.float32))
        buffer.discard(start + 50)
    assert buffer._store.shape[1] <= 300


def test_sliding_buffer_refuses_what_it_has_forgotten_or_not_read() -> None:
    buffer = SlidingBuffer(1, 100)
    buffer.append(np.ones((1, 20), np.float32))
    buffer.discard(10)
    with pytest.raises(ValueError, match="not held"):
        buffer.span(5, 15)
    with pytest.raises(ValueError, match="not held"):
        buffer.span(15, 25)


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 40))
def test_lockstep_cuts_the_recording_anew(counts: list[int], block_frames: int) -> None:
    samples = noise(2, max(1, sum(counts)))
    lockstep = Lockstep(source=ArraySource(samples, 1000), block_frames=block_frames)
    position = 0
    for count in counts:
        np.testing.assert_array_equal(lockstep.take(count), samples[:, position : position + count])
        position += count


def test_lockstep_ends_its_reading() -> None:
    source = ClosableSource(noise(2, 10))
    lockstep = Lockstep(source=source, block_frames=4)
    lockstep.close()
    lockstep.take(5)
    lockstep.close()
    assert source.closed == 1


def test_a_recording_that_became_shorter_is_refused() -> None:
    lockstep = Lockstep(source=ArraySource(noise(2, 10), 1000), block_frames=4)
    with pytest.raises(InputError, match="changed"):
        lockstep.take(11)
