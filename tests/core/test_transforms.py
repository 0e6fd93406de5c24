"""Transforms against torch, demucs and a transcription of the paper's page."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from stemwright.core.transforms import Transform
from tests.support.transforms import (
    FAMILIES,
    HDEMUCS_EARLY,
    HTDEMUCS,
    IBM_CNN,
    MDX,
    ROFORMER,
    SCNET,
    USS,
    noise,
    relative_error,
)


def torch_window(transform: Transform) -> torch.Tensor:
    if transform.window == "rectangular":
        return torch.ones(transform.window_span)
    return torch.hann_window(transform.window_span)


def torch_spectrum(transform: Transform, waveform: NDArray[np.float32]) -> NDArray[np.complex64]:
    spectrum = torch.stft(
        torch.from_numpy(waveform),
        transform.n_fft,
        transform.hop,
        transform.window_span,
        torch_window(transform),
        center=transform.padding != "none",
        pad_mode="reflect" if transform.padding == "reflect" else "constant",
        normalized=transform.spectrum_scale == "unitary",
        return_complex=True,
    )
    return np.asarray(spectrum.numpy())


def torch_waveform(
    transform: Transform, spectrum: NDArray[np.complex64], samples: int
) -> NDArray[np.float32]:
    waveform = torch.istft(
        torch.from_numpy(spectrum),
        transform.n_fft,
        transform.hop,
        transform.window_span,
        torch_window(transform),
        center=transform.padding != "none",
        normalized=transform.spectrum_scale == "unitary",
        length=samples,
    )
    return np.asarray(waveform.numpy())


def random_spectrum(*shape: int, seed: int = 1) -> NDArray[np.complex64]:
    """Spectrum that is no signal's transform, with a real first and last bin as torch.istft wants."""
    spectrum = (noise(*shape, seed=seed) + 1j * noise(*shape, seed=seed + 1)).astype(np.complex64)
    spectrum[..., 0, :].imag = 0
    spectrum[..., -1, :].imag = 0
    return spectrum


