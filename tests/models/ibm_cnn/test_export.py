"""The shipped graph, filled at true size, in both runtimes; and checkpoints on the way to it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint, read_checkpoint
from stemwright.models.checkpoints.writing import write_checkpoint
from stemwright.models.graphs.export import state_of
from stemwright.models.graphs.weightless import WeightlessGraph, compare
from stemwright.models.ibm_cnn.architectures import GRAPH_PATH, INPUT_FRAMES
from stemwright.models.ibm_cnn.building import IBM_CNN, build_model_folder
from stemwright.models.ibm_cnn.checkpoints import TENSORFLOW, config_of, tensors_of
from stemwright.models.ibm_cnn.configs import BINS, KLASS, IBMCNNConfig
from stemwright.models.ibm_cnn.export import export_weightless
from stemwright.models.ibm_cnn.network import IBMCNN, MaskNetwork
from stemwright.models.manifest import read_manifest
from stemwright.models.registry.families import family_of
from stemwright.models.sessions.runtimes.openvino_core import openvino_core
from tests.models.ibm_cnn.test_network import SMALL, magnitudes, network_of, tensorflow_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of the paper's size, imported from an archive of the authors' variables."""
    source = tmp_path_factory.mktemp("source") / "variables.npz"
    np.savez(source, **tensorflow_arrays(IBMCNNConfig()))  # type: ignore[arg-type]
    built = tmp_path_factory.mktemp("model")
    checkpoint = read_checkpoint(source)
    family = family_of(checkpoint)
    assert (family, family.architecture_of(checkpoint)) == (IBM_CNN, "ibm_cnn")
    family.build(checkpoint, name="mine", folder=built)
    yield built


@pytest.mark.slow
def test_the_filled_graph_computes_what_the_network_computes(folder: Path) -> None:
    net = network_of(tensorflow_arrays(IBMCNNConfig()), IBMCNNConfig())
    magnitude = magnitudes(1, 1, BINS, INPUT_FRAMES)
    with torch.no_grad():
        expected = MaskNetwork(net)(torch.from_numpy(magnitude)).numpy()
    path = folder / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["masks"], {"magnitude": magnitude})
    assert found.shape == (1, 2, 1, BINS, INPUT_FRAMES)
    assert np.abs(found - expected).max() < 1e-4
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.abs(compiled({"magnitude": magnitude})[0] - found).max() < 1e-4
    assert 11_079_953 * 4 < path.stat().st_size < 11_079_953 * 4 + 20_000
    manifest = read_manifest(folder)
    assert (manifest.stems, manifest.family) == (("vocals", "accompaniment"), "ibm_cnn")


@pytest.mark.slow
def test_the_shipped_graph_is_what_is_exported_today() -> None:
    assert compare(export_weightless(verify=False), WeightlessGraph.read(GRAPH_PATH)) == []


def test_the_graph_takes_what_the_network_has() -> None:
    with torch.device("meta"):
        state = IBMCNN().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert WeightlessGraph.read(GRAPH_PATH).tensor_shapes == shapes


def test_our_own_checkpoints_say_what_they_are(tmp_path: Path) -> None:
    net = network_of(tensorflow_arrays(SMALL), SMALL)
    config = IBMCNNConfig(channels=SMALL.channels, hidden=SMALL.hidden, theta=0.2, mirror="off_by_one")
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, state_of(net), klass=KLASS, kwargs=config.arguments())
    checkpoint = read_checkpoint(path)
    assert family_of(checkpoint) is IBM_CNN
    assert config_of(checkpoint) == config
    np.testing.assert_array_equal(tensors_of(checkpoint)["conv2.weight"], net.conv2.weight.detach().numpy())
    with pytest.raises(ModelFileError, match=r"channels \(4, 3, 5, 4\)"):
        build_model_folder(checkpoint, name="mine", folder=tmp_path)


def test_variables_by_number_need_to_be_told_what_they_are(tmp_path: Path) -> None:
    named = tensorflow_arrays(SMALL)
    np.savez(tmp_path / "a.npz", *named.values())
    found = read_checkpoint(tmp_path / "a.npz")
    with pytest.raises(ModelFileError, match="cannot be placed"):
        family_of(found)
    told = Checkpoint(tensors=found.tensors, kind="npz", like=TENSORFLOW)
    assert family_of(told) is IBM_CNN
    expected = tensors_of(Checkpoint(tensors=named, kind="npz"))
    for name, value in tensors_of(told).items():
        np.testing.assert_array_equal(value, expected[name])


def test_what_does_not_fit_is_named() -> None:
    arrays = tensorflow_arrays(SMALL)
    del arrays["Conv3/biases/Variable:0"]
    with pytest.raises(ModelFileError, match="Conv3/biases/Variable"):
        tensors_of(Checkpoint(tensors=arrays, kind="npz"))
    arrays["Conv3/biases/Variable:0"] = np.zeros(5, np.float32)
    arrays["Conv1/weights/Variable:0"] = np.zeros((3, 12), np.float32)
    with pytest.raises(ModelFileError, match="weights of Conv1 have 2 axes"):
        tensors_of(Checkpoint(tensors=arrays, kind="npz"))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"theta": 1.0},
        {"theta": "x"},
        {"mirror": "x"},
        {"channels": [1, 2]},
        {"hidden": "ab"},
        {"compression": "x"},
        {"other": 1},
    ],
)
def test_settings_that_no_network_has(kwargs: dict[str, object]) -> None:
    checkpoint = Checkpoint(tensors={}, klass=KLASS, kwargs=kwargs, kind="safetensors")  # type: ignore[arg-type]
    with pytest.raises(ModelFileError):
        config_of(checkpoint)
