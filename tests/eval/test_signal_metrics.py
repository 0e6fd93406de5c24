"""Signal metrics against values of torchmetrics 1.9.0 and auraloss 0.4.0 on a given signal."""

import numpy as np
import numpy.typing as npt
import pytest

from stemwright.core.errors import InputError
from stemwright.eval.signal_metrics import SpectralDistance, log_mel_distance, sdr, si_sdr

RATE = 44100
Doubles = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def signals() -> tuple[Doubles, Doubles]:
    n = np.arange(220_500)
    t = n / RATE
    generator = np.random.default_rng(1234)
    tone = 0.3 * np.sin(2 * np.pi * 220 * t) * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))
    reference = tone + 0.05 * generator.standard_normal(len(n))
    estimate = 0.8 * reference + 0.02 * generator.standard_normal(len(n)) + 0.01
    return reference[None], estimate[None]


def test_values_of_the_field(signals: tuple[Doubles, Doubles]) -> None:
    assert sdr(*signals) == pytest.approx(13.0747, abs=1e-4)
    assert si_sdr(*signals) == pytest.approx(18.34067, abs=1e-4)
    assert si_sdr(*signals, means="removed") == pytest.approx(19.32314, abs=1e-4)


def test_distances_of_the_field(signals: tuple[Doubles, Doubles]) -> None:
    assert SpectralDistance()(*signals, RATE) == pytest.approx(0.617366, abs=1e-4)
    assert SpectralDistance(weighting="none")(*signals, RATE) == pytest.approx(0.597612, abs=1e-4)
    assert SpectralDistance()(signals[1], signals[0], RATE) == pytest.approx(0.6670, abs=1e-3)
    assert SpectralDistance()(signals[0], signals[0], RATE) == 0


def test_scale_changes_sdr_only(signals: tuple[Doubles, Doubles]) -> None:
    reference, estimate = signals
    assert si_sdr(reference, -3 * estimate) == pytest.approx(si_sdr(reference, estimate))
    assert sdr(reference, 3 * estimate) < 0


def test_stereo_is_the_mean_of_its_channels(signals: tuple[Doubles, Doubles]) -> None:
    reference, estimate = signals
    stereo = np.concatenate([reference, 2 * reference]), np.concatenate([estimate, 2 * reference + estimate])
    alone = [si_sdr(a[None], b[None]) for a, b in zip(*stereo, strict=True)]
    assert si_sdr(*stereo) == pytest.approx(np.mean(alone))


def test_silence_and_perfection() -> None:
    ramp = np.linspace(-1, 1, 9000)[None]
    assert np.isnan(si_sdr(np.zeros_like(ramp), ramp))
    assert np.isnan(si_sdr(ramp, np.zeros_like(ramp)))
    assert sdr(ramp, ramp) > 100
    assert log_mel_distance(ramp, ramp, RATE) == 0
    noise = np.random.default_rng(0).standard_normal((1, 9000))
    assert log_mel_distance(noise, noise * 10 ** (-6 / 20), RATE) == pytest.approx(6, abs=1e-6)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        sdr(np.zeros((1, 5)), np.zeros((1, 6)))
    with pytest.raises(InputError, match="too short"):
        SpectralDistance()(np.ones((1, 100)), np.ones((1, 100)), RATE)