class TestAgainstTorch:
    @pytest.mark.parametrize("transform", [USS, ROFORMER], ids=["uss", "roformer"])
    @pytest.mark.parametrize("samples", [1025, 10_000, 44_100, 64_000])
    def test_plain(self, transform: Transform, samples: int) -> None:
        waveform = noise(2, samples)
        spectrum = transform.forward(waveform)
        assert relative_error(spectrum, torch_spectrum(transform, waveform)) < 1e-5
        changed = random_spectrum(*spectrum.shape)
        expected = changed.copy()
        expected[..., : transform.zeroed_synthesis_bins, :] = 0
        waveform = transform.inverse(changed, samples)
        assert relative_error(waveform, torch_waveform(transform, expected, samples)) < 1e-5

    @pytest.mark.parametrize("samples", [5000, 16_384, 17_408, 20_000])
    def test_scnet_pads_to_an_even_number_of_frames(self, samples: int) -> None:
        pad = 1024 - samples % 1024
        if ((samples + pad) // 1024) % 2 == 0:
            pad += 1024
        waveform = noise(2, samples)
        padded = np.pad(waveform, ((0, 0), (0, pad)))
        spectrum = SCNET.forward(waveform)
        assert spectrum.shape[-1] % 2 == 0
        assert relative_error(spectrum, torch_spectrum(SCNET, padded)) < 1e-5
        changed = random_spectrum(*spectrum.shape)
        expected = torch_waveform(SCNET, changed, samples + pad)[:, :samples]
        assert relative_error(SCNET.inverse(changed, samples), expected) < 1e-5

    def test_scnet_has_476_frames_at_its_length(self) -> None:
        assert SCNET.frames(485_100) == 476

    def test_mdx(self) -> None:
        samples = 1024 * 15
        waveform = noise(2, samples)
        expected = torch_spectrum(MDX, waveform)[:, :3072]
        expected[:, :3] = 0
        spectrum = MDX.forward(waveform)
        assert relative_error(spectrum, expected) < 1e-5
        changed = random_spectrum(*spectrum.shape)
        padded = np.pad(changed, ((0, 0), (0, 1), (0, 0)))
        assert relative_error(MDX.inverse(changed, samples), torch_waveform(MDX, padded, samples)) < 1e-5

    @settings(deadline=None, max_examples=60)
    @given(
        half=st.integers(8, 300),
        hop_share=st.floats(0.05, 0.45),
        window_share=st.floats(0.5, 1.0),
        window=st.sampled_from(["hann", "rectangular"]),
        scale=st.sampled_from(["none", "unitary"]),
        padding=st.sampled_from(["reflect", "zero", "none"]),
        extra=st.integers(0, 2000),
    )
    def test_any_variant(
        self,
        half: int,
        hop_share: float,
        window_share: float,
        window: Any,
        scale: Any,
        padding: Any,
        extra: int,
    ) -> None:
        span = max(4, int(2 * half * window_share))
        transform = Transform(
            n_fft=2 * half,
            hop=max(1, int(span * hop_share)),
            window=window,
            window_length=span,
            spectrum_scale=scale,
            padding=padding,
        )
        samples = 2 * half + extra
        waveform = noise(samples)
        spectrum = transform.forward(waveform)
        assert relative_error(spectrum, torch_spectrum(transform, waveform)) < 1e-5
        if padding != "none":  # torch.istft refuses windows that do not cover the edges
            changed = random_spectrum(*spectrum.shape)
            expected = torch_waveform(transform, changed, samples)
            reached = transform.inverse_envelope(samples)
            assert reached is not None
            # A sample that one window's last values reach is divided by them: rounding grows likewise.
            error = np.abs(transform.inverse(changed, samples) - expected)
            assert (error <= 1e-5 * np.abs(expected).max() + 1e-6 * np.sqrt(reached)).all()


class TestAgainstDemucs:
    # All that the two methods read of the network.
    network = SimpleNamespace(hop_length=1024, nfft=4096)

    @pytest.mark.parametrize("samples", [5000, 20_480, 31_111])
    def test_forward(self, samples: int) -> None:
        waveform = noise(1, 2, samples)
        expected = HTDemucs._spec(self.network, torch.from_numpy(waveform)).numpy()
        assert relative_error(HTDEMUCS.forward(waveform), expected) < 1e-5

    @pytest.mark.parametrize("samples", [5000, 20_480, 31_111])
    def test_inverse_with_its_edges(self, samples: int) -> None:
        spectrum = random_spectrum(1, 2, 2, 2048, HTDEMUCS.frames(samples))
        expected = HTDemucs._ispec(self.network, torch.from_numpy(spectrum), samples).numpy()
        assert relative_error(HTDEMUCS.inverse(spectrum, samples), expected) < 1e-5

    older = SimpleNamespace(hop_length=1024, nfft=4096, hybrid=True, hybrid_old=True)

    @pytest.mark.parametrize("samples", [5000, 20_480, 31_111])
    def test_the_older_form_of_v3(self, samples: int) -> None:
        waveform = noise(1, 2, samples)
        expected = HDemucs._spec(self.older, torch.from_numpy(waveform)).numpy()
        assert relative_error(HDEMUCS_EARLY.forward(waveform), expected) < 1e-5
        spectrum = random_spectrum(1, 2, 2, 2048, HDEMUCS_EARLY.frames(samples))
        expected = HDemucs._ispec(self.older, torch.from_numpy(spectrum), samples).numpy()
        assert relative_error(HDEMUCS_EARLY.inverse(spectrum, samples), expected) < 1e-5

    def test_shape_at_the_segment_of_the_released_model(self) -> None:
        assert (HTDEMUCS.bins, HTDEMUCS.frames(343_980)) == (2048, 336)


class TestAgainstThePageOfIbmCnn:
    """A frame-by-frame transcription in float64 of the front end's table."""

    window = np.hanning(1025)[:-1] / 512

    def brute_spectrum(self, waveform: NDArray[np.float32]) -> NDArray[np.complex128]:
        frames = -(-len(waveform) // 256)
        padded = np.pad(waveform.astype(np.float64), 512)
        out = np.empty((2049, frames), np.complex128)
        for index in range(frames):
            buffer = np.zeros(4096)
            piece = padded[256 * index : 256 * index + 1024]
            windowed = np.pad(piece, (0, 1024 - len(piece))) * self.window
            buffer[:512] = windowed[512:]
            buffer[-512:] = windowed[:512]
            out[:, index] = np.fft.rfft(buffer)
        return out

    def brute_waveform(self, spectrum: NDArray[np.complex128], samples: int) -> NDArray[np.float64]:
        out = np.zeros(256 * spectrum.shape[1] + 1024)
        for index in range(spectrum.shape[1]):
            buffer = np.fft.irfft(spectrum[:, index], 4096)
            out[256 * index : 256 * index + 1024] += 256 * np.concatenate([buffer[-512:], buffer[:512]])
        return out[512 : 512 + samples]

    @pytest.mark.parametrize("samples", [1, 256, 4096, 5000])
    def test_magnitudes_and_phases(self, samples: int) -> None:
        waveform = noise(samples)
        expected = self.brute_spectrum(waveform)
        spectrum = IBM_CNN.forward(waveform)
        assert spectrum.shape == expected.shape
        sign = (-1.0) ** np.arange(2049)[:, None]
        assert relative_error(spectrum * sign, expected) < 1e-5

    @pytest.mark.parametrize("samples", [256, 5000])
    def test_masked_round_trip(self, samples: int) -> None:
        waveform = noise(samples)
        mask = np.random.default_rng(3).random((2049, IBM_CNN.frames(samples)), np.float32)
        expected = self.brute_waveform(self.brute_spectrum(waveform) * mask, samples)
        assert relative_error(IBM_CNN.inverse(IBM_CNN.forward(waveform) * mask, samples), expected) < 1e-5

    def test_gain_at_the_borders(self) -> None:
        ones = np.ones(4096, np.float32)
        result = IBM_CNN.inverse(IBM_CNN.forward(ones), 4096)
        assert result[[0, 64, 128, 255, 2000]] == pytest.approx([0.75, 0.8457, 0.9268, 1, 1], abs=1e-4)
        assert result[-1] == pytest.approx(0.25, abs=0.01)

    def test_a_full_scale_sine_has_magnitude_a_half(self) -> None:
        sine = np.sin(2 * np.pi * 128 * np.arange(8192) / 4096).astype(np.float32)
        assert np.abs(IBM_CNN.forward(sine))[:, 16].max() == pytest.approx(0.5, abs=1e-3)


class TestLaws:
    @pytest.mark.parametrize("name", ["uss", "scnet"])
    @settings(deadline=None, max_examples=15)
    @given(samples=st.integers(4097, 30_000), seed=st.integers(0, 100))
    def test_round_trip(self, name: str, samples: int, seed: int) -> None:
        waveform = noise(samples, seed=seed)
        transform = FAMILIES[name]
        assert relative_error(transform.inverse(transform.forward(waveform), samples), waveform) < 1e-5

    def test_demucs_loses_its_edges_and_nothing_else(self) -> None:
        sine = (0.5 * np.sin(2 * np.pi * 440 * np.arange(40_000) / 44_100)).astype(np.float32)
        error = np.abs(HTDEMUCS.inverse(HTDEMUCS.forward(sine), len(sine)) - sine)
        assert error[:256].max() == pytest.approx(0.24, abs=0.01)
        assert error[1536:-2560].max() < 1e-5

    @pytest.mark.parametrize("name", FAMILIES)
    @settings(deadline=None, max_examples=10)
    @given(samples=st.integers(5000, 20_000), factor=st.floats(-3, 3))
    def test_linear(self, name: str, samples: int, factor: float) -> None:
        transform = FAMILIES[name]
        first, second = noise(samples), noise(samples, seed=1)
        one, other = transform.forward(first), transform.forward(second)
        both = transform.forward(np.float32(factor) * first + second)
        assert relative_error(np.float32(factor) * one + other, both) < 1e-5
        result = transform.inverse(both, samples)
        parts = np.float32(factor) * transform.inverse(one, samples) + transform.inverse(other, samples)
        assert relative_error(parts, result) < 1e-4

    @pytest.mark.parametrize("name", FAMILIES)
    @settings(deadline=None, max_examples=20)
    @given(samples=st.integers(5000, 20_000))
    def test_lengths_and_silence(self, name: str, samples: int) -> None:
        transform = FAMILIES[name]
        spectrum = transform.forward(np.zeros((1, samples), np.float32))
        assert spectrum.shape == (1, transform.bins, transform.frames(samples))
        waveform = transform.inverse(spectrum, samples)
        assert waveform.shape == (1, samples)
        assert not waveform.any() and not spectrum.any()

    @pytest.mark.parametrize("name", FAMILIES)
    def test_leading_axes_strides_and_workers_change_nothing(self, name: str) -> None:
        transform = FAMILIES[name]
        waveform = noise(2, 3, 12_000)
        spectrum = transform.forward(waveform)
        assert spectrum.flags.c_contiguous
        strided = np.asfortranarray(waveform)
        np.testing.assert_array_equal(transform.forward(strided, workers=2), spectrum)
        np.testing.assert_array_equal(transform.forward(waveform[1, 2]), spectrum[1, 2])
        planes = transform.forward_planes(waveform)
        np.testing.assert_array_equal(planes[:, :, 0] + 1j * planes[:, :, 1], spectrum)
        result = transform.inverse(spectrum, 12_000)
        np.testing.assert_array_equal(
            transform.inverse(np.asfortranarray(spectrum), 12_000, workers=2), result
        )
        np.testing.assert_array_equal(transform.inverse_planes(spectrum.real, spectrum.imag, 12_000), result)

    def test_long_signals_are_cut_into_blocks(self) -> None:
        waveform = noise(2048 * 400)
        transform = Transform(n_fft=8192, hop=2048)
        assert transform.framing(len(waveform)).block < transform.frames(len(waveform))
        spectrum = transform.forward(waveform)
        assert relative_error(spectrum, torch_spectrum(transform, waveform)) < 1e-5
        assert relative_error(transform.inverse(spectrum, len(waveform)), waveform) < 1e-5

    def test_samples_that_no_window_reaches_are_zero(self) -> None:
        transform = Transform(n_fft=64, hop=16, padding="none")
        waveform = noise(64 + 16 * 5 + 7)
        result = transform.inverse(transform.forward(waveform), len(waveform))
        assert result[0] == 0 and not result[-7:].any()
        assert relative_error(result[8:-15], waveform[8:-15]) < 1e-4


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"kept_bins": 34}, "kept_bins 34 is more than the 33 bins"),
            ({"zeroed_analysis_bins": 34}, "more bins are set to zero"),
            ({"window_length": 65}, "window_length 65 is more than n_fft"),
            ({"window_length": 8}, "hop 16 is more than the window"),
            ({"hop": 64}, "no window reaches"),
            ({"window_length": 16}, "no window reaches"),
            ({"normalisation": "steady_state", "hop": 15}, "add up to a constant"),
            ({"padding": "none", "outer_padding": "even_frames"}, "outer_padding needs centred"),
            ({"padding": "none", "frame_count": "ceil"}, "frame_count ceil needs"),
            ({"dropped_edge_frames": 1}, "needs outer_padding hop_aligned"),
            ({"outer_padding": "hop_aligned", "hop": 15}, "needs an even hop"),
            ({"n_fft": 4096}, "hop 16 is less than n_fft / 128"),
            ({"n_fft": 63}, "multiple of 2"),
            ({"n_fft": 2**20}, "less than or equal"),
            ({"power": 2}, "Extra inputs"),
        ],
    )
    def test_contradictions(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            Transform.model_validate({"n_fft": 64, "hop": 16} | fields)

    @pytest.mark.parametrize(
        ("transform", "samples"),
        [(USS, 1024), (HTDEMUCS, 1536), (Transform(n_fft=64, hop=16, padding="none"), 63), (IBM_CNN, 0)],
    )
    def test_too_short(self, transform: Transform, samples: int) -> None:
        with pytest.raises(ValueError, match="too few"):
            transform.forward(np.zeros(samples, np.float32))

    def test_spectrum_of_another_length(self) -> None:
        with pytest.raises(ValueError, match="spectrum has shape"):
            USS.inverse(np.zeros((1025, 10), np.complex64), 64_000)

    def test_json_round_trip(self) -> None:
        for transform in FAMILIES.values():
            again = Transform.model_validate_json(transform.model_dump_json())
            assert again == transform and hash(again) == hash(transform)

    def test_equality_and_hash_survive_use(self) -> None:
        first, second = USS.model_copy(), USS.model_copy()
        for transform in (first, second):
            transform.inverse(transform.forward(noise(5000)), 5000)
        assert first == second and hash(first) == hash(second)
        assert first != USS.model_copy(update={"hop": 160})


def test_fast_enough_for_a_segment_of_demucs() -> None:
    """A guard against a slip of an order of magnitude; the floor is generous for busy machines."""
    waveform = noise(2, 343_980)
    spectrum = HTDEMUCS.forward(waveform)
    stems = np.broadcast_to(spectrum, (4, *spectrum.shape))
    HTDEMUCS.inverse(stems, 343_980)
    start = time.process_time()
    HTDEMUCS.inverse(stems, 343_980)
    HTDEMUCS.forward(waveform)
    assert time.process_time() - start < 0.8
