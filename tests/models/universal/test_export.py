"""The shipped graphs, one filled at true size in both runtimes and held to the contract."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from stemwright.core.arrays import ComplexArray, FloatArray
from stemwright.models.checkpoints import read_checkpoint
from stemwright.models.graphs.roles import model_inputs, stems_from_outputs
from stemwright.models.graphs.weightless import WeightlessGraph, compare
from stemwright.models.manifest import Manifest, read_manifest
from stemwright.models.registry.families import family_of
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.sessions.opening import SessionOptions, open_session
from stemwright.models.sessions.runtimes.openvino_core import openvino_core
from stemwright.models.universal.architectures import RULES, graph_path
from stemwright.models.universal.configs import SEGMENT_SAMPLES, ResUNetConfig
from stemwright.models.universal.export import export_weightless
from stemwright.models.universal.network import serving_form
from tests.models.contract import assert_keeps_contract
from tests.models.universal.released import write_released
from tests.models.universal.test_network import conditions, network, signal
from tests.models.universal.transcription import random_state


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of the paper's size, imported from a checkpoint of the released form."""
    config = ResUNetConfig()
    path = tmp_path_factory.mktemp("source") / "a.ckpt"
    checkpoint = read_checkpoint(write_released(path, random_state(527, config.channels, 0)))
    built = tmp_path_factory.mktemp("model")
    family_of(checkpoint).build(checkpoint, name="mine", folder=built)
    path.unlink()
    yield built


def stems(manifest: Manifest, mask: FloatArray, spectrum: ComplexArray) -> FloatArray:
    return stems_from_outputs(manifest.graph, {"mask": mask}, spectrum, SEGMENT_SAMPLES)[:, 0]


@pytest.mark.slow
def test_a_released_checkpoint_to_stems(folder: Path) -> None:
    """The file, read, built and run in both runtimes, against the network in torch: by the waveform.

    The mask turns by the direction of two values, which is open where both are zero.
    """
    mixture, condition = signal(1, SEGMENT_SAMPLES), conditions(1, 527)
    with torch.no_grad():
        expected = network(ResUNetConfig())(mixture, condition).numpy()
    manifest = read_manifest(folder)
    assert isinstance(manifest, Manifest)
    inputs = model_inputs(manifest.graph, mixture.numpy(), condition=condition.numpy())
    assert inputs.spectrum is not None
    path = folder / "model.onnx"
    assert path.stat().st_size < 25_747_781 * 4 + 100_000
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (mask,) = session.run(["mask"], inputs.arrays)
    found = stems(manifest, mask, inputs.spectrum)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    other = stems(manifest, compiled(inputs.arrays)[0], inputs.spectrum)
    assert np.abs(other - found).max() < 1e-4 * np.abs(found).max()


@pytest.mark.slow
def test_the_papers_network_keeps_the_contract(folder: Path, tmp_path: Path) -> None:
    model = open_model(folder)
    assert isinstance(model, InstalledModel)
    session = open_session(model, SessionOptions(cache_dir=tmp_path, device="cpu", precision="float32"))
    try:
        assert_keeps_contract(model.manifest, session, batch_size=1)
    finally:
        session.close()


@pytest.mark.slow
def test_a_shipped_graph_is_what_is_exported_today() -> None:
    config = ResUNetConfig(condition_size=521)
    assert compare(export_weightless(config, verify=False), WeightlessGraph.read(graph_path(config))) == []


@pytest.mark.parametrize("size", RULES)
def test_each_graph_takes_what_the_serving_form_has(size: int) -> None:
    config = ResUNetConfig(condition_size=size)
    with torch.device("meta"):
        state = serving_form(config).state_dict()
    graph = WeightlessGraph.read(graph_path(config))
    assert graph.tensor_shapes == {name: tuple(value.shape) for name, value in state.items()}


def test_graphs_of_other_sizes_differ_in_the_condition_only() -> None:
    graphs = {size: WeightlessGraph.read(graph_path(ResUNetConfig(condition_size=size))) for size in RULES}
    first = graphs[521]
    for size, graph in graphs.items():
        kinds = [node.op_type for node in graph.model.graph.node]
        assert kinds == [node.op_type for node in first.model.graph.node]
        differing = {name for name in graph.recipes if graph.recipes[name] != first.recipes[name]}
        assert differing == (set() if size == 521 else {"film.joint.weight"})
