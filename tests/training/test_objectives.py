from itertools import permutations
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import get_window

from stemwright.training import objectives

SPOKEN = torch.tensor([1.0, 2, 3, 4])
HEARD = torch.tensor([1.0, 2, 3, 5])


def test_si_snr_has_the_papers_pages_values() -> None:
    assert float(objectives.si_snr(HEARD, SPOKEN)) == pytest.approx(14.497, abs=1e-3)
    # Without the means' removal, as a function of signals that have none and the same products: 19.168.
    twofold = (torch.cat([HEARD, -HEARD]), torch.cat([SPOKEN, -SPOKEN]))
    assert float(objectives.si_snr(*twofold)) == pytest.approx(19.168, abs=1e-3)


@given(st.floats(0.01, 100), st.booleans())
def test_si_snr_does_not_hear_scale_or_sign(scale: float, flipped: bool) -> None:
    made = HEARD * (-scale if flipped else scale)
    assert float(objectives.si_snr(made, SPOKEN)) == pytest.approx(14.497, abs=2e-2)


def test_si_snr_of_a_perfect_estimate_is_its_limit() -> None:
    signal = torch.randn(2, 1000, generator=torch.manual_seed(0))
    values = objectives.si_snr(signal, signal, limit_db=30.0)
    assert values.tolist() == pytest.approx([30.0, 30.0], abs=1e-2)


@given(st.integers(2, 4), st.integers(0, 100))
def test_both_ways_find_the_order_that_brute_force_finds(sources: int, seed: int) -> None:
    values = torch.randn(3, sources, sources, generator=torch.manual_seed(seed))
    by_trial = objectives.order_by_trial(values)
    assert torch.equal(by_trial, objectives.order_by_assignment(values))
    for item, order in zip(values, by_trial, strict=True):
        sums = {
            one: sum(float(item[one[place], place]) for place in range(sources))
            for one in permutations(range(sources))
        }
        assert tuple(order.tolist()) == max(sums, key=lambda one: sums[one])


def test_six_sources_are_assigned() -> None:
    values = torch.randn(4, 6, 6, generator=torch.manual_seed(1))
    assert torch.equal(objectives.best_order(values), objectives.order_by_trial(values))


@given(st.permutations(range(3)))
def test_the_order_of_references_changes_no_loss(order: list[int]) -> None:
    generator = torch.manual_seed(2)
    made, true = (torch.randn(2, 3, 1, 500, generator=generator) for _ in range(2))
    loss, chosen = objectives.pit_si_snr(made, true)
    swapped, rechosen = objectives.pit_si_snr(made, true[:, order])
    assert float(loss) == pytest.approx(float(swapped), abs=1e-4)
    assert torch.equal(chosen[:, order], rechosen)


def test_one_order_serves_the_whole_utterance() -> None:
    # The second half alone would ask for the other order; PIT by frame would fall into this trap.
    true = torch.randn(1, 2, 1, 400, generator=torch.manual_seed(3))
    made = true.clone()
    made[..., 300:] = true[:, [1, 0], :, 300:]
    _, order = objectives.pit_si_snr(made, true)
    assert order.tolist() == [[0, 1]]


def test_cross_entropies_have_the_papers_pages_values() -> None:
    mask = torch.tensor([1.0, 0, 1, 0])
    perfect = torch.logit(objectives.NOT_VOICE + 0.96 * mask)
    assert float(objectives.mask_cross_entropy(perfect, mask)) == pytest.approx(0.0980, abs=1e-4)
    assert float(objectives.mask_cross_entropy(torch.zeros(4), mask)) == pytest.approx(0.6931, abs=1e-4)
    soft = torch.tensor([0.0, 0.1, 0.5, 0.25])
    entropy = -sum(x * log(x) + (1 - x) * log(1 - x) for x in soft.tolist() if x) / 4
    loss = objectives.autoencoder_cross_entropy(torch.logit(soft, eps=1e-12), soft)
    assert float(loss) == pytest.approx(entropy, abs=1e-5)


def test_a_tie_is_accompaniment() -> None:
    voice, other = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 1.0, 1.0])
    assert objectives.ideal_binary_mask(voice, other).tolist() == [0, 0, 1]


def test_the_multi_resolution_loss_is_the_definitions() -> None:
    rng = np.random.default_rng(4)
    made, true = rng.standard_normal((2, 3, 4000)) * 0.1
    expected = []
    for n_fft, hop, length in objectives.RESOLUTIONS:
        window = np.zeros(n_fft)
        window[(n_fft - length) // 2 :][:length] = get_window("hann", length)
        magnitudes = []
        for signals in (made, true):
            padded = np.pad(signals, ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
            starts = range(0, padded.shape[1] - n_fft + 1, hop)
            frames = np.stack([padded[:, start : start + n_fft] * window for start in starts], axis=1)
            magnitudes.append(np.maximum(np.abs(np.fft.rfft(frames)), 1e-7**0.5))
        found, wanted = magnitudes
        convergence = np.linalg.norm(wanted - found) / np.linalg.norm(wanted)
        expected.append(convergence + np.abs(np.log(found) - np.log(wanted)).mean())
    loss = objectives.multi_resolution_stft(torch.from_numpy(made).float(), torch.from_numpy(true).float())
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)


def test_waveform_losses_are_means() -> None:
    made, true = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0])
    assert float(objectives.waveform_l1(made, true)) == 1.25
    assert float(objectives.waveform_mse(made, true)) == 2.125
