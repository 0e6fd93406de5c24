"""Convert the public YAMNet TensorFlow Lite file to the tagger that is shipped in models/taggers/yamnet.

Weights stay as they are: those stored as int8 keep their bytes and scales (DequantizeLinear), so that the
graph computes in float32 with exactly the numbers of the file. The front end is left out; the manifest
describes it. Needs `ai-edge-litert`, whose flatbuffer schema is used to read the file.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stemwright.core.features import FeatureBands
from stemwright.core.transforms import Transform
from stemwright.models.manifest import (
    GRAPH_FILE,
    MANIFEST_FILE,
    AudioFormat,
    Licence,
    Tagger,
    WeightsOrigin,
)
from stemwright.models.registry.model_files import file_sha256, record_of

FRAMES, BANDS, CLASSES, EMBEDDING = 96, 64, 521, 1024
# The classes of AudioSet's 527 that YAMNet's class map leaves out.
DROPPED = ("/m/05zppz", "/m/02zsn", "/m/04gy_2", "/t/dd00003", "/t/dd00004", "/t/dd00032")
_DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8}
_OPERATORS = {
    schema.BuiltinOperator.CONV_2D: "convolution",
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: "depthwise",
    schema.BuiltinOperator.MEAN: "mean",
    schema.BuiltinOperator.FULLY_CONNECTED: "dense",
    schema.BuiltinOperator.LOGISTIC: "logistic",
}
_TEXT = (
    "YAMNet by Google LLC (tensorflow/models, research/audioset/yamnet), Apache License 2.0; the text is in "
    "the file LICENSE beside this manifest. Changed: converted from TensorFlow Lite to ONNX, without its "
    "front end. Class ids are those of Google's AudioSet, CC BY 4.0."
)

AnyArray = NDArray[np.float32] | NDArray[np.int8]


class TfliteFile:
    """The operators and constants of a TensorFlow Lite file.

    Parameters
    ----------
    data
        The file's bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.model = schema.ModelT.InitFromPackedBuf(data, 0)
        (self.graph,) = self.model.subgraphs

    def kind(self, operator: schema.OperatorT) -> int:
        """Return the builtin operator's number."""
        return int(self.model.operatorCodes[operator.opcodeIndex].builtinCode)

    def network(self) -> list[schema.OperatorT]:
        """Return the operators from the first convolution on."""
        kinds = [self.kind(operator) for operator in self.graph.operators]
        return list(self.graph.operators[kinds.index(schema.BuiltinOperator.CONV_2D) :])

    def constant(self, index: int) -> tuple[AnyArray, NDArray[np.float32] | None]:
        """Return a constant and, if it is quantised, its scale or scales along its quantised axis."""
        tensor = self.graph.tensors[index]
        values = np.frombuffer(bytes(self.model.buffers[tensor.buffer].data), _DTYPES[tensor.type])
        values = values.reshape([int(size) for size in tensor.shape])
        if values.dtype == np.float32:
            return values, None
        if np.any(tensor.quantization.zeroPoint):
            raise ValueError(f"tensor {index} is quantised around a zero point")
        return values, np.asarray(tensor.quantization.scale, np.float32)


