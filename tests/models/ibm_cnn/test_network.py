"""The IBM-CNN against a transcription in numpy on TensorFlow's layouts, and its serving forms."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.ibm_cnn.architectures import PARAMETERS
from stemwright.models.ibm_cnn.checkpoints import tensors_of
from stemwright.models.ibm_cnn.configs import BINS, IBMCNNConfig
from stemwright.models.ibm_cnn.network import IBMCNN, MaskNetwork, centred

SMALL = IBMCNNConfig(channels=(4, 3, 5, 4), hidden=(16, 8))
_SCOPES = ("Conv1", "Conv2", "Conv3", "Conv4", "fullyConnect1", "fullyConnect2", "ouputLayer")

Arrays = dict[str, NDArray[np.float32]]


def tensorflow_arrays(config: IBMCNNConfig, seed: int = 0) -> Arrays:
    """Random variables of the authors' graph, named and laid out as TensorFlow has them."""
    source = np.random.default_rng(seed)
    layers = [(3, 12, before, after) for before, after in pairwise((1, *config.channels))]
    dense = (config.features, *config.hidden, 9 * BINS)
    shapes = [*layers, *pairwise(dense)]
    arrays: Arrays = {}
    for scope, shape in zip(_SCOPES, shapes, strict=True):
        scale = 2.0 / np.sqrt(np.prod(shape[:-1]))
        arrays[f"{scope}/weights/Variable:0"] = (source.standard_normal(shape) * scale).astype(np.float32)
        arrays[f"{scope}/biases/Variable:0"] = source.normal(0.1, 0.1, shape[-1]).astype(np.float32)
    return arrays


def transcribed_logits(arrays: Arrays, patch: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits of one patch [9, 2049] in float64, [time, frequency, channel] throughout."""
    values = patch.astype(np.float64)[:, :, None]
    for index, scope in enumerate(_SCOPES[:4]):
        padded = np.pad(values, ((1, 1), (5, 6), (0, 0)))
        windows = sliding_window_view(padded, (3, 12), (0, 1))  # [time, frequency, in, 3, 12]
        weights = arrays[f"{scope}/weights/Variable:0"].astype(np.float64)
        values = np.einsum("tfikl,klio->tfo", windows, weights, optimize=True)
        values = np.maximum(values + arrays[f"{scope}/biases/Variable:0"], 0)
        if index % 2:
            left, right = {2049: (1, 2), 171: (4, 5)}[values.shape[1]]
            padded = np.pad(values, ((0, 0), (left, right), (0, 0)), constant_values=-np.inf)
            values = padded.reshape(9, -1, 12, values.shape[2]).max(axis=2)
    flat = values.reshape(-1)
    for scope in _SCOPES[4:]:
        flat = flat @ arrays[f"{scope}/weights/Variable:0"].astype(np.float64)
        flat = flat + arrays[f"{scope}/biases/Variable:0"]
        flat = flat if scope == "ouputLayer" else np.maximum(flat, 0)
    return np.asarray(flat)


def network_of(arrays: Arrays, config: IBMCNNConfig) -> IBMCNN:
    tensors = tensors_of(Checkpoint(tensors=arrays, kind="npz"))
    net = IBMCNN(config).eval()
    net.load_state_dict(
        {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, strict=True
    )
    return net


def magnitudes(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Like those of music at full scale: up to about 0.5."""
    return (0.5 * np.random.default_rng(seed).random(shape) ** 4).astype(np.float32)


def test_parameters_are_the_papers() -> None:
    with torch.device("meta"):
        net = IBMCNN()
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in net.named_children()}
    assert counts == {
        "conv1": 1_184,
        "conv2": 18_448,
        "conv3": 36_928,
        "conv4": 73_760,
        "dense1": 8_849_408,
        "dense2": 1_049_088,
        "output": 9_460_233,
        "dropout": 0,
    }
    assert sum(counts.values()) == PARAMETERS == 19_489_049
    served = sum(counts.values()) - counts["output"] + counts["output"] // 9
    assert served == 11_079_953


