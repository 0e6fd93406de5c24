"""Features against librosa, TensorFlow's matrix and sums by hand."""

import librosa
import numpy as np
import pytest
from pydantic import ValidationError

from stemwright.core.features import FeatureBands, Features
from stemwright.core.transforms import Transform

SLANEY = FeatureBands(
    bands=64, low_hz=50.0, high_hz=14000.0, scale="slaney", norm="slaney", power=2, log="db", floor=1e-10
)
PANNS = Transform(n_fft=1024, hop=320)
HTK = FeatureBands(bands=64, low_hz=125.0, high_hz=7500.0, scale="htk", log="natural", floor=0.001)
YAMNET = Transform(n_fft=512, hop=160, window_length=400, padding="none")


def noise(samples: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32) * np.float32(0.1)


def test_slaney_bands_are_librosas() -> None:
    ours = SLANEY.matrix(n_fft=1024, bins=513, sample_rate=32000)
    theirs = librosa.filters.mel(sr=32000, n_fft=1024, n_mels=64, fmin=50, fmax=14000)
    np.testing.assert_allclose(ours, theirs, atol=2e-9)  # float32 of numbers up to 0.018


def test_slaney_bands_without_norm_are_librosas() -> None:
    bands = SLANEY.model_copy(update={"norm": "none"})
    theirs = librosa.filters.mel(sr=32000, n_fft=1024, n_mels=64, fmin=50, fmax=14000, norm=None)
    np.testing.assert_allclose(bands.matrix(n_fft=1024, bins=513, sample_rate=32000), theirs, atol=2e-7)


def test_log_mel_is_librosas() -> None:
    sound = noise(32000)
    features = Features(transform=PANNS, bands=SLANEY, sample_rate=32000)
    power = librosa.feature.melspectrogram(
        y=sound, sr=32000, n_fft=1024, hop_length=320, n_mels=64, fmin=50, fmax=14000, pad_mode="reflect"
    )
    theirs = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)
    ours = features.compute(sound)
    assert ours.shape == (101, 64)
    np.testing.assert_allclose(ours, theirs.T, atol=1e-4)


def test_htk_bands_leave_bin_0_out_and_are_straight_in_mel() -> None:
    matrix = HTK.matrix(n_fft=512, bins=257, sample_rate=16000)
    assert not matrix[:, 0].any()
    mel = 1127.0 * np.log1p(np.arange(257) * 31.25 / 700.0)
    ends = 1127.0 * np.log1p(np.asarray([125.0, 7500.0]) / 700.0)
    step = (ends[1] - ends[0]) / 65
    tent = np.maximum(0, 1 - np.abs(mel[None] - ends[0] - step * np.arange(1, 65)[:, None]) / step)
    tent[:, 0] = 0
    np.testing.assert_allclose(matrix, tent, atol=1e-6)


def test_the_first_window_starts_at_the_first_sample_without_padding() -> None:
    features = Features(transform=YAMNET, bands=HTK, sample_rate=16000)
    assert features.samples(96) == 15_600
    assert (features.frames(15_600), features.frames(15_599)) == (96, 95)
    sound = noise(720)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for frame, got in enumerate(features.compute(sound)):
        spectrum = np.abs(np.fft.rfft(sound[frame * 160 : frame * 160 + 400] * window, 512))
        bands = HTK.matrix(n_fft=512, bins=257, sample_rate=16000) @ spectrum
        np.testing.assert_allclose(got, np.log(bands + 0.001), atol=1e-5)


@pytest.mark.parametrize(("samples", "frames"), [(513, 2), (640, 3), (9920, 32), (64000, 201)])
def test_frames_are_counted(samples: int, frames: int) -> None:
    features = Features(transform=PANNS, bands=SLANEY, sample_rate=32000)
    assert features.frames(samples) == frames
    assert features.compute(noise(samples)).shape == (frames, 64)
    assert features.frames(features.samples(frames)) == frames


def test_silence_is_the_floor() -> None:
    silence = np.zeros(16000, np.float32)
    db = Features(transform=PANNS, bands=SLANEY, sample_rate=32000).compute(silence)
    np.testing.assert_allclose(db, -100.0, atol=1e-4)
    natural = Features(transform=YAMNET, bands=HTK, sample_rate=16000).compute(silence)
    np.testing.assert_allclose(natural, np.log(0.001), atol=1e-6)


def test_several_waveforms_at_once() -> None:
    features = Features(transform=PANNS, bands=SLANEY, sample_rate=32000)
    both = np.stack([noise(3200), -2 * noise(3200)])
    got = features.compute(both)
    assert got.shape == (2, 11, 64)
    np.testing.assert_allclose(got[1] - got[0], 20 * np.log10(2), atol=1e-3)


def test_ends_in_order() -> None:
    with pytest.raises(ValidationError, match="low_hz"):
        FeatureBands(bands=3, low_hz=400.0, high_hz=400.0, scale="htk", log="db", floor=1e-3)


def test_values_and_weights_in_steps_are_sums_of_whole_numbers() -> None:
    """As a product of 8 bits computes it: integers, multiplied and added, times two scales."""
    bands = HTK.model_copy(update={"value_steps": 255, "weight_steps": 127})
    sound = np.concatenate([np.zeros(400, np.float32), noise(2000), noise(700) * np.float32(1e-3)])
    ours = Features(transform=YAMNET, bands=bands, sample_rate=16000).compute(sound)
    weights = HTK.matrix(n_fft=512, bins=257, sample_rate=16000).astype(np.float64)
    weight_step = weights.max() / 127
    whole_weights = np.rint(weights / weight_step).astype(np.int64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    errors = []
    for frame, found in enumerate(ours):
        values = np.abs(np.fft.rfft(sound[160 * frame : 160 * frame + 400] * window, 512))
        step = max(values.max() / 255, 1e-30)
        sums = whole_weights @ np.rint(values / step).astype(np.int64)
        errors.append(np.abs(np.exp(found) / (sums * step * weight_step + 0.001) - 1))
    # A value halfway between two steps may go either way in float32.
    assert np.percentile(errors, 99) < 1e-5 and np.max(errors) < 1e-2
    assert np.allclose(ours[0], np.log(0.001))


def test_steps_are_whole_and_not_negative() -> None:
    for field in ("value_steps", "weight_steps"):
        with pytest.raises(ValidationError):
            FeatureBands(**{**HTK.model_dump(), field: -1})
