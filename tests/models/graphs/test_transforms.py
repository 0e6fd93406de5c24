"""The graph form against the host form: transforms alone, then whole models of every role."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.core.transforms import Transform
from stemwright.models.graphs.fourier import NodeList, forward_nodes, inverse_nodes
from stemwright.models.graphs.roles import model_inputs, stems_from_outputs
from stemwright.models.graphs.transforms import (
    standalone_graph,
    standalone_model,
    stems_given,
    why_not_standalone,
)
from stemwright.models.manifest import Graph, Manifest
from tests.support.fake_kinds import asked_manifest, remembering_manifest
from tests.support.fake_sessions import fake_manifest
from tests.support.tiny_models import gain_graph
from tests.support.transforms import FAMILIES, HTDEMUCS, noise, relative_error

SMALL = Transform(n_fft=256, hop=64, zeroed_synthesis_bins=1)
STEM_COUNT = 3
PLAIN_OPERATORS = {
    *("Add", "Concat", "Identity", "MatMul", "Mul", "Pad", "ReduceSum", "Reshape", "Slice", "Sqrt", "Sum"),
    *("Transpose", "Unsqueeze", "Sigmoid", "Sub"),
}


def run(model: onnx.ModelProto, **inputs: FloatArray) -> list[FloatArray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: list[FloatArray] = session.run(None, inputs)
    return results


def finished(
    nodes: NodeList, result: str, before: tuple[Any, ...], after: tuple[Any, ...], opset: int = 17
) -> onnx.ModelProto:
    """Model of these nodes with one input `x`, checked."""
    graph = helper.make_graph(
        nodes.nodes,
        "transform",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, before)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, after)],
        nodes.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def forward_model(transform: Transform, channels: int, samples: int, opset: int = 17) -> onnx.ModelProto:
    nodes = NodeList("t/")
    result = forward_nodes(nodes, transform, "x", channels, samples)
    shape = ("batch", channels, 2, transform.bins, transform.frames(samples))
    return finished(nodes, result, ("batch", channels, samples), shape, opset)


def inverse_model(transform: Transform, rows: int, samples: int, opset: int = 17) -> onnx.ModelProto:
    nodes = NodeList("t/")
    result = inverse_nodes(nodes, transform, "x", rows, samples)
    shape = ("batch", rows, 2, transform.bins, transform.frames(samples))
    return finished(nodes, result, shape, ("batch", rows, samples), opset)


def check_equal_to_host(transform: Transform, samples: int, opset: int = 17) -> None:
    """Compare both directions at a batch of two; the inverse on a spectrum that is no signal's."""
    waveform = noise(2, 2, samples)
    (spectrum,) = run(forward_model(transform, 2, samples, opset), x=waveform)
    assert relative_error(spectrum, transform.forward_planes(waveform)) < 1e-5
    planes = noise(2, 3, 2, transform.bins, transform.frames(samples), seed=1)
    (result,) = run(inverse_model(transform, 3, samples, opset), x=planes)
    expected = transform.inverse_planes(planes[:, :, 0], planes[:, :, 1], samples)
    # Where hardly a window reaches, both divide rounding errors by next to nothing.
    envelope = transform.inverse_envelope(samples)
    allowed = 1.0 if envelope is None else np.maximum(1.0, envelope / np.median(envelope))
    assert (np.abs(result - expected) <= 1e-5 * allowed * np.median(np.abs(expected)) * 4).all()