def test_initial_values() -> None:
    net = IBMCNN(SMALL)
    assert all(bool((layer.bias == 0.1).all()) for layer in net.convolutions if layer.bias is not None)
    bound = np.sqrt(6 / (36 * (3 + 5)))
    assert 0.9 * bound < float(net.conv3.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("seed", [0, 1])
def test_a_patch_as_the_transcription_has_it(seed: int) -> None:
    arrays = tensorflow_arrays(SMALL, seed)
    patches = magnitudes(2, 9, BINS, seed=seed)
    with torch.no_grad():
        found = network_of(arrays, SMALL)(torch.from_numpy(patches)[:, None]).numpy()
    assert found.shape == (2, 9 * BINS)
    for logits, patch in zip(found, patches, strict=True):
        expected = transcribed_logits(arrays, patch)
        assert np.abs(logits - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.slow
def test_a_patch_of_the_papers_network_as_the_transcription_has_it() -> None:
    arrays = tensorflow_arrays(IBMCNNConfig())
    patch = magnitudes(9, BINS)
    with torch.no_grad():
        found = network_of(arrays, IBMCNNConfig())(torch.from_numpy(patch)[None, None])[0].numpy()
    expected = transcribed_logits(arrays, patch)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("frames", [1, 4, 23])
def test_masks_are_the_centres_of_the_patches_around_each_frame(frames: int) -> None:
    net = network_of(tensorflow_arrays(SMALL), SMALL)
    magnitude = torch.from_numpy(magnitudes(2, 1, BINS, frames))
    with torch.no_grad():
        apart = MaskNetwork(net, "none")(magnitude)
        shared = MaskNetwork(net)(magnitude)
        padded = torch.nn.functional.pad(magnitude[:, 0].transpose(1, 2), (0, 0, 4, 4))
        patches = padded.unfold(1, 9, 1).transpose(2, 3)  # [B, N, 9, F]
        logits = net(patches.reshape(-1, 1, 9, BINS)).reshape(2, frames, 9, BINS)
    voice = torch.sigmoid(logits[:, :, 4]).transpose(1, 2)
    assert shared.shape == (2, 2, 1, BINS, frames)
    assert float((shared[:, 0, 0] - voice).abs().max()) < 1e-6
    assert float((shared - apart).abs().max()) < 1e-6
    assert float((shared.sum(dim=1) - 1).abs().max()) < 1e-6
    assert float(voice.std()) > 0.01  # the masks say something


def test_compressed_magnitudes() -> None:
    arrays = tensorflow_arrays(SMALL)
    compressed = IBMCNNConfig(channels=SMALL.channels, hidden=SMALL.hidden, compression="log")
    patch = magnitudes(1, 9, BINS)[0]
    with torch.no_grad():
        found = network_of(arrays, compressed)(torch.from_numpy(patch)[None, None])[0].numpy()
    expected = transcribed_logits(arrays, np.log1p(1e4 * patch) / 4)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    net = network_of(arrays, compressed)
    magnitude = torch.from_numpy(magnitudes(2, 1, BINS, 23))
    with torch.no_grad():
        assert float((MaskNetwork(net)(magnitude) - MaskNetwork(net, "none")(magnitude)).abs().max()) < 1e-5


def test_masks_need_the_centre_rows_alone() -> None:
    net = network_of(tensorflow_arrays(SMALL), SMALL)
    magnitude = torch.from_numpy(magnitudes(1, 1, BINS, 12))
    with torch.no_grad():
        whole = MaskNetwork(net)(magnitude)
        kept = centred(net)
        assert kept.output.weight.shape == (BINS, SMALL.hidden[1])
        assert float((MaskNetwork(kept)(magnitude) - whole).abs().max()) < 1e-6


def test_patches_of_a_batch_do_not_touch_each_other() -> None:
    net = network_of(tensorflow_arrays(SMALL), SMALL)
    patches = torch.from_numpy(magnitudes(5, 1, 9, BINS))
    with torch.no_grad():
        together, alone = net(patches), torch.cat([net(patch[None]) for patch in patches])
    assert float((together - alone).abs().max()) < 1e-6 * float(alone.abs().max()) * 4


def test_gradients_reach_every_parameter() -> None:
    net = IBMCNN(SMALL)
    net(torch.from_numpy(magnitudes(3, 1, 9, BINS))).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
