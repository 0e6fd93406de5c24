"""A model with its transforms inside the graph: waveform in, stems out.

The counterpart of `stemwright.models.graphs.roles` for runtimes that should not leave their device (GPUs)
and for one file that runs in any ONNX runtime. Only real arithmetic and plain operators are used.
Whole-track normalisation stays outside.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, compose, helper

from stemwright.core.errors import ModelFileError
from stemwright.core.transforms import Transform
from stemwright.models.graphs.fourier import NodeList, forward_nodes, inverse_nodes
from stemwright.models.graphs.roles import MASK_ROLES
from stemwright.models.manifest import Graph, GraphInput, GraphOutput, Manifest

WAVEFORM = "waveform"
STEMS = "stems"
_CORE = "core/"
_OLDEST_OPSET = 13  # axes as inputs, which the nodes here use


@dataclass(frozen=True, kw_only=True)
class _Size:
    channels: int
    stems: int
    samples: int

    @property
    def rows(self) -> int:
        return self.stems * self.channels


def why_not_standalone(manifest: Manifest) -> str | None:
    """Tell why a model cannot be a graph from one waveform to stems; None if it can."""
    graph = manifest.graph
    if graph.conditional:
        return "its network is told by a condition what to look for"
    if graph.state:
        return "its calls hand a state from one to the next"
    if graph.outside_frames == "zero":
        return "its network has to know where the recording begins and ends"
    if graph.transform is not None and manifest.plan.time == "variable":
        return "its calls are of no one length"
    return None


def stems_given(core: onnx.ModelProto, manifest: Manifest) -> int:
    """Count the stems that a model's graph gives: all, or one fewer where it leaves the remainder out."""
    names = {port.name for port in manifest.graph.outputs}
    for port in core.graph.output:
        dims = port.type.tensor_type.shape.dim
        if port.name in names and len(dims) > 1 and dims[1].dim_value:
            return int(dims[1].dim_value)
    return manifest.output_stems


def standalone_graph(graph: Graph) -> Graph:
    """Signature of the model that `standalone_model` makes of a graph of this signature."""
    return Graph(
        inputs=(GraphInput(name=WAVEFORM, role="waveform"),),
        outputs=(GraphOutput(name=STEMS, role="waveform"),),
        batch=graph.batch,
    )


def standalone_model(
    core: onnx.ModelProto, graph: Graph, channels: int, stems: int, samples: int
) -> onnx.ModelProto:
    """Put the transforms around a model's core into its graph.

    Parameters
    ----------
    core
        The model, weights inside; not changed.
    graph
        Its signature.
    channels, stems, samples
        C, S, and T of one call's input window.

    Returns
    -------
    onnx.ModelProto
        Input `waveform` [B, C, T], output `stems` [B, S, C, T], opsets and metadata of the core.
        The core's tensors get the prefix `core/`; its nodes keep their names.

    Raises
    ------
    ModelFileError
        The core's inputs or outputs are not those of the signature, or its opset is too old.
    """
    _check(core, graph)
    size = _Size(channels=channels, stems=stems, samples=samples)
    model = compose.add_prefix(core, _CORE, rename_nodes=False, rename_functions=False)
    before, after = NodeList("before/"), NodeList("after/")
    spectrum = _append_inputs(before, graph, size)
    _append_stems(after, graph, size, spectrum)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    length = _stem_samples(model, graph, samples)
    ports = [_port(WAVEFORM, batch, channels, samples), _port(STEMS, batch, stems, channels, length)]
    nodes = [*before.nodes, *model.graph.node, *after.nodes]
    for field, values in (
        (model.graph.node, nodes),
        (model.graph.input, ports[:1]),
        (model.graph.output, ports[1:]),
    ):
        del field[:]
        field.extend(values)
    model.graph.initializer.extend([*before.initializers, *after.initializers])
    return model


def _append_inputs(nodes: NodeList, graph: Graph, size: _Size) -> str | None:
    """Append the core's inputs and return the name of the spectrum, [B, C, 2, F, N], if there is one."""
    roles = {port.role for port in graph.inputs}
    spectrum = None
    if roles != {"waveform"} or any(port.role in MASK_ROLES for port in graph.outputs):
        spectrum = forward_nodes(nodes, _transform(graph), WAVEFORM, size.channels, size.samples)
    for port in graph.inputs:
        source = WAVEFORM if spectrum is None else _input(nodes, port, spectrum, graph, size)
        nodes.alias(source, _CORE + port.name)
    return spectrum


def _input(nodes: NodeList, port: GraphInput, spectrum: str, graph: Graph, size: _Size) -> str:
    if port.role == "waveform":
        return WAVEFORM
    if port.role == "complex":
        return nodes.add("Transpose", spectrum, perm=[0, 1, 3, 4, 2])
    if port.role == "cac":
        transform = _transform(graph)
        return nodes.reshape(spectrum, 0, 2 * size.channels, transform.bins, transform.frames(size.samples))
    squares = nodes.add("Mul", spectrum, spectrum)
    return nodes.add("Sqrt", nodes.add("ReduceSum", squares, nodes.integers(2), keepdims=0))


