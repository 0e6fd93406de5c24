"""The IBM-CNN in the engine: what cutting into calls, the gate and the filling of edges do."""

import numpy as np
import pytest
import torch

from stemwright.core.arrays import FloatArray
from stemwright.models.ibm_cnn.architectures import INPUT_FRAMES, PLAN, graph, transform
from stemwright.models.ibm_cnn.building import make_manifest
from stemwright.models.ibm_cnn.configs import BINS, HOP, STEMS, IBMCNNConfig
from stemwright.models.ibm_cnn.network import IBMCNN, MaskNetwork
from stemwright.models.manifest import Licence, Manifest, WeightsOrigin
from stemwright.models.separation.members import Member
from stemwright.models.separation.separator import SeparationOptions, Separator
from tests.models.contract import assert_keeps_contract
from tests.models.ibm_cnn.test_network import network_of, tensorflow_arrays
from tests.support.fake_sessions import noise, separate_array
from tests.support.torch_session import TorchSession

TINY = IBMCNNConfig(channels=(2, 2, 2, 2), hidden=(8, 4), theta=0.35)
RATE = 22_050


def tiny_network() -> IBMCNN:
    """Masks of its own spread around a half, so that the gate cuts some."""
    net = network_of(tensorflow_arrays(TINY, seed=3), TINY)
    with torch.no_grad():
        net.output.weight.mul_(3)
    return net


def manifest_of(config: IBMCNNConfig) -> Manifest:
    return make_manifest(config, name="tiny", licence=Licence(name="x", text=""), origin=WeightsOrigin())


def separate(
    net: IBMCNN, config: IBMCNNConfig, samples: FloatArray, **options: object
) -> dict[str, FloatArray]:
    manifest = manifest_of(config)
    session = TorchSession(module=MaskNetwork(net).eval(), graph=manifest.graph)
    member = Member(name="tiny", manifest=manifest, gains=dict.fromkeys(STEMS, 1.0), opener=lambda: session)
    with Separator([member], STEMS) as separator:
        return separate_array(separator, samples, RATE, SeparationOptions(**options))  # type: ignore[arg-type]


def whole_track(net: IBMCNN, theta: float, samples: FloatArray) -> dict[str, FloatArray]:
    """The same in one piece, as the paper's page says it."""
    front = transform()
    spectrum = front.forward(samples)
    with torch.no_grad():
        masks = MaskNetwork(net)(torch.from_numpy(np.abs(spectrum))[:, None]).numpy()
    masks[masks < theta] = 0
    return {
        stem: front.inverse(spectrum * masks[:, index, 0], samples.shape[-1])
        for index, stem in enumerate(STEMS)
    }


def check_cutting(samples: int) -> None:
    net, mixture = tiny_network(), noise(1, samples, level=0.3)
    expected = whole_track(net, TINY.theta, mixture)
    found = separate(net, TINY, mixture, remainder="network")
    for stem in STEMS:
        assert found[stem].shape == mixture.shape
        assert np.abs(found[stem] - expected[stem]).max() < 1e-6


@pytest.mark.parametrize("samples", [1, 700, PLAN.output_samples + 1])
def test_cutting_into_calls_changes_nothing(samples: int) -> None:
    check_cutting(samples)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [5 * HOP, PLAN.output_samples, 2 * PLAN.output_samples + 777])
def test_cutting_into_calls_changes_nothing_at_other_lengths(samples: int) -> None:
    check_cutting(samples)


def test_the_accompaniment_is_the_remainder_unless_the_networks_is_wanted() -> None:
    net, mixture = tiny_network(), noise(2, 3000, level=0.3)
    found = separate(net, TINY, mixture)
    expected = whole_track(net, TINY.theta, mixture)
    assert np.abs(found["vocals"] - expected["vocals"]).max() < 1e-6
    assert np.abs(found["accompaniment"] - (mixture - expected["vocals"])).max() < 1e-6