class TestTransforms:
    @pytest.mark.parametrize("opset", [17, 18])
    @pytest.mark.parametrize("name", FAMILIES)
    def test_every_family(self, name: str, opset: int) -> None:
        check_equal_to_host(FAMILIES[name], 12_345, opset)

    @pytest.mark.slow
    def test_the_segment_of_the_released_demucs(self) -> None:
        check_equal_to_host(HTDEMUCS, 343_980)

    @pytest.mark.parametrize("n_fft", [5120, 7680])
    def test_the_lengths_of_mdx_files(self, n_fft: int) -> None:
        check_equal_to_host(Transform(n_fft=n_fft, hop=1024, kept_bins=2048, zeroed_analysis_bins=3), 15_360)

    @settings(deadline=None, max_examples=60)
    @given(
        half=st.integers(4, 200),
        hop_share=st.floats(0.05, 1.0),
        window_share=st.floats(0.5, 1.0),
        window=st.sampled_from(["hann", "rectangular"]),
        scales=st.tuples(st.sampled_from(["none", "unit_sum"]), st.sampled_from(["none", "unitary"])),
        padding=st.sampled_from(["reflect", "zero", "none"]),
        outer=st.sampled_from(["none", "none", "hop_aligned", "even_frames"]),
        count=st.sampled_from(["torch", "torch", "ceil"]),
        dropped=st.integers(0, 2),
        bins_share=st.floats(0.1, 1.0),
        zeroed=st.tuples(st.integers(0, 3), st.integers(0, 3)),
        synthesis=st.sampled_from(["window", "central_cut", "none"]),
        extra=st.integers(0, 1000),
    )
    def test_any_variant(
        self,
        half: int,
        hop_share: float,
        window_share: float,
        window: Any,
        scales: tuple[Any, Any],
        padding: Any,
        outer: Any,
        count: Any,
        dropped: int,
        bins_share: float,
        zeroed: tuple[int, int],
        synthesis: Any,
        extra: int,
    ) -> None:
        span = max(4, int(2 * half * window_share))
        try:
            transform = Transform(
                n_fft=2 * half,
                hop=max(1, int(span * hop_share)),
                window=window,
                window_length=span,
                window_scale=scales[0],
                spectrum_scale=scales[1],
                padding=padding,
                outer_padding=outer,
                frame_count=count,
                dropped_edge_frames=dropped if outer == "hop_aligned" else 0,
                kept_bins=max(4, int((half + 1) * bins_share)),
                zeroed_analysis_bins=zeroed[0],
                zeroed_synthesis_bins=zeroed[1],
                synthesis=synthesis,
            )
        except ValidationError:
            return  # contradictions are tested with the data
        check_equal_to_host(transform, 6 * half + extra)

    def test_steady_state_with_and_without_a_cut(self) -> None:
        for synthesis in ("window", "central_cut", "none"):
            check_equal_to_host(
                Transform.model_validate(
                    {
                        "n_fft": 128,
                        "hop": 12,
                        "window_length": 48,
                        "padding": "zero",
                        "synthesis": synthesis,
                        "normalisation": "steady_state",
                    }
                ),
                777,
            )

    def test_nothing_scatters_and_the_file_stays_small(self) -> None:
        for model in (forward_model(HTDEMUCS, 2, 343_980), inverse_model(HTDEMUCS, 8, 343_980)):
            assert {node.op_type for node in model.graph.node} <= PLAIN_OPERATORS
            assert len(model.graph.node) < 20
            assert model.ByteSize() < 4_000_000

    def test_equal_constants_are_stored_once(self) -> None:
        nodes = NodeList("t/")
        assert nodes.integers(1, 2) == nodes.integers(1, 2) != nodes.integers(2, 1)
        one = np.ones(1, np.float32)
        assert nodes.constant(one) != nodes.constant(one.view(np.int32))
        assert len(nodes.initializers) == 4


