"""Conv-TasNet's normalisations as ONNX nodes.

A norm is written as what is left of the input when the mean is taken off, `centred`, and a `factor`,
one over the standard deviation. The convolution behind a norm is linear, so that gain and factor can be
applied to its weights and to its (narrower) output: W (g c f + b) = f (W g) c + W b.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from stemwright.models.conv_tasnet.configs import EPSILON, NormKind
from stemwright.models.graphs.writer import TO_THE_END, GraphWriter


@dataclass(frozen=True, kw_only=True)
class Centred:
    """A value without its mean, shape=(B, N, F), and the factor that makes its variance one.

    `factor` has shape=(B, 1, 1) or, from norms that differ from frame to frame, shape=(B, 1, F).
    """

    centred: str
    factor: str
    each_frame: bool


@dataclass(frozen=True, kw_only=True)
class Affine:
    """Names of a norm's gain and bias, shape=(N,)."""

    gain: str
    bias: str


Normaliser = Callable[[str, int], Centred]
"""Normalises a value of a number of channels."""


def normaliser(writer: GraphWriter, kind: NormKind) -> Normaliser:
    """Return what normalises by the statistics of each frame, or of each item of the batch.

    Parameters
    ----------
    writer
        Of the graph.
    kind
        `global` or `channel`; `cumulative` norms count: see CumulativeNorms.
    """

    def mean(source: str) -> str:
        # Over time, then over channels: over both at once ONNX Runtime sums in one row of float32, which
        # is wrong in the third digit for 8 s of music.
        if kind == "global":
            source = writer.op("ReduceMean", source, writer.ints(2))
        return writer.op("ReduceMean", source, writer.ints(1))

    def normalise(source: str, _channels: int) -> Centred:
        # In two passes: the mean of squares minus the square of the mean loses digits.
        centred = writer.op("Sub", source, mean(source))
        variance = mean(writer.op("Mul", centred, centred))
        factor = _inverse_root(writer, variance)
        return Centred(centred=centred, factor=factor, each_frame=kind == "channel")

    return normalise


class CumulativeNorms:
    """Norms over all frames so far, whose sums go on from one call to the next.

    Sums of float32 drift on long recordings: these are float64.

    Parameters
    ----------
    writer
        Of the graph.
    sums
        Name of the sums before this call, float64, shape=(norms, 2, 1): of the frames' means and mean
        squares over the channels.
    count
        Frames up to each frame of this call, at least 1, float64, shape=(1, 1, F).
    counted
        1 for each frame of this call, 0 for one that does not count; float64, shape=(1, 1, F). None: all
        count.
    norms
        How many there are.
    """

    def __init__(
        self, writer: GraphWriter, *, sums: str, count: str, counted: str | None, norms: int
    ) -> None:
        self._writer = writer
        self._count = count
        self._counted = counted
        self._earlier = writer.split(sums, [1] * norms, axis=0)
        self._later: list[str] = []
        self._axis = writer.small(2, np.int64)

    def normalise(self, source: str, _channels: int) -> Centred:
        """Normalise the next value in the order of the graph."""
        writer = self._writer
        squares = writer.op("Mul", source, source)
        parts = [writer.op("ReduceMean", value, writer.ints(1)) for value in (source, squares)]
        wide = writer.op("Cast", writer.op("Concat", *parts, axis=1), to=TensorProto.DOUBLE)
        if self._counted is not None:
            wide = writer.op("Mul", wide, self._counted)
        earlier = self._earlier[len(self._later)]
        sums = writer.op("Add", writer.op("CumSum", wide, self._axis), earlier)
        self._later.append(sums)
        mean, square = writer.split(writer.op("Div", sums, self._count), (1, 1), axis=1)
        spread = writer.op("Sub", square, writer.op("Mul", mean, mean))
        variance = writer.op("Max", spread, writer.small(0.0, np.float64))
        centred = writer.op("Sub", source, writer.op("Cast", mean, to=TensorProto.FLOAT))
        factor = _inverse_root(writer, writer.op("Cast", variance, to=TensorProto.FLOAT))
        return Centred(centred=centred, factor=factor, each_frame=True)

    def finish(self, output: str) -> None:
        """Write the sums after this call."""
        everything = self._writer.op("Concat", *self._later, axis=0)
        self._writer.slice(everything, -1, TO_THE_END, 2, output=output)


def applied(writer: GraphWriter, norm: Centred, affine: Affine) -> str:
    """Return the norm's result itself, shape=(B, N, F)."""
    gain = writer.op("Unsqueeze", affine.gain, writer.ints(1))
    bias = writer.op("Unsqueeze", affine.bias, writer.ints(1))
    if norm.each_frame:
        scaled = writer.op("Mul", writer.op("Mul", norm.centred, norm.factor), gain)
    else:
        scaled = writer.op("Mul", norm.centred, writer.op("Mul", norm.factor, gain))
    return writer.op("Add", scaled, bias)


def convolved(
    writer: GraphWriter, norm: Centred, affine: Affine, weight: str, bias: str | None, channels: int
) -> str:
    """Return a pointwise convolution of the norm's result.

    Parameters
    ----------
    writer
        Of the graph.
    norm, affine
        The norm, not applied yet.
    weight, bias
        Names of the convolution's tensors, shape=(O, N, 1) and (O,).
    channels
        O.

    Returns
    -------
    str
        shape=(B, O, F).
    """
    # These depend on no sound: a runtime computes them when it loads the graph.
    scaled = writer.op("Mul", weight, writer.op("Unsqueeze", affine.gain, writer.ints(1)))
    flat = writer.op("Reshape", weight, writer.ints(channels, -1))
    shift = writer.op("MatMul", flat, writer.op("Unsqueeze", affine.bias, writer.ints(1)))
    if bias is not None:
        shift = writer.op("Add", shift, writer.op("Unsqueeze", bias, writer.ints(1)))
    product = writer.op("Conv", norm.centred, scaled)
    return writer.op("Add", writer.op("Mul", product, norm.factor), shift)


def _inverse_root(writer: GraphWriter, variance: str) -> str:
    safe = writer.op("Add", variance, writer.small(EPSILON))
    return writer.op("Reciprocal", writer.op("Sqrt", safe))