def test_without_a_gate_the_masks_stems_add_up() -> None:
    net, mixture = tiny_network(), noise(1, 9000, level=0.3)
    open_gate = IBMCNNConfig(channels=TINY.channels, hidden=TINY.hidden, theta=0)
    found = separate(net, open_gate, mixture, remainder="network")
    total = found["vocals"] + found["accompaniment"]
    inside = slice(1024, -1024)
    assert np.abs(total - mixture)[:, inside].max() < 1e-6
    gated = separate(net, TINY, mixture, remainder="network")
    assert np.abs(gated["vocals"] - found["vocals"]).max() > 1e-3  # the gate is at work


def test_silence_gives_silence() -> None:
    found = separate(tiny_network(), TINY, np.zeros((2, 30_000), np.float32), remainder="network")
    assert not any(stem.any() for stem in found.values())


def test_frames_that_are_used_see_whole_patches() -> None:
    """Change everything outside of what the plan's used samples may depend on: nothing happens to them."""
    net, front = tiny_network(), transform()
    assert front.frames(PLAN.input_samples) == INPUT_FRAMES

    def stems(window: FloatArray) -> FloatArray:
        spectrum = front.forward(window)
        with torch.no_grad():
            masks = MaskNetwork(net)(torch.from_numpy(np.abs(spectrum))[None]).numpy()
        used = front.inverse(spectrum * masks[0, 0], PLAN.input_samples)
        return used[:, PLAN.output_offset : PLAN.output_offset + PLAN.output_samples]

    window = noise(1, PLAN.input_samples)
    longer = np.concatenate([noise(1, 4 * HOP, seed=1), window, noise(1, 4 * HOP, seed=2)], axis=1)
    spectrum = front.forward(longer)
    with torch.no_grad():
        masks = MaskNetwork(net)(torch.from_numpy(np.abs(spectrum))[None]).numpy()
    whole = front.inverse(spectrum * masks[0, 0], longer.shape[1])
    start = 4 * HOP + PLAN.output_offset
    assert np.abs(stems(window) - whole[:, start : start + PLAN.output_samples]).max() < 1e-6


@pytest.mark.parametrize("level", [1e-6, 1e-3])
def test_what_the_filling_of_outer_frames_does_is_bounded(level: float) -> None:
    """The paper fills with the clip's smallest magnitude, the engine with 0.

    Layer by layer in the largest value: a convolution or dense layer enlarges a difference at most by the
    largest sum of a unit's absolute weights, ReLU and pooling not at all, the sigmoid by a quarter. The
    output's units see the last four frames of a clip.
    """
    net = tiny_network()
    frames = torch.from_numpy(
        0.3 * np.abs(np.random.default_rng(0).standard_normal((1, 1, 5, BINS), np.float32))
    )
    bound = level / 4
    for name, parameter in net.named_parameters():
        if name.endswith("weight"):
            bound *= float(parameter.detach().abs().flatten(1).sum(dim=1).max())
    with torch.no_grad():
        masks = [
            torch.sigmoid(net(torch.nn.functional.pad(frames, (0, 0, 0, 4), value=fill)))
            for fill in (0.0, level)
        ]
    assert 0 < float((masks[0] - masks[1]).abs().max()) <= bound + 1e-7


@pytest.mark.slow
def test_a_tiny_network_keeps_the_contract() -> None:
    manifest = manifest_of(TINY)
    assert_keeps_contract(
        manifest, TorchSession(module=MaskNetwork(tiny_network()).eval(), graph=manifest.graph)
    )


def test_the_signature() -> None:
    made = graph(IBMCNNConfig(theta=0.15, mirror="off_by_one"))
    assert (made.gate, made.outside_frames) == (0.15, "zero")
    assert made.transform is not None and made.transform.mirror == "off_by_one"
    assert graph(IBMCNNConfig()).gate == 0.35
