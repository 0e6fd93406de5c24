"""BSS Eval 4 against its definitions written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.errors import InputError, OptionError
from stemwright.eval.bss_eval.images import METRICS, ArrayPairs, ImagesOptions, score_images
from tests.eval import brute_force

RATE = 1000


def pairs(seed: int, sources: int, channels: int, samples: int) -> ArrayPairs:
    generator = np.random.default_rng(seed)
    references = generator.standard_normal((sources, channels, samples))
    mixed = np.einsum("ij,jcn->icn", np.eye(sources) + 0.2 * generator.random((sources, sources)), references)
    estimates = mixed + 0.1 * np.roll(references, 3, axis=-1) + 0.1 * generator.standard_normal(mixed.shape)
    return ArrayPairs(tuple(f"s{index}" for index in range(sources)), references, estimates, RATE)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sources=st.integers(1, 3),
    channels=st.integers(1, 2),
    taps=st.integers(1, 9),
    samples=st.integers(130, 700),
    hop=st.integers(40, 200),
    window=st.integers(60, 300),
)
def test_equals_the_definitions(
    seed: int, sources: int, channels: int, taps: int, samples: int, hop: int, window: int
) -> None:
    given_pairs = pairs(seed, sources, channels, samples)
    options = ImagesOptions(window_s=window / RATE, hop_s=hop / RATE, taps=taps, exact=True)
    found = score_images(given_pairs, options).values
    length = min(window, samples)
    expected = brute_force.scores(given_pairs.references, given_pairs.estimates, length, hop, taps)
    assert found.shape == expected.shape
    rows = [0, 1, 2, 3] if sources > 1 else [0, 1, 3]  # one source has no interference: 0 / 0
    np.testing.assert_allclose(found[rows], expected[rows], atol=1e-6)


def test_a_silent_frame_has_no_scores_for_any_source() -> None:
    given_pairs = pairs(0, 2, 2, 3000)
    given_pairs.references[1, 0, 1000:2000] = 0.5
    given_pairs.references[1, 1, 1000:2000] = -0.5  # the sum over channels counts
    values = score_images(given_pairs, ImagesOptions(taps=8)).values
    assert np.isnan(values[:, :, 1]).all()
    assert np.isfinite(values[:, :, [0, 2]]).all()


def test_a_source_that_is_silent_throughout_is_left_out_with_a_reason() -> None:
    three = pairs(1, 3, 2, 3000)
    three.references[1] = 0
    scores = score_images(three, ImagesOptions(taps=8))
    assert list(scores.reasons) == ["s1"]
    assert np.isnan(scores.values[:, 1]).all()
    two = ArrayPairs(("s0", "s2"), three.references[[0, 2]], three.estimates[[0, 2]], RATE)
    np.testing.assert_allclose(scores.values[:, [0, 2]], score_images(two, ImagesOptions(taps=8)).values)
    with pytest.raises(InputError, match="silent over the whole track: s1"):
        score_images(three, ImagesOptions(taps=8, exact=True))


def test_a_stem_whose_estimate_is_silent_still_interferes() -> None:
    three = pairs(1, 3, 2, 3000)
    whole = score_images(three, ImagesOptions(taps=8)).values
    three.estimates[1] = 0
    scores = score_images(three, ImagesOptions(taps=8))
    assert scores.reasons == {"s1": "the estimate is silent throughout"}
    assert np.isnan(scores.values[:, 1]).all()
    np.testing.assert_allclose(scores.values[:, [0, 2]], whole[:, [0, 2]])


def test_a_perfect_estimate_is_infinitely_good() -> None:
    same = pairs(2, 2, 1, 1000)
    scores = score_images(
        ArrayPairs(same.names, same.references, same.references.copy(), RATE), ImagesOptions(taps=4)
    )
    assert np.isposinf(scores.values[METRICS.index("SDR")]).all()
    assert np.isnan(scores.median("SDR")["s0"])


def test_loading_rescues_references_without_bandwidth() -> None:
    """Noise below a fifth of the rate, true SIR and SAR 20 dB (the table of the conditioning)."""
    generator = np.random.default_rng(3)
    spectrum = np.fft.rfft(generator.standard_normal((3, 2, 40_000)))
    spectrum[..., spectrum.shape[-1] // 5 :] = 0
    voice, band, noise = np.fft.irfft(spectrum, 40_000)
    references = np.stack([voice, band])
    estimates = np.stack([voice + 0.1 * band + 0.1 * noise, band + 0.1 * voice + 0.1 * noise])
    whole = ImagesOptions(window_s=40_000 / RATE)
    values = score_images(ArrayPairs(("v", "b"), references, estimates, RATE), whole).values
    assert values[METRICS.index("SIR")] == pytest.approx(20, abs=1.0)
    assert values[METRICS.index("SAR")] == pytest.approx(20, abs=1.0)


def test_nonsense_is_refused() -> None:
    good = pairs(0, 2, 1, 500)
    with pytest.raises(OptionError):
        score_images(good, ImagesOptions(taps=0))
    broken = good.estimates.copy()
    broken[0, 0, 7] = np.nan
    with pytest.raises(InputError, match="not finite"):
        score_images(ArrayPairs(good.names, good.references, broken, RATE))
    with pytest.raises(InputError, match="shape"):
        ArrayPairs(good.names, good.references, good.estimates[..., :-1], RATE)
