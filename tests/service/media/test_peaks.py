"""Overviews against all samples of each bin, one by one."""

import itertools
import math
import struct
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import BLOCK_FRAMES, ArraySource, AudioInfo
from stemwright.core.errors import InputError, InternalError
from stemwright.service.media.peaks import FEWEST_BINS, Peaks, compute_peaks
from tests.service.recordings import noise


def by_hand(samples: FloatArray, size: int) -> FloatArray:
    """Least, greatest, RMS of each bin, shape=(channels, bins, 3)."""
    return np.array(
        [
            [
                [part.min(), part.max(), math.sqrt(float(np.mean(part.astype(np.float64) ** 2)))]
                for part in (channel[start : start + size] for start in range(0, channel.size, size))
            ]
            for channel in samples
        ],
        np.float32,
    )


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(1, 9000),
    channels=st.integers(1, 3),
    finest=st.sampled_from([1, 2, 5]),
    max_bins=st.sampled_from([64, 200, 10_000]),
    level=st.floats(0.001, 8),
    seed=st.integers(0, 99),
)
def test_every_bin_of_every_zoom_is_what_its_samples_give(
    frames: int, channels: int, finest: int, max_bins: int, level: float, seed: int
) -> None:
    samples = noise(frames, channels, level=level, seed=seed)
    peaks = compute_peaks(ArraySource(samples, 8000), finest=finest, max_bins=max_bins)
    assert (peaks.frames, peaks.channels, peaks.sample_rate) == (frames, channels, 8000)
    step = peaks.zooms[0].scale / 32767
    for zoom in peaks.zooms:
        expected = by_hand(samples, zoom.samples_per_bin)
        found = zoom.as_float()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1.01 * step
        assert (found[..., 0] <= expected[..., 0] + 1e-6 * level).all()
        assert (found[..., 1] >= expected[..., 1] - 1e-6 * level).all()
    assert peaks.zooms[0].bins <= max_bins
    sizes = [zoom.samples_per_bin for zoom in peaks.zooms]
    assert all(b == 4 * a for a, b in itertools.pairwise(sizes))


def test_full_scale_and_silence_are_exact() -> None:
    samples = np.array([[1.0, -1.0, 0.0, 0.0]], np.float32)
    zoom = compute_peaks(ArraySource(samples, 8000), finest=2).zooms[0]
    assert zoom.values.tolist() == [[[-32767, 32767, 32767], [0, 0, 0]]]


def test_binary_form_is_the_described_one_and_reads_back() -> None:
    peaks = compute_peaks(ArraySource(noise(300_000, 2, level=3.0), 44_100), finest=64)
    data = peaks.to_bytes()
    magic, version, channels, rate, frames, scale, count = struct.unpack_from("<4sHHIQfI", data)
    assert (magic, version, channels, rate, frames) == (b"SWPK", 1, 2, 44_100, 300_000)
    assert scale == pytest.approx(3.0)
    assert struct.unpack_from("<II", data, 28) == (64, math.ceil(300_000 / 64))
    first = np.frombuffer(data, "<i2", 3, 28 + 8 * count)
    assert first.tolist() == peaks.zooms[0].values[0, 0].tolist()
    again = Peaks.from_bytes(data)
    assert again.to_bytes() == data
    assert [zoom.samples_per_bin for zoom in again.zooms] == [zoom.samples_per_bin for zoom in peaks.zooms]


@pytest.mark.parametrize("cut", [0, 3, 20, 40, -1])
def test_damaged_binary_form_is_an_error(cut: int) -> None:
    data = compute_peaks(ArraySource(noise(3000), 44_100)).to_bytes()
    with pytest.raises(InternalError, match="damaged"):
        Peaks.from_bytes(data[:cut])


def test_coarsest_zoom_fits_a_screen_and_zooms_are_chosen_by_width() -> None:
    peaks = compute_peaks(ArraySource(noise(500_000, 1), 44_100), finest=16)
    assert FEWEST_BINS <= peaks.zooms[-1].bins < 4 * FEWEST_BINS
    assert peaks.zoom(1) == peaks.zooms[-1]
    assert peaks.zoom(1000).bins >= 1000
    assert peaks.zoom(10**9) == peaks.zooms[0]


def test_json_has_a_list_for_each_channel() -> None:
    data = compute_peaks(ArraySource(noise(1000, 2), 44_100)).zooms[0].as_dict()
    assert data["samples_per_bin"] == 256
    assert [len(channel) for channel in data["max"]] == [4, 4]
    assert all(a <= 0 <= b for a, b in zip(data["min"][1], data["max"][1], strict=True))


class Long:
    """Silence of any length, never in memory."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self.info = AudioInfo(
            sample_rate=8000, channels=1, layout=("FC",), frames=frames, codec="", container=""
        )

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
        block = np.zeros((1, block_frames), np.float32)
        for start in range(0, self._frames, block_frames):
            yield block[:, : self._frames - start]


def test_memory_does_not_grow_with_length() -> None:
    tracemalloc.start()
    peaks = compute_peaks(Long(50_000_000), finest=64, max_bins=4096)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peaks.zooms[0].bins <= 4096
    assert most < 2 << 20


def test_too_long_recording_is_refused() -> None:
    with pytest.raises(InputError, match="too long"):
        compute_peaks(Long(300_000), finest=1, max_bins=1000)
