"""The serving graph, built from a configuration and its tensors without torch.

The combinations of norms, activations, paths and edges are many and each graph is a few hundred nodes
of one pattern, so that no graph is stored: it is written when a checkpoint is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.conv_tasnet.configs import ConvTasNetConfig, tensor_shapes
from stemwright.models.conv_tasnet.norms import (
    Affine,
    Centred,
    CumulativeNorms,
    Normaliser,
    applied,
    convolved,
    normaliser,
)
from stemwright.models.graphs.weightless import Storage
from stemwright.models.graphs.writer import TO_THE_END, GraphWriter, Port
from stemwright.models.manifest import StateTensor

INPUT, OUTPUT = "mixture", "stems"


def build_graph(
    config: ConvTasNetConfig, tensors: Mapping[str, FloatArray], storage: Storage = "float32"
) -> onnx.ModelProto:
    """Write the graph of a network.

    Parameters
    ----------
    config
        The variant.
    tensors
        Its parameters by the names of `tensor_shapes`, of any float type.
    storage
        `float16` halves the file where that loses nothing.

    Returns
    -------
    onnx.ModelProto
        `mixture` [B, A, T] to `stems` [B, C, A, T], T a whole number of hops. A
        streamable network (causal, no global norms) has a batch of one, the states of `state_tensors`,
        and its stems come one hop late.

    Raises
    ------
    ModelFileError
        A tensor is missing, unknown, of another shape or not finite.
    """
    _check_tensors(config, tensors)
    return _Network(config=config, writer=GraphWriter(storage), tensors=tensors).build()


def state_tensors(config: ConvTasNetConfig) -> tuple[StateTensor, ...]:
    """Return what the graph of a streamable network hands from call to call; nothing for others.

    `sound` is the last hop of the mixture, `tail` the second halves of the last decoded frame, `hops` the
    hops so far, `sums` those of the cumulative norms (of channel means and mean squares, in the order of
    the graph), `past.i` the frames that block i's depthwise convolution looks back at.
    """
    if not config.streamable:
        return ()
    channels, hop = config.audio_channels, config.hop
    states = [
        _state("sound", (1, channels, hop)),
        _state("tail", (1, config.sources * channels * hop, 1)),
        StateTensor(input="hops.in", output="hops.out", shape=(1,), dtype="float64"),
    ]
    norms = _cumulative_norms(config)
    if norms:
        states.append(StateTensor(input="sums.in", output="sums.out", shape=(norms, 2, 1), dtype="float64"))
    if config.kernel > 1:
        states += [
            _state(f"past.{index}", (1, config.hidden, (config.kernel - 1) * dilation))
            for index, dilation in enumerate(config.dilations)
        ]
    return tuple(states)


def _state(name: str, shape: tuple[int, ...]) -> StateTensor:
    return StateTensor(input=f"{name}.in", output=f"{name}.out", shape=shape)


def _cumulative_norms(config: ConvTasNetConfig) -> int:
    inner = 2 * len(config.dilations) if config.norm == "cumulative" else 0
    return inner + (config.input_norm == "cumulative")


def _check_tensors(config: ConvTasNetConfig, tensors: Mapping[str, FloatArray]) -> None:
    wanted = tensor_shapes(config)
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            raise _misfit(f"lacks {name}")
        if name not in wanted:
            raise _misfit(f"has {name}, which is not part of this network")
        if tensors[name].shape != wanted[name]:
            raise _misfit(f"has {name} of shape {tensors[name].shape}, not {wanted[name]}")
        if not np.isfinite(tensors[name]).all():
            raise _misfit(f"has values in {name} that are not finite")


def _misfit(what: str) -> ModelFileError:
    return ModelFileError(
        f"the checkpoint {what}", "check that the file is whole, and that its configuration is its own"
    )


@dataclass
class _Network:
    """A graph while it is written."""

    config: ConvTasNetConfig
    writer: GraphWriter
    tensors: Mapping[str, FloatArray]
    cumulative: CumulativeNorms | None = None
    valid: str | None = None
    """1 for each frame, 0 for one that lies half before the first sample; None where none does."""
    length: str | None = None
    """Samples of the call where the frames may need more; None where they never do."""
    weights: dict[str, str] = field(default_factory=dict)

    def build(self) -> onnx.ModelProto:
        config, writer = self.config, self.writer
        coded = self._encoded()
        masks = self._masks(coded)
        masked = writer.op("Mul", masks, writer.op("Unsqueeze", coded, writer.ints(1)))
        self._decode(writer.op("Reshape", masked, writer.ints(0, config.sources * config.filters, -1)))
        if self.cumulative is not None and config.streamable:
            self.cumulative.finish("sums.out")
        axes = (1 if config.streamable else "batch", config.audio_channels, "samples")
        inputs: list[Port] = [(INPUT, TensorProto.FLOAT, axes)]
        outputs: list[Port] = [(OUTPUT, TensorProto.FLOAT, (axes[0], config.sources, *axes[1:]))]
        for state in state_tensors(config):
            kind = TensorProto.DOUBLE if state.dtype == "float64" else TensorProto.FLOAT
            inputs.append((state.input, kind, state.shape))
            outputs.append((state.output, kind, state.shape))
        return writer.model("conv_tasnet", inputs, outputs)

    def _encoded(self) -> str:
        """Return the filter bank's output, shape=(B, N, F)."""
        config, writer = self.config, self.writer
        edge = config.hop if config.edges == "centred" and not config.streamable else 0
        source = INPUT
        if config.streamable:
            source = writer.op("Concat", "sound.in", INPUT, axis=2)
            writer.slice(source, -config.hop, TO_THE_END, 2, output="sound.out")
        elif config.edges == "inside":
            source = self._one_frame_at_least()
        weight = self._weight("encoder.weight")
        coded = writer.op("Conv", source, weight, strides=[config.hop], pads=[edge, edge])
        if config.encoder_activation == "relu":
            coded = writer.op("Relu", coded)
        self._count_frames(coded)
        return coded

    def _one_frame_at_least(self) -> str:
        """Return the mixture, one of a single hop with zeros up to the length of a frame."""
        config, writer = self.config, self.writer
        self.length = writer.op("Shape", INPUT, start=2, end=3)
        missing = writer.op("Sub", writer.ints(config.filter_length), self.length)
        more = writer.op("Max", missing, writer.ints(0))
        return writer.op("Pad", INPUT, writer.op("Concat", writer.ints(*[0] * 5), more, axis=0))

    def _count_frames(self, coded: str) -> None:
        """Prepare what counts frames, from call to call where there is a state."""
        config, writer = self.config, self.writer
        norms = _cumulative_norms(config)
        if not norms and not config.streamable:
            return
        frame = writer.op("Shape", writer.slice(writer.slice(coded, 0, 1, 0), 0, 1, 1))
        one = helper.make_tensor("one", TensorProto.DOUBLE, [1], [1.0])
        ones = writer.op("ConstantOfShape", frame, value=one)
        count = writer.op("CumSum", ones, writer.small(2, np.int64))
        counted: str | None = None
        if config.streamable:
            count = writer.op("Add", count, "hops.in")
            last = writer.slice(count, -1, TO_THE_END, 2)
            writer.op("Reshape", last, writer.ints(1), output="hops.out")
            if config.edges == "inside":
                # The very first frame would begin a hop before the first sample: it does not count.
                single = writer.small(1.0, np.float64)
                count = writer.op("Sub", count, single)
                counted = writer.op("Min", count, single)
                count = writer.op("Max", count, single)
                self.valid = writer.op("Cast", counted, to=TensorProto.FLOAT)
        if norms:
            sums = "sums.in" if config.streamable else writer.small(np.zeros((norms, 2, 1)), np.float64)
            self.cumulative = CumulativeNorms(writer, sums=sums, count=count, counted=counted, norms=norms)

    def _masks(self, coded: str) -> str:
        """Return the masks, shape=(B, C, N, F)."""
        config, writer = self.config, self.writer
        normed = self._normaliser(input_norm=True)(coded, config.filters)
        x = self._convolved(normed, "input_norm", ["bottleneck"])[0]
        skips: str | None = None
        for index, dilation in enumerate(config.dilations):
            residual, skip = self._block(f"blocks.{index}", index, dilation, x)
            if residual is not None:
                x = writer.op("Add", x, residual)
            if skip is not None:
                skips = skip if skips is None else writer.op("Add", skips, skip)
        hidden = x if skips is None else skips
        if config.mask_prelu:
            hidden = self._prelu(hidden, "mask_prelu")
        scores = self._conv(hidden, "mask")
        if config.mask in ("sigmoid", "relu"):
            scores = writer.op({"sigmoid": "Sigmoid", "relu": "Relu"}[config.mask], scores)
        masks = writer.op("Reshape", scores, writer.ints(0, config.sources, config.filters, -1))
        return writer.op("Softmax", masks, axis=1) if config.mask == "softmax" else masks

    def _block(self, name: str, index: int, dilation: int, x: str) -> tuple[str | None, str | None]:
        """Return a block's residual and skip output."""
        config, writer = self.config, self.writer
        norm = self._normaliser(input_norm=False)
        hidden = self._prelu(self._conv(x, f"{name}.expand"), f"{name}.prelu1")
        hidden = applied(writer, norm(hidden, config.hidden), self._affine(f"{name}.norm1"))
        hidden = self._depthwise(f"{name}.depthwise", index, dilation, hidden)
        hidden = self._prelu(hidden, f"{name}.prelu2")
        # Nothing uses the last block's residual where there are skips, whether it is stored or not.
        last = index == len(config.dilations) - 1
        wanted = [] if last and config.skip else [f"{name}.residual"]
        wanted += [f"{name}.skip"] if config.skip else []
        outputs = self._convolved(norm(hidden, config.hidden), f"{name}.norm2", wanted)
        found = dict(zip(wanted, outputs, strict=True))
        return found.get(f"{name}.residual"), found.get(f"{name}.skip")

    def _prelu(self, source: str, name: str) -> str:
        """Return a PReLU of one slope: a LeakyRelu, which ONNX Runtime computes many times faster."""
        slope = float(np.asarray(self.tensors[f"{name}.weight"], np.float32)[0])
        return self.writer.op("LeakyRelu", source, alpha=slope)

    def _depthwise(self, name: str, index: int, dilation: int, hidden: str) -> str:
        config, writer = self.config, self.writer
        reach = (config.kernel - 1) * dilation
        pads = [reach, 0] if config.causal else [reach // 2, reach // 2]
        if config.streamable:
            if self.valid is not None:
                hidden = writer.op("Mul", hidden, self.valid)
            if reach:
                hidden = writer.op("Concat", f"past.{index}.in", hidden, axis=2)
                writer.slice(hidden, -reach, TO_THE_END, 2, output=f"past.{index}.out")
            pads = [0, 0]
        return self._conv(hidden, name, group=config.hidden, dilations=[dilation], pads=pads)

    def _decode(self, masked: str) -> None:
        """Make stems of the masked frames, shape=(B, C N, F).

        A frame is two hops long: what it gives to the first and to the second is computed as two
        blocks of one pointwise convolution per source, and the halves that meet are added.
        """
        config, writer = self.config, self.writer
        if self.valid is not None:
            masked = writer.op("Mul", masked, self.valid)
        first, second = (
            writer.op("Conv", masked, weight, group=config.sources) for weight in self._decoder_weights()
        )
        if config.streamable:
            second = writer.op("Concat", "tail.in", second, axis=2)
            writer.slice(second, -1, TO_THE_END, 2, output="tail.out")
            second = writer.slice(second, 0, -1, 2)
        elif config.edges == "centred":
            first, second = writer.slice(first, 1, TO_THE_END, 2), writer.slice(second, 0, -1, 2)
        else:
            first = writer.op("Pad", first, writer.ints(0, 0, 0, 0, 0, 1))
            second = writer.op("Pad", second, writer.ints(0, 0, 1, 0, 0, 0))
        hops = writer.op("Add", first, second)
        split = writer.ints(0, config.sources, config.audio_channels, config.hop, -1)
        in_order = writer.op("Transpose", writer.op("Reshape", hops, split), perm=[0, 1, 2, 4, 3])
        shape = writer.ints(0, config.sources, config.audio_channels, -1)
        if self.length is None:
            writer.op("Reshape", in_order, shape, output=OUTPUT)
        else:
            stems = writer.op("Reshape", in_order, shape)
            writer.op("Slice", stems, writer.ints(0), self.length, writer.ints(3), output=OUTPUT)

    def _decoder_weights(self) -> tuple[str, str]:
        """First and second half of the decoder's filters for every source, shape=(C A hop, N, 1)."""
        config = self.config
        weight = np.asarray(self.tensors["decoder.weight"], np.float32)
        halves = weight.reshape(config.filters, config.audio_channels, 2, config.hop)
        names = []
        for half, name in enumerate(("decoder.first", "decoder.second")):
            rows = halves[:, :, half].reshape(config.filters, -1).T
            stored = self.writer.weight(name, rows[:, :, None])
            names.append(self.writer.op("Concat", *[stored] * config.sources, axis=0))
        return names[0], names[1]

    def _normaliser(self, *, input_norm: bool) -> Normaliser:
        kind = self.config.input_norm if input_norm else self.config.norm
        if kind == "cumulative" and self.cumulative is not None:
            return self.cumulative.normalise
        return normaliser(self.writer, kind)

    def _convolved(self, norm: Centred, norm_name: str, names: list[str]) -> list[str]:
        """Pointwise convolutions of one norm's result, computed as one."""
        writer = self.writer
        shapes = tensor_shapes(self.config)
        sizes = [shapes[f"{name}.weight"][0] for name in names]
        weights = [self._weight(f"{name}.weight") for name in names]
        biases = [self._weight(f"{name}.bias") for name in names] if self.config.biases else []
        weight = weights[0] if len(names) == 1 else writer.op("Concat", *weights, axis=0)
        bias = writer.op("Concat", *biases, axis=0) if len(biases) > 1 else next(iter(biases), None)
        result = convolved(writer, norm, self._affine(norm_name), weight, bias, sum(sizes))
        return [result] if len(names) == 1 else writer.split(result, sizes, axis=1)

    def _conv(self, source: str, name: str, **attributes: Any) -> str:
        inputs = [source, self._weight(f"{name}.weight")]
        if self.config.biases:
            inputs.append(self._weight(f"{name}.bias"))
        return self.writer.op("Conv", *inputs, **attributes)

    def _affine(self, name: str) -> Affine:
        return Affine(gain=self._weight(f"{name}.gain"), bias=self._weight(f"{name}.bias"))

    def _weight(self, name: str) -> str:
        if name not in self.weights:
            self.weights[name] = self.writer.weight(name, self.tensors[name])
        return self.weights[name]