class Core:
    """A small nonlinear core of any roles: each output takes the first input of a kindred shape."""

    def __init__(self, transform: Transform, channels: int, samples: int) -> None:
        self.plane = (transform.bins, transform.frames(samples))
        self.channels = channels
        self.samples = samples

    def shape(self, role: str) -> tuple[int, ...]:
        """Shape of a port of this role, without batch and stems."""
        return {
            "waveform": (self.channels, self.samples),
            "cac": (2 * self.channels, *self.plane),
            "magnitude": (self.channels, *self.plane),
            "mask": (self.channels, *self.plane),
        }.get(role, (self.channels, *self.plane, 2))

    def model(self, pairs: list[tuple[str, str]]) -> onnx.ModelProto:
        """Input role and output role pairwise: output = sigmoid(input * gain of the stem) + offset."""
        nodes, inputs, outputs, weights = [], [], [], []
        for index, (source, target) in enumerate(pairs):
            gains = np.random.default_rng(index).uniform(-1, 1, (1, STEM_COUNT, *self.tail(source, target)))
            weights.append(numpy_helper.from_array(gains.astype(np.float32), f"gains{index}"))
            axes = [1, -1] if len(self.shape(target)) > len(self.shape(source)) else [1]
            weights.append(numpy_helper.from_array(np.asarray(axes, np.int64), f"axes{index}"))
            nodes += [
                helper.make_node("Unsqueeze", [f"in{index}", f"axes{index}"], [f"column{index}"]),
                helper.make_node("Mul", [f"column{index}", f"gains{index}"], [f"scaled{index}"]),
                helper.make_node("Sigmoid", [f"scaled{index}"], [f"bent{index}"]),
                helper.make_node("Add", [f"bent{index}", f"scaled{index}"], [f"out{index}"]),
            ]
            inputs.append(self.port(f"in{index}", ("batch", *self.shape(source))))
            outputs.append(self.port(f"out{index}", ("batch", STEM_COUNT, *self.shape(target))))
        graph = helper.make_graph(nodes, "core", inputs, outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        model.metadata_props.add(key="origin", value="a test")
        onnx.checker.check_model(model, full_check=True)
        return model

    def tail(self, source: str, target: str) -> tuple[int, ...]:
        """Shape of one stem's gains."""
        shape = [1] * len(self.shape(target))
        if len(self.shape(target)) > len(self.shape(source)):
            shape[-1] = 2
        return tuple(shape)

    @staticmethod
    def port(name: str, shape: tuple[Any, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def signature(pairs: list[tuple[str, str]], transform: Transform | None) -> Graph:
    return Graph.model_validate(
        {
            "inputs": [{"name": f"in{index}", "role": source} for index, (source, _) in enumerate(pairs)],
            "outputs": [{"name": f"out{index}", "role": target} for index, (_, target) in enumerate(pairs)],
            "transform": transform,
        }
    )


ROLE_PAIRS = [
    [("waveform", "waveform")],
    [("cac", "cac")],
    [("complex", "spectra")],
    [("magnitude", "mask")],
    [("magnitude", "complex_mask")],
    [("complex", "complex_mask")],
    [("waveform", "waveform"), ("cac", "cac")],
    [("waveform", "waveform"), ("magnitude", "mask"), ("complex", "spectra"), ("cac", "cac")],
]


class TestStandalone:
    @pytest.mark.parametrize("pairs", ROLE_PAIRS, ids=lambda pairs: "+".join(f"{a}-{b}" for a, b in pairs))
    def test_equal_to_the_host_side(self, pairs: list[tuple[str, str]]) -> None:
        samples, channels = 2000, 2
        core = Core(SMALL, channels, samples).model(pairs)
        graph = signature(pairs, SMALL)
        waveform = noise(2, channels, samples)
        built = model_inputs(graph, waveform)
        values = run(core, **built.arrays)
        outputs = {port.name: value for port, value in zip(graph.outputs, values, strict=True)}
        expected = stems_from_outputs(graph, outputs, built.spectrum, samples)

        model = standalone_model(core, graph, channels, STEM_COUNT, samples)
        onnx.checker.check_model(model, full_check=True)
        assert [port.name for port in model.graph.input] == ["waveform"]
        assert [port.name for port in model.graph.output] == ["stems"]
        assert {node.op_type for node in model.graph.node} <= PLAIN_OPERATORS
        (result,) = run(model, waveform=waveform)
        assert result.shape == (2, STEM_COUNT, channels, samples)
        assert relative_error(result, expected) < 1e-5

    @pytest.mark.parametrize("name", FAMILIES)
    def test_every_family(self, name: str) -> None:
        transform, samples = FAMILIES[name], 12_000
        pairs = [("magnitude", "mask"), ("waveform", "waveform")]
        core = Core(transform, 1, samples).model(pairs)
        graph = signature(pairs, transform)
        waveform = noise(1, 1, samples)
        built = model_inputs(graph, waveform)
        values = run(core, **built.arrays)
        outputs = {port.name: value for port, value in zip(graph.outputs, values, strict=True)}
        expected = stems_from_outputs(graph, outputs, built.spectrum, samples)
        (result,) = run(standalone_model(core, graph, 1, STEM_COUNT, samples), waveform=waveform)
        assert relative_error(result, expected) < 1e-5

    def test_a_gate_is_in_the_graph(self) -> None:
        samples, pairs = 2000, [("magnitude", "mask"), ("waveform", "waveform")]
        core = Core(SMALL, 1, samples).model(pairs)
        waveform = noise(1, 1, samples)
        results = []
        for gate in (None, 0.5):
            graph = signature(pairs, SMALL).model_copy(update={"gate": gate})
            built = model_inputs(graph, waveform)
            values = run(core, **built.arrays)
            outputs = {port.name: value for port, value in zip(graph.outputs, values, strict=True)}
            expected = stems_from_outputs(graph, outputs, built.spectrum, samples)
            (result,) = run(standalone_model(core, graph, 1, STEM_COUNT, samples), waveform=waveform)
            assert relative_error(result, expected) < 1e-5
            results.append(result)
        assert relative_error(results[1], results[0]) > 1e-3

    def test_the_core_is_left_alone_and_its_metadata_kept(self) -> None:
        core = Core(SMALL, 1, 1000).model([("cac", "cac")])
        before = core.SerializeToString(deterministic=True)
        model = standalone_model(core, signature([("cac", "cac")], SMALL), 1, STEM_COUNT, 1000)
        assert core.SerializeToString(deterministic=True) == before
        assert [(entry.key, entry.value) for entry in model.metadata_props] == [("origin", "a test")]
        assert model.opset_import == core.opset_import and model.ir_version == core.ir_version

    def test_names_may_be_those_of_the_result(self) -> None:
        core = gain_graph(2, 1, 500, (0.25, 0.75))  # its output is called "stems"
        graph = Graph.model_validate(
            {
                "inputs": [{"name": "mixture", "role": "waveform"}],
                "outputs": [{"name": "stems", "role": "waveform"}],
            }
        )
        waveform = noise(3, 1, 500)
        (result,) = run(standalone_model(core, graph, 1, 2, 500), waveform=waveform)
        np.testing.assert_array_equal(result[:, 1], 0.75 * waveform)

    def test_its_signature(self) -> None:
        graph = signature([("cac", "cac")], SMALL).model_copy(update={"batch": "one"})
        simple = standalone_graph(graph)
        assert (simple.inputs[0].name, simple.outputs[0].name, simple.batch) == ("waveform", "stems", "one")
        assert simple.transform is None

    def test_models_that_need_more_than_a_waveform_cannot_stand_alone(self) -> None:
        masks = {
            "inputs": [{"name": "magnitude", "role": "magnitude"}],
            "outputs": [{"name": "mask", "role": "mask"}],
            "transform": SMALL.model_copy(update={"outer_padding": "none", "dropped_edge_frames": 0}),
        }
        plan = {"input_samples": 256, "output_samples": 256, "time": "variable"}
        plain = fake_manifest().model_dump()
        for manifest, reason in (
            (asked_manifest(), "a condition"),
            (remembering_manifest(), "hand a state"),
            ({**plain, "graph": {**masks, "outside_frames": "zero"}}, "where the recording begins"),
            ({**plain, "graph": masks, "plan": plan}, "no one length"),
        ):
            made = Manifest.model_validate(manifest)
            assert reason in str(why_not_standalone(made))
        for manifest in (plain, {**plain, "graph": {**masks, "gate": 0.1}}, {**plain, "plan": plan}):
            assert why_not_standalone(Manifest.model_validate(manifest)) is None

    def test_a_graph_may_leave_the_remainder_out(self) -> None:
        manifest = Manifest.model_validate({**fake_manifest().model_dump(), "remainder": "vocals"})
        for count in (4, 3):
            assert stems_given(gain_graph(count, 2, 256, (0.5,) * count), manifest) == count

    def test_a_fixed_batch_stays_fixed(self) -> None:
        core = Core(SMALL, 1, 1000).model([("cac", "cac")])
        for port in (*core.graph.input, *core.graph.output):
            port.type.tensor_type.shape.dim[0].dim_value = 1
        model = standalone_model(core, signature([("cac", "cac")], SMALL), 1, STEM_COUNT, 1000)
        dims: list[NDArray[np.int64]] = [
            port.type.tensor_type.shape.dim[0].dim_value for port in (*model.graph.input, *model.graph.output)
        ]
        assert dims == [1, 1]

    @pytest.mark.parametrize(
        ("names", "message"),
        [(("other", "stems"), "the model's inputs are"), (("mixture", "other"), "the model's outputs are")],
    )
    def test_another_signature(self, names: tuple[str, str], message: str) -> None:
        graph = Graph.model_validate(
            {
                "inputs": [{"name": names[0], "role": "waveform"}],
                "outputs": [{"name": names[1], "role": "waveform"}],
            }
        )
        with pytest.raises(ModelFileError, match=message):
            standalone_model(gain_graph(2, 1, 500, (0.5, 0.5)), graph, 1, 2, 500)

    def test_an_opset_too_old(self) -> None:
        core = gain_graph(2, 1, 500, (0.5, 0.5))
        core.opset_import[0].version = 11
        graph = Graph.model_validate(
            {
                "inputs": [{"name": "mixture", "role": "waveform"}],
                "outputs": [{"name": "stems", "role": "waveform"}],
            }
        )
        with pytest.raises(ModelFileError, match="opset 11"):
            standalone_model(core, graph, 1, 2, 500)
