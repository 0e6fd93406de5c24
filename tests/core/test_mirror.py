"""The inverse of IBM-CNN's authors, against a transcription of what their code does to one frame."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from stemwright.core.transforms import Transform
from tests.models.graphs.test_transforms import check_equal_to_host
from tests.support.transforms import IBM_CNN, noise

AUTHORS = IBM_CNN.model_copy(update={"mirror": "off_by_one"})


def authors_inverse(spectrum: NDArray[Any], samples: int, *, shift: int) -> NDArray[np.float64]:
    """Frame by frame in float64: mirrored half from bin 1 + shift on, phase zero in the window's centre."""
    n_fft, window, hop = 4096, 1024, 256
    centred = spectrum.astype(np.complex128) * (-1.0) ** np.arange(2049)[:, None]
    padded = np.zeros(samples + 2 * window)
    for frame in range(spectrum.shape[1]):
        whole = np.zeros(n_fft, np.complex128)
        whole[:2049] = centred[:, frame]
        mirrored = np.conj(centred[1 + shift : 2048 + shift, frame])[::-1]
        whole[2049:] = mirrored
        buffer = np.fft.ifft(whole).real
        start = frame * hop - window // 2 + window
        padded[start : start + window] += hop * np.concatenate(
            [buffer[-window // 2 :], buffer[: window // 2]]
        )
    return padded[window : window + samples]


@pytest.mark.parametrize(("transform", "shift"), [(IBM_CNN, 0), (AUTHORS, 1)])
def test_the_inverse_of_a_masked_spectrum(transform: Transform, shift: int) -> None:
    spectrum = transform.forward(noise(5000))
    spectrum *= np.random.default_rng(1).random(spectrum.shape, np.float32)
    expected = authors_inverse(spectrum, 5000, shift=shift)
    found = transform.inverse(spectrum, 5000)
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


def test_the_round_trip_of_the_authors_is_33_9_db() -> None:
    waveform = noise(220_500)
    found = AUTHORS.inverse(AUTHORS.forward(waveform), len(waveform))
    inside = slice(1024, -1024)
    error = found[inside] - waveform[inside]
    ratio = 10 * np.log10(np.mean(waveform[inside] ** 2) / np.mean(error**2))
    assert ratio == pytest.approx(33.9, abs=0.05)


def test_the_graph_does_the_same() -> None:
    check_equal_to_host(AUTHORS, 12_345)


@pytest.mark.parametrize("settings", [{"kept_bins": 2048}, {"zeroed_synthesis_bins": 1}])
def test_all_bins_are_needed(settings: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="needs all bins"):
        Transform.model_validate(AUTHORS.model_dump() | settings)
