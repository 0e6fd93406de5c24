"""Exported graphs compute what the networks compute, and the shipped ones are what is exported today."""

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch

from stemwright.models.demucs.architectures import DEMUCS_V2, DEMUCS_V3, HDEMUCS, HTDEMUCS, Architecture
from stemwright.models.demucs.configs import (
    HDemucsConfig,
    HTDemucsConfig,
    PaperDemucsConfig,
    TimeDemucsConfig,
)
from stemwright.models.demucs.export import export_weightless, random_network
from stemwright.models.demucs.network import HDemucs, HTDemucs, spectrum_of
from stemwright.models.demucs.waveform.layers import trim_centre
from stemwright.models.graphs.export import state_of
from stemwright.models.graphs.weightless import WeightlessGraph, compare

SMALL_HTDEMUCS = dataclasses.replace(
    HTDEMUCS,
    config=HTDemucsConfig(channels=8, bottom_channels=16, heads=2, transformer_layers=2, compression=4),
    segment_samples=10_001,
)
SMALL_HTDEMUCS_6S = dataclasses.replace(
    HTDEMUCS,
    config=HTDemucsConfig(channels=8, bottom_channels=0, heads=4, transformer_layers=2, compression=4),
    segment_samples=9_216,
)
# Both inner layers have more steps than one window of the LSTM, and more than the exporter folds.
SMALL_HDEMUCS = dataclasses.replace(HDEMUCS, config=HDemucsConfig(channels=8), segment_samples=1_060_000)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [SMALL_HTDEMUCS, SMALL_HTDEMUCS_6S, SMALL_HDEMUCS])
def test_filled_graph_computes_what_the_network_computes(architecture: Architecture) -> None:
    weightless = export_weightless(architecture, verify=False)
    network = random_network(architecture, seed=3)
    assert isinstance(network, HTDemucs | HDemucs)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)  # outputs near the size of the inputs, so that errors count
    model = weightless.fill(state_of(network), "float32")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 3) if architecture.batch == "dynamic" else (1,):
        mixture = torch.randn(batch, 2, architecture.segment_samples, generator=generator)
        spectrum = spectrum_of(mixture)
        with torch.no_grad():
            expected = network.core(mixture, spectrum)
        found = session.run(
            ["spectra", "waveforms"], {"mixture": mixture.numpy(), "spectrum": spectrum.numpy()}
        )
        for ours, theirs in zip(found, expected, strict=True):
            error = np.sqrt(np.mean((ours - theirs.numpy()) ** 2)) / float(theirs.std())
            assert 20 * np.log10(error) < -60


# Both inner layers of v3 have more steps than one window of the LSTM, and more than the exporter folds.
SMALL_V3 = dataclasses.replace(DEMUCS_V3, config=TimeDemucsConfig(channels=8), segment_samples=1_100_000)
# At 20,000 samples a place in time is 768, which is the LSTM's size at the least width:
# the exporter makes one constant of both, and the three graphs do not match.
SMALL_PAPER = dataclasses.replace(DEMUCS_V2, config=PaperDemucsConfig(channels=32), segment_samples=26_000)
SMALL_V1 = dataclasses.replace(
    SMALL_PAPER, config=PaperDemucsConfig(channels=40, resample=False), segment_samples=20_001
)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [SMALL_V3, SMALL_PAPER, SMALL_V1])
def test_waveform_graph_computes_what_the_network_computes(architecture: Architecture) -> None:
    """The paper's graphs follow from three narrower ones and were never exported at this width."""
    weightless = export_weightless(architecture, verify=False)
    network = random_network(architecture, seed=3)
    assert weightless.tensor_shapes == {name: tuple(v.shape) for name, v in network.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    model = weightless.fill(state_of(network), "float32")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    mixture = torch.randn(1, 2, architecture.input_samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(mixture)
    expected = trim_centre(expected, architecture.segment_samples).numpy()
    (found,) = session.run(["stems"], {"mixture": mixture.numpy()})
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() / expected.std() < 1e-4


@pytest.mark.slow
def test_shipped_htdemucs_is_what_is_exported_today() -> None:
    exported = export_weightless(HTDEMUCS, verify=False)
    assert compare(exported, WeightlessGraph.read(HTDEMUCS.graph_path)) == []
