"""The shipped graphs: valid, small, and of the networks that they say."""

import onnx
import pytest
import torch

from stemwright.models.demucs.architectures import ARCHITECTURES, HYBRID_TRANSFORM, Architecture
from stemwright.models.demucs.network import build_network
from stemwright.models.graphs.weightless import WeightlessGraph

EVERY = pytest.mark.parametrize(
    "architecture", ARCHITECTURES.values(), ids=lambda architecture: architecture.name
)
MAX_GRAPH_BYTES = 500_000


@EVERY
def test_shipped_graph_is_valid_and_small(architecture: Architecture) -> None:
    assert architecture.graph_path.stat().st_size < MAX_GRAPH_BYTES
    onnx.checker.check_model(str(architecture.graph_path))


@EVERY
def test_shipped_graph_wants_the_tensors_of_the_network(architecture: Architecture) -> None:
    with torch.device("meta"):
        state = build_network(architecture.config).state_dict()
    shapes = WeightlessGraph.read(architecture.graph_path).tensor_shapes
    assert shapes == {name: tuple(value.shape) for name, value in state.items()}


@EVERY
def test_shipped_graph_has_the_signature_of_the_manifest(architecture: Architecture) -> None:
    weightless = WeightlessGraph.read(architecture.graph_path)
    graph = weightless.model.graph
    shapes = {
        value.name: tuple(axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.output)
        if value.name not in weightless.recipes
    }
    samples, stems = architecture.segment_samples, len(architecture.config.sources)
    frames = HYBRID_TRANSFORM.frames(samples)
    batch = shapes["mixture"][0]
    expected = {
        "mixture": (batch, 2, samples),
        "spectrum": (batch, 4, 2048, frames),
        "spectra": (batch, stems, 4, 2048, frames),
        "waveforms": (batch, stems, 2, samples),
    }
    if not architecture.hybrid:
        expected = {"mixture": (1, 2, architecture.input_samples), "stems": (1, stems, 2, samples)}
    assert shapes == expected
    assert isinstance(batch, str) if architecture.batch == "dynamic" else batch == 1
    assert {port.name for port in architecture.graph.inputs} == set(shapes) & {"mixture", "spectrum"}
    assert [port.name for port in architecture.graph.outputs] == [value.name for value in graph.output]


@EVERY
def test_shipped_graph_is_neutral(architecture: Architecture) -> None:
    """Only the standard's own operators, and no arithmetic on shapes."""
    model = WeightlessGraph.read(architecture.graph_path).model
    assert [entry.domain for entry in model.opset_import] == [""]
    assert not model.functions
    names = {node.op_type for node in model.graph.node}
    assert names.isdisjoint({"Shape", "ConstantOfShape", "Range", "If", "Loop", "Scan", "Einsum"})


@pytest.mark.parametrize(("name", "given"), [("demucs_v2_10s", 447_146), ("demucs_v1_10s", 451_924)])
def test_waveform_networks_hear_context_around_their_segment(name: str, given: int) -> None:
    plan = ARCHITECTURES[name].plan
    assert (plan.input_samples, plan.output_samples) == (given, 441_000)
    assert plan.output_offset == (given - 441_000) // 2


def test_plan_is_that_of_the_reference() -> None:
    plan = ARCHITECTURES["htdemucs"].plan
    assert (plan.input_samples, plan.output_samples, plan.output_offset) == (343_980, 343_980, 0)
    assert (plan.overlap, plan.window, plan.tail) == (0.25, "triangle", "centred")
