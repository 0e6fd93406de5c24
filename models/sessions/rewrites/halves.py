"""A graph that computes in float16, for GPUs."""

import onnx

# Statistics over long rows overflow or lose all digits in float16.
_KEPT = (
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "Pow",
    "Sqrt",
    "Reciprocal",
    "Softmax",
)


def in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a model's products and weights to float16; inputs, outputs and statistics stay float32."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    converted: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_KEPT]
    )
    return without_repeated_casts(converted)


def without_repeated_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep one of several equal Casts: up to ONNX Runtime 1.31 the converter adds one for every reader."""
    seen: set[str] = set()
    kept = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] in seen:
            continue
        seen.update(node.output)
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model
