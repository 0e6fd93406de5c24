"""The Fourier transforms of `stemwright.core.transforms` as ONNX nodes in real arithmetic.

A transform of n_fft = coarse * fine points is done in two matrix products (Cooley and Tukey,
"An Algorithm for the Machine Calculation of Complex Fourier Series", 1965): with sample
n = fine * a + b and bin k = coarse * d + c,

    X[k] = sum_b exp(-2 pi i b d / fine) * ( sum_a x[n] w[n] exp(-2 pi i c n / n_fft) ).

The inner product is one small matrix per b, which also holds the window and the twiddle factors;
the outer one is the same small matrix for all c. For n_fft = 4096 they take 2.1 MB of constants
where the plain matrix takes 67 MB, and a sixteenth of the operations. The inverse is the
transposed scheme. Frames stand in the last axis throughout, so that neither direction moves data
between the two products, and spectra come out as [B, C, 2, F, N]: complex as channels as it is.

Cutting into frames and adding them up are slices, concatenations and sums over the n_fft / hop
hops of a frame; nothing scatters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stemwright.core.transforms import Transform

_Array = NDArray[np.floating]


class NodeList:
    """Nodes and constants under construction; every name starts with `prefix`.

    Attributes
    ----------
    nodes
        Nodes in topological order.
    initializers
        Constants; equal ones are stored once.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node of one output and return the output's name."""
        result = f"{self._prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [result], name=result, **attributes))
        return result

    def alias(self, source: str, name: str) -> None:
        """Make a tensor known under a name that is used as it is."""
        self.nodes.append(helper.make_node("Identity", [source], [name], name=f"{self._prefix}to {name}"))

    def constant(self, values: NDArray[np.generic]) -> str:
        """Name of a constant with these values."""
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._known:
            self._known[key] = f"{self._prefix}constant_{len(self._known)}"
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), self._known[key]))
        return self._known[key]

    def integers(self, *values: int) -> str:
        """Name of a constant int64 vector."""
        return self.constant(np.asarray(values, np.int64))

    def reshape(self, source: str, *shape: int) -> str:
        """Reshape; 0 keeps an axis's length."""
        return self.add("Reshape", source, self.integers(*shape))

    def slice(self, source: str, spans: Mapping[int, tuple[int, int]]) -> str:
        """Cut a span (start, stop) out of each of some axes."""
        starts, stops = zip(*spans.values(), strict=True)
        return self.add("Slice", source, self.integers(*starts), self.integers(*stops), self.integers(*spans))

    def pad(
        self, source: str, before: tuple[int, ...], after: tuple[int, ...], mode: str = "constant"
    ) -> str:
        """Pad each axis, with zeros or by reflection; nothing where there is nothing to pad."""
        if not any(before) and not any(after):
            return source
        return self.add("Pad", source, self.integers(*before, *after), mode=mode)