class GraphBuilder:
    """An ONNX graph in the making, and the names that stand for the file's tensors in it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node and return its output's name."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Append a constant and return its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name: str, value: AnyArray, scale: NDArray[np.float32] | None) -> str:
        """Append a weight whose first axis is the one that its scales belong to."""
        if scale is None:
            return self.constant(name, value)
        stored = self.constant(f"{name}_int8", value)
        if len(scale) == 1:
            return self.add("DequantizeLinear", [stored, self.constant(f"{name}_scale", scale[0])], name)
        scales = self.constant(f"{name}_scale", scale)
        return self.add("DequantizeLinear", [stored, scales], name, axis=0)


def convert(data: bytes, *, layers: bool = False) -> onnx.ModelProto:
    """Convert the network: features [B, 96, 64] -> probabilities [B, 521] and embedding [B, 1024].

    Parameters
    ----------
    data
        The TensorFlow Lite file.
    layers
        Give each convolution's output too, as `layer_N` in the file's order.
    """
    file, graph = TfliteFile(data), GraphBuilder()
    axis = graph.constant("channel_axis", np.asarray([1], np.int64))
    current, shown = graph.add("Unsqueeze", ["features", axis], "image"), []
    for number, operator in enumerate(file.network()):
        kind = _OPERATORS[file.kind(operator)]
        if kind in ("convolution", "depthwise"):
            current = _convolution(file, graph, operator, current, f"layer_{number}")
            shown.append(current)
        elif kind == "mean":
            axes = graph.constant("image_axes", np.asarray([2, 3], np.int64))
            current = graph.add("ReduceMean", [current, axes], "embedding", keepdims=0)
        elif kind == "dense":
            weight = graph.weight("dense_weight", *file.constant(operator.inputs[1]))
            bias = graph.constant("dense_bias", file.constant(operator.inputs[2])[0])
            current = graph.add("Gemm", [current, weight, bias], "logits", transB=1)
        else:
            current = graph.add("Sigmoid", [current], "probabilities")
    sizes: dict[str, list[str | int]] = {
        "probabilities": ["batch", CLASSES],
        "embedding": ["batch", EMBEDDING],
    }
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, size) for n, size in sizes.items()]
    outputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in shown if layers
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FRAMES, BANDS])]
    made = helper.make_graph(graph.nodes, "yamnet", inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _convolution(
    file: TfliteFile, graph: GraphBuilder, operator: schema.OperatorT, source: str, name: str
) -> str:
    options = operator.builtinOptions
    if options.padding != schema.Padding.SAME:
        raise ValueError(f"{name} is not padded to the same size")
    if options.fusedActivationFunction != schema.ActivationFunctionType.RELU:
        raise ValueError(f"{name} is not followed by a ReLU")
    values, scale = file.constant(operator.inputs[1])
    depthwise = file.kind(operator) == schema.BuiltinOperator.DEPTHWISE_CONV_2D
    # TensorFlow: [out, height, width, in]; depthwise [1, height, width, out].
    values = values.transpose(3, 0, 1, 2) if depthwise else values.transpose(0, 3, 1, 2)
    height, stride = values.shape[2], int(options.strideH)
    # All sizes on the way are even: SAME puts one zero on each side for stride 1, one behind for stride 2.
    before = (height - stride) // 2 if height > 1 else 0
    after = height - stride - before if height > 1 else 0
    result = graph.add(
        "Conv",
        [
            source,
            graph.weight(f"{name}_weight", values, scale),
            graph.constant(f"{name}_bias", file.constant(operator.inputs[2])[0]),
        ],
        f"{name}_sum",
        group=values.shape[0] if depthwise else 1,
        kernel_shape=[height, height],
        pads=[before, before, after, after],
        strides=[stride, stride],
    )
    return graph.add("Relu", [result], name)


def yamnet_classes(class_list: Path) -> tuple[str, ...]:
    """Return the ids of YAMNet's 521 classes in order, from AudioSet's list of 527."""
    with class_list.open(newline="", encoding="utf-8") as stream:
        ids = [row["mid"] for row in csv.DictReader(stream)]
    return tuple(mid for mid in ids if mid not in DROPPED)


def yamnet_manifest(source: Path, classes: tuple[str, ...], folder: Path) -> Tagger:
    """Build the manifest of the files that lie in `folder`."""
    files = [record_of(path, path.name) for path in sorted(folder.iterdir()) if path.name != MANIFEST_FILE]
    return Tagger(
        name="yamnet",
        family="yamnet",
        task="universal",
        description="YAMNet: 521 sound classes of AudioSet, 16 kHz",
        licence=Licence(name="Apache-2.0", text=_TEXT, url="https://www.apache.org/licenses/LICENSE-2.0"),
        citation="Google, YAMNet: tensorflow/models, research/audioset/yamnet",
        training_data="AudioSet",
        audio=AudioFormat(sample_rate=16000, channels=1, mode="downmix"),
        transform=Transform(n_fft=512, hop=160, window_length=400, padding="none"),
        bands=FeatureBands(
            bands=BANDS,
            low_hz=125.0,
            high_hz=7500.0,
            scale="htk",
            power=1,
            log="natural",
            floor=0.001,
            # The file multiplies bands in 8 bits, and so its network was always fed.
            value_steps=255,
            weight_steps=127,
        ),
        patch_frames=FRAMES,
        patch_hop=48,
        embedding_size=EMBEDDING,
        classes=classes,
        origin=WeightsOrigin(
            source="yamnet.tflite, the public single-output TensorFlow Lite form",
            file_sha256=file_sha256(source),
            verified_by="layer by layer against TensorFlow Lite's builtin kernels",
        ),
        files=tuple(files),
    )


def main() -> None:
    """Write model.onnx and manifest.json beside the licence in the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("class_list", type=Path, help="AudioSet's class_labels_indices.csv")
    parser.add_argument("out", type=Path, help="a folder with the LICENSE")
    args = parser.parse_args()
    onnx.save(convert(args.tflite.read_bytes()), str(args.out / GRAPH_FILE))
    manifest = yamnet_manifest(args.tflite, yamnet_classes(args.class_list), args.out)
    (args.out / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
