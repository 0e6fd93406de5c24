"""The released networks of the paper at their true size, in calls of 10 s; tiny ones: test_export.py."""

import gc

import numpy as np
import onnxruntime
import pytest
import torch

from stemwright.models.demucs.architectures import ARCHITECTURES
from stemwright.models.demucs.export import random_network
from stemwright.models.demucs.waveform.layers import trim_centre
from stemwright.models.graphs.export import state_of
from stemwright.models.graphs.weightless import WeightlessGraph


@pytest.mark.long  # up to 5 GiB, some minutes
@pytest.mark.parametrize("name", ["demucs_v2_48_10s", "demucs_v2_10s"])
def test_onnx_runtime_computes_what_torch_computes(name: str) -> None:
    architecture = ARCHITECTURES[name]
    network = random_network(architecture, seed=3)
    mixture = torch.randn(1, 2, architecture.input_samples, generator=torch.Generator().manual_seed(0)) * 0.3
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
        expected = trim_centre(network(mixture), architecture.segment_samples).numpy()
    model = WeightlessGraph.read(architecture.graph_path).fill(state_of(network), "float32")
    del network
    gc.collect()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    del model
    (found,) = session.run(["stems"], {"mixture": mixture.numpy()})
    assert float(np.abs(found - expected).max() / expected.std()) < 1e-4
