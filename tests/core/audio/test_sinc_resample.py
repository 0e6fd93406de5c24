"""The resampler of published scores against torchaudio's own code, and its laws."""

import functools
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.sinc_resample import PAPER_SINC, KaiserSinc, sinc_resampled


@functools.cache
def torchaudio_functional() -> ModuleType:
    """torchaudio's code that resamples; importing the package needs its compiled part for another torch."""
    spec = importlib.util.find_spec("torchaudio")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "functional" / "functional.py"
    source = path.read_text()
    begin = source.index("def _get_sinc_resample_kernel(")
    end = source.index("@torch.jit.unused", begin)
    module = ModuleType("torchaudio_resampling")
    head = "import math, warnings\nimport torch\nfrom torch import Tensor\nfrom typing import Optional\n"
    exec(
        compile(head + "_CPU = torch.device('cpu')\n" + source[begin:end], str(path), "exec"), module.__dict__
    )
    return module


def by_torchaudio(samples: FloatArray, in_rate: int, out_rate: int, design: KaiserSinc) -> FloatArray:
    oracle, divisor = torchaudio_functional(), math.gcd(in_rate, out_rate)
    kernel, width = oracle._get_sinc_resample_kernel(
        in_rate,
        out_rate,
        divisor,
        design.lowpass_filter_width,
        design.rolloff,
        "sinc_interp_kaiser",
        design.beta,
    )
    made = oracle._apply_sinc_resample_kernel(
        torch.tensor(samples)[None], in_rate, out_rate, divisor, kernel, width
    )
    return np.asarray(made[0], np.float32)


@pytest.mark.parametrize(
    ("in_rate", "out_rate"),
    [(44100, 24000), (44100, 16000), (44100, 48000), (48000, 22050), (22050, 44100), (8000, 16000), (7, 5)],
)
@pytest.mark.parametrize("length", [1, 50, 4410, 30_001])
def test_as_torchaudio(in_rate: int, out_rate: int, length: int) -> None:
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    ours = sinc_resampled(samples, in_rate, out_rate, PAPER_SINC)
    theirs = by_torchaudio(samples, in_rate, out_rate, PAPER_SINC)
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1.5e-6, rtol=0)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    in_rate=st.integers(1, 400),
    out_rate=st.integers(1, 400),
    length=st.integers(1, 3000),
    width=st.integers(1, 80),
    rolloff=st.floats(0.5, 1.0),
    beta=st.floats(0.0, 20.0),
)
def test_as_torchaudio_for_any_design(
    in_rate: int, out_rate: int, length: int, width: int, rolloff: float, beta: float
) -> None:
    design = KaiserSinc(lowpass_filter_width=width, rolloff=rolloff, beta=beta)
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    ours = sinc_resampled(samples, in_rate, out_rate, design)
    if in_rate == out_rate:
        np.testing.assert_array_equal(ours, samples)
        return
    theirs = by_torchaudio(samples, in_rate, out_rate, design)
    np.testing.assert_allclose(ours, theirs, atol=3e-6, rtol=0)


def test_the_filter_is_torchaudios_to_the_last_bit() -> None:
    oracle = torchaudio_functional()
    kernel, width = oracle._get_sinc_resample_kernel(
        147, 80, 1, PAPER_SINC.lowpass_filter_width, PAPER_SINC.rolloff, "sinc_interp_kaiser", PAPER_SINC.beta
    )
    impulses = np.eye(147 + 2 * width, dtype=np.float32)[width : width + 147]
    made = np.stack([sinc_resampled(one, 147, 80, PAPER_SINC)[80:160] for one in impulses])
    wanted = np.asarray(kernel[:, 0])
    for place in range(147):
        at = width + place  # sample `at` of the signal, seen by the block that begins at sample 147
        np.testing.assert_allclose(made[place], wanted[:, at - 147 + width], atol=1e-20, rtol=0)


def test_rates_without_a_common_divisor_need_no_huge_filter() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 4409).astype(np.float32)
    assert sinc_resampled(samples, 4409, 2400, PAPER_SINC).shape == (2400,)


def test_a_tone_stays_a_tone() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100).astype(np.float32)
    want = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000)
    made = sinc_resampled(tone, 44_100, 24_000, PAPER_SINC)
    np.testing.assert_allclose(made[200:-200], want[200:-200], atol=2e-4)


def test_bad_shapes_and_rates() -> None:
    for samples, rate in ((np.zeros((1, 5), np.float32), 8000), (np.zeros(5, np.float32), 0)):
        with pytest.raises(ValueError, match="samples of shape"):
            sinc_resampled(samples, rate, 16_000, PAPER_SINC)