def _append_stems(nodes: NodeList, graph: Graph, size: _Size, spectrum: str | None) -> None:
    """Append what turns the core's outputs into `stems`."""
    parts = [_CORE + port.name for port in graph.outputs if port.role == "waveform"]
    spectral = [port for port in graph.outputs if port.role != "waveform"]
    if spectral:
        transform = _transform(graph)
        spectra = [_output(nodes, port, spectrum, graph, size) for port in spectral]
        waves = inverse_nodes(nodes, transform, _summed(nodes, spectra), size.rows, size.samples)
        parts.append(nodes.reshape(waves, 0, size.stems, size.channels, size.samples))
    nodes.alias(_summed(nodes, parts), STEMS)


def _output(nodes: NodeList, port: GraphOutput, spectrum: str | None, graph: Graph, size: _Size) -> str:
    """Append a spectral output as spectra [B, S * C, 2, F, N]."""
    name, transform, gate = _CORE + port.name, _transform(graph), graph.gate
    plane = transform.bins, transform.frames(size.samples)
    if port.role == "cac":
        return nodes.reshape(name, 0, size.rows, 2, *plane)
    if port.role == "spectra":
        return nodes.reshape(_planes(nodes, name), 0, size.rows, 2, *plane)
    if spectrum is None:
        raise ValueError("a mask without a spectrum")
    mixture = nodes.reshape(spectrum, 0, 1, size.channels, 2, *plane)
    if port.role == "mask":
        mask = nodes.reshape(name, 0, size.stems, size.channels, 1, *plane)
        if gate is not None:
            below = nodes.add("Less", mask, nodes.constant(np.array(gate, np.float32)))
            mask = nodes.add("Where", below, nodes.constant(np.array(0, np.float32)), mask)
        product = nodes.add("Mul", mixture, mask)
    else:
        product = _complex_product(nodes, mixture, _planes(nodes, name))
    return nodes.reshape(product, 0, size.rows, 2, *plane)


def _planes(nodes: NodeList, pairs: str) -> str:
    """[B, S, C, F, N, 2] to [B, S, C, 2, F, N]."""
    return nodes.add("Transpose", pairs, perm=[0, 1, 2, 5, 3, 4])


def _complex_product(nodes: NodeList, first: str, second: str) -> str:
    """Multiply two arrays of complex numbers whose parts lie in axis 3."""
    real, imag = (nodes.slice(second, {3: (part, part + 1)}) for part in (0, 1))
    # (a + bi)(c + di) = (a, b) c + (-b, a) d
    swapped = nodes.add("Concat", nodes.slice(first, {3: (1, 2)}), nodes.slice(first, {3: (0, 1)}), axis=3)
    signs = nodes.constant(np.array([-1, 1], np.float32).reshape(2, 1, 1))
    turned = nodes.add("Mul", swapped, signs)
    return nodes.add("Add", nodes.add("Mul", first, real), nodes.add("Mul", turned, imag))


def _summed(nodes: NodeList, names: list[str]) -> str:
    return names[0] if len(names) == 1 else nodes.add("Sum", *names)


def _stem_samples(model: onnx.ModelProto, graph: Graph, samples: int) -> int | str:
    """Length of the stems: the window's, or what a graph of waveforms says."""
    if any(port.role != "waveform" for port in graph.outputs):
        return samples
    dims = model.graph.output[0].type.tensor_type.shape.dim
    if len(dims) == 4 and dims[3].HasField("dim_value"):
        return int(dims[3].dim_value)
    return "stem_samples"


def _port(name: str, batch: onnx.TensorShapeProto.Dimension, *shape: int | str) -> onnx.ValueInfoProto:
    port = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, *shape])
    port.type.tensor_type.shape.dim[0].CopyFrom(batch)
    return port


def _check(core: onnx.ModelProto, graph: Graph) -> None:
    weights = {weight.name for weight in core.graph.initializer}
    for what, ports, found in (
        ("inputs", graph.inputs, {port.name for port in core.graph.input} - weights),
        ("outputs", graph.outputs, {port.name for port in core.graph.output}),
    ):
        wanted = {port.name for port in ports}
        if wanted != found:
            raise ModelFileError(
                f"the model's {what} are {sorted(found)}, its manifest says {sorted(wanted)}",
                "import or pull the model again",
            )
    opset = max((entry.version for entry in core.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < _OLDEST_OPSET:
        raise ModelFileError(
            f"the model has ONNX opset {opset}; transforms in the graph need {_OLDEST_OPSET}",
            "export the model again with a newer opset",
        )


def _transform(graph: Graph) -> Transform:
    if graph.transform is None:
        raise ValueError("a spectral port without a transform")
    return graph.transform