@dataclass(frozen=True, kw_only=True)
class _Scheme:
    """How a transform of n_fft points is split, and which of a frame's samples take part.

    Attributes
    ----------
    coarse, fine
        The factors of n_fft.
    begin, count
        The frame's samples that a window touches: samples begin * fine to (begin + count) * fine.
    """

    transform: Transform
    coarse: int
    fine: int
    begin: int
    count: int

    @property
    def aligned(self) -> bool:
        """Whether a hop is a whole number of `fine` samples, so that frames need no reordering."""
        return self.transform.hop % self.fine == 0

    @property
    def span(self) -> int:
        """Samples of a frame that take part."""
        return self.count * self.fine

    @property
    def steps(self) -> int:
        """Hops that these samples touch."""
        return -(-self.span // self.transform.hop)

    @property
    def rows(self) -> int:
        """Rows a of the inner product, whole hops where frames are built of them."""
        return self.steps * self.transform.hop // self.fine if self.aligned else self.count

    @property
    def bin_rows(self) -> int:
        """Rows d of bins that hold a kept bin."""
        return -(-self.transform.bins // self.coarse)

    @property
    def angles(self) -> _Array:
        """2 pi c n / n_fft, shape=(fine b, rows a, coarse c)."""
        sample = self.sample[:, :, None]
        turns = (np.arange(self.coarse) * (sample % self.transform.n_fft)) % self.transform.n_fft
        return turns * (2.0 * np.pi / self.transform.n_fft)

    @property
    def sample(self) -> NDArray[np.int64]:
        """Place n in the frame, shape=(fine b, rows a)."""
        coarse = np.arange(self.begin, self.begin + self.rows)
        return self.fine * coarse + np.arange(self.fine)[:, None]

    @property
    def outer_angles(self) -> _Array:
        """2 pi b d / fine, shape=(fine b, bin_rows d)."""
        turns = np.outer(np.arange(self.fine), np.arange(self.bin_rows)) % self.fine
        return turns * (2.0 * np.pi / self.fine)

    def per_sample(self, window: NDArray[np.floating], offset: int) -> _Array:
        """Spread a window that starts at sample `offset` of the frame, shape=(fine b, rows a)."""
        whole = np.zeros(max(self.transform.n_fft, int(self.sample.max()) + 1))
        whole[offset : offset + len(window)] = window
        return whole[self.sample]


def _scheme(transform: Transform, begin: int, end: int) -> _Scheme:
    """Split for samples begin to end of a frame: the cheapest among those that need no reordering."""
    n_fft = transform.n_fft
    splits = [fine for fine in range(1, n_fft + 1) if n_fft % fine == 0]
    aligned = [fine for fine in splits if transform.hop % fine == 0]
    fine = min(splits, key=lambda split: split + n_fft // split)
    best = min(aligned, key=lambda split: split + n_fft // split)
    if best + n_fft // best <= 2 * (fine + n_fft // fine):
        fine = best
    first = begin // fine
    return _Scheme(
        transform=transform, coarse=n_fft // fine, fine=fine, begin=first, count=-(-end // fine) - first
    )


def forward_nodes(nodes: NodeList, transform: Transform, source: str, channels: int, samples: int) -> str:
    """Append the forward transform.

    Parameters
    ----------
    nodes
        Appended to.
    source
        Name of the waveform, [B, C, T].
    channels, samples
        C and T.

    Returns
    -------
    str
        Name of the spectrum, [B, C, 2, F, N]: real and imaginary part.
    """
    begin = transform.window_offset
    scheme = _scheme(transform, begin, begin + transform.window_span)
    frames = transform.frames(samples)
    cut = _frames(nodes, scheme, _padded(nodes, scheme, source, samples), channels, frames)
    inner = nodes.add("MatMul", nodes.constant(_inner_forward(scheme)), cut)
    flat = nodes.reshape(inner, 0, channels, 2 * scheme.fine, scheme.coarse * frames)
    outer = nodes.add("MatMul", nodes.constant(_outer_forward(scheme)), flat)
    spectrum = nodes.reshape(outer, 0, channels, 2, scheme.bin_rows * scheme.coarse, frames)
    if scheme.bin_rows * scheme.coarse != transform.bins:
        spectrum = nodes.slice(spectrum, {3: (0, transform.bins)})
    if transform.zeroed_analysis_bins:
        kept = np.arange(transform.bins) >= transform.zeroed_analysis_bins
        spectrum = nodes.add("Mul", spectrum, nodes.constant(kept.astype(np.float32)[:, None]))
    return spectrum


def inverse_nodes(nodes: NodeList, transform: Transform, source: str, rows: int, samples: int) -> str:
    """Append the inverse transform.

    Parameters
    ----------
    nodes
        Appended to.
    source
        Name of the spectrum, [B, R, 2, F, N].
    rows, samples
        R and T.

    Returns
    -------
    str
        Name of the waveform, [B, R, T].
    """
    begin, end = 0, transform.n_fft
    if transform.synthesis != "none":
        begin, end = transform.window_offset, transform.window_offset + transform.window_span
    scheme = _scheme(transform, begin, end)
    frames = transform.frames(samples)
    halo = scheme.steps - 1
    bins = scheme.bin_rows * scheme.coarse
    weighted = nodes.add("Mul", source, nodes.constant(_bin_weights(transform)))
    if transform.mirror == "off_by_one":
        # Bin k also takes the conjugate's place of bin k - 1, as in Transform.inverse_planes.
        following = nodes.slice(source, {3: (2, transform.bins)})
        weighted = nodes.add("Sub", weighted, nodes.pad(following, (0, 0, 0, 1, 0), (0, 0, 0, 1, 0)))
    # Empty frames around the real ones make all the hops of a frame slices of one length.
    padded = nodes.pad(weighted, (0, 0, 0, 0, halo), (0, 0, 0, bins - transform.bins, halo))
    width = frames + 2 * halo
    flat = nodes.reshape(padded, 0, rows, 2 * scheme.bin_rows, scheme.coarse * width)
    outer = nodes.add("MatMul", nodes.constant(_outer_inverse(scheme)), flat)
    split = nodes.reshape(outer, 0, rows, scheme.fine, 2 * scheme.coarse, width)
    inner = nodes.add("MatMul", nodes.constant(_inner_inverse(scheme)), split)
    sums = _overlapped(nodes, scheme, inner, rows, frames)
    return _normalised(nodes, scheme, sums, samples)


def _padded(nodes: NodeList, scheme: _Scheme, source: str, samples: int) -> str:
    """Pad and cut the waveform to the whole hops that the frames touch."""
    transform = scheme.transform
    framing = transform.framing(samples)
    start = framing.first + scheme.begin * scheme.fine
    stop = start + (framing.frames + scheme.steps - 1) * transform.hop
    mode = {"reflect": "reflect", "zero": "constant"}
    outer_end = framing.centre + framing.outer_left + samples + framing.outer_right
    signal = nodes.pad(
        source, (0, 0, framing.outer_left), (0, 0, framing.outer_right), mode[framing.outer_mode]
    )
    left = max(0, framing.centre - start)
    right = min(max(0, stop - outer_end), framing.centre)
    signal = nodes.pad(signal, (0, 0, left), (0, 0, right), mode[framing.centre_mode])
    signal = nodes.pad(signal, (0, 0, 0), (0, 0, max(0, stop - outer_end - right)))
    skipped = max(0, start - framing.centre)
    if skipped or stop < outer_end:
        signal = nodes.slice(signal, {2: (skipped, skipped + stop - start)})
    return signal


def _frames(nodes: NodeList, scheme: _Scheme, signal: str, channels: int, frames: int) -> str:
    """Cut the signal into frames: [B, C, fine b, rows a, N]."""
    hop, fine, steps = scheme.transform.hop, scheme.fine, scheme.steps
    hops = frames + steps - 1
    if scheme.aligned:
        blocks = nodes.reshape(signal, 0, channels, hops, hop // fine, fine)
        turned = nodes.add("Transpose", blocks, perm=[0, 1, 4, 3, 2])
        return _joined(nodes, [nodes.slice(turned, {4: (r, r + frames)}) for r in range(steps)], axis=3)
    turned = nodes.add("Transpose", nodes.reshape(signal, 0, channels, hops, hop), perm=[0, 1, 3, 2])
    joined = _joined(nodes, [nodes.slice(turned, {3: (r, r + frames)}) for r in range(steps)], axis=2)
    cut = nodes.slice(joined, {2: (0, scheme.span)})
    return nodes.add(
        "Transpose", nodes.reshape(cut, 0, channels, scheme.count, fine, frames), perm=[0, 1, 3, 2, 4]
    )


def _overlapped(nodes: NodeList, scheme: _Scheme, frames: str, rows: int, count: int) -> str:
    """Add up frames [B, R, fine b, rows a, N + 2 halo] to a signal [B, R, hops * hop]."""
    hop, fine, steps = scheme.transform.hop, scheme.fine, scheme.steps
    hops = count + steps - 1
    if scheme.aligned:
        per_hop = hop // fine
        parts = [
            nodes.slice(
                frames,
                {3: (r * per_hop, (r + 1) * per_hop), 4: (steps - 1 - r, steps - 1 - r + hops)},
            )
            for r in range(steps)
        ]
        turned = nodes.add("Transpose", _summed(nodes, parts), perm=[0, 1, 4, 3, 2])
        return nodes.reshape(turned, 0, rows, hops * hop)
    ordered = nodes.add("Transpose", frames, perm=[0, 1, 3, 2, 4])
    flat = nodes.reshape(ordered, 0, rows, scheme.span, count + 2 * (steps - 1))
    whole = nodes.pad(flat, (0, 0, 0, 0), (0, 0, steps * hop - scheme.span, 0))
    parts = [
        nodes.slice(whole, {2: (r * hop, (r + 1) * hop), 3: (steps - 1 - r, steps - 1 - r + hops)})
        for r in range(steps)
    ]
    turned = nodes.add("Transpose", _summed(nodes, parts), perm=[0, 1, 3, 2])
    return nodes.reshape(turned, 0, rows, hops * hop)


def _normalised(nodes: NodeList, scheme: _Scheme, sums: str, samples: int) -> str:
    """Cut the signal's samples out of the summed frames and divide by the windows' sum."""
    transform = scheme.transform
    framing = transform.framing(samples)
    begin = framing.inverse_origin - framing.first - scheme.begin * scheme.fine
    length = (framing.frames + scheme.steps - 1) * transform.hop
    padded = nodes.pad(sums, (0, 0, max(0, -begin)), (0, 0, max(0, begin + samples - length)))
    signal = nodes.slice(padded, {2: (max(0, begin), max(0, begin) + samples)})
    envelope = transform.inverse_envelope(samples)
    return signal if envelope is None else nodes.add("Mul", signal, nodes.constant(envelope))


def _inner_forward(scheme: _Scheme) -> NDArray[np.float32]:
    """Inner product, shape=(fine b, 2 coarse c, rows a): window, transform and twiddle factors."""
    window = scheme.per_sample(scheme.transform.analysis_window, scheme.transform.window_offset)
    angles = scheme.angles
    parts = np.stack([np.cos(angles), -np.sin(angles)], axis=1) * window[:, None, :, None]
    values = np.moveaxis(parts, 3, 2).reshape(scheme.fine, 2 * scheme.coarse, scheme.rows)
    return values.astype(np.float32)


def _outer_forward(scheme: _Scheme) -> NDArray[np.float32]:
    """Outer product, shape=(2 bin_rows d, fine b * 2): the complex factor exp(-i angle)."""
    cos, sin = np.cos(scheme.outer_angles.T), np.sin(scheme.outer_angles.T)
    values = np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)])
    return values.reshape(2 * scheme.bin_rows, 2 * scheme.fine).astype(np.float32)


def _outer_inverse(scheme: _Scheme) -> NDArray[np.float32]:
    """Outer product of the inverse, shape=(fine b * 2, 2 bin_rows d): exp(+i angle)."""
    cos, sin = np.cos(scheme.outer_angles), np.sin(scheme.outer_angles)
    values = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
    return values.reshape(2 * scheme.fine, 2 * scheme.bin_rows).astype(np.float32)


def _inner_inverse(scheme: _Scheme) -> NDArray[np.float32]:
    """Inner product of the inverse, shape=(fine b, rows a, 2 coarse c), with the synthesis window."""
    window = scheme.per_sample(scheme.transform.synthesis_window, 0) / scheme.transform.n_fft
    angles = scheme.angles
    parts = np.stack([np.cos(angles), -np.sin(angles)], axis=2) * window[:, :, None, None]
    return parts.reshape(scheme.fine, scheme.rows, 2 * scheme.coarse).astype(np.float32)


def _bin_weights(transform: Transform) -> NDArray[np.float32]:
    """How often a bin counts in a real signal: twice but for the first and the last, shape=(F, 1)."""
    weights = np.full((transform.bins, 1), 2.0 if transform.mirror == "exact" else 1.0, np.float32)
    weights[0] = 1.0
    weights[transform.n_fft // 2 :] = 1.0
    weights[: transform.zeroed_synthesis_bins] = 0.0
    return weights


def _joined(nodes: NodeList, parts: list[str], *, axis: int) -> str:
    return parts[0] if len(parts) == 1 else nodes.add("Concat", *parts, axis=axis)


def _summed(nodes: NodeList, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else nodes.add("Sum", *parts)
