"""From waveforms to a graph's inputs, and from its outputs to stems, by the roles in its manifest.

This is the host side of `stemwright.models.manifest.GraphInput` and `GraphOutput`: it runs once
per call of the network, in a worker thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import ComplexArray, FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.core.transforms import Transform
from stemwright.models.manifest import Graph, GraphOutput

MASK_ROLES = frozenset({"mask", "complex_mask"})


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """Inputs of one call.

    Attributes
    ----------
    arrays
        float32 arrays by the input's name.
    spectrum
        The mixture's spectrum, complex64, shape=(B, C, F, N), where an output is a mask on it.
    """

    arrays: dict[str, FloatArray]
    spectrum: ComplexArray | None


def model_inputs(
    graph: Graph,
    waveform: FloatArray,
    *,
    condition: FloatArray | None = None,
    spans: Sequence[tuple[int, int]] | None = None,
    workers: int = 1,
) -> ModelInputs:
    """Build the graph's inputs.

    Parameters
    ----------
    graph
        The graph's signature.
    waveform
        The mixture, float32, shape=(B, C, T).
    condition
        What is asked for, float32, shape=(B, D); None leaves that input out.
    spans
        For each item, begin and end of the recording in samples from the item's begin; None where the
        recording goes on on both sides.
    workers
        Threads of the Fourier transform.

    Returns
    -------
    ModelInputs
        Arrays that may share memory with each other and with `waveform`.
    """
    roles = {port.role for port in graph.inputs}
    masks = any(port.role in MASK_ROLES for port in graph.outputs)
    spectrum = None
    fill = graph.outside_frames == "zero" and spans is not None
    if masks or roles & {"complex", "magnitude"} or (fill and "cac" in roles):
        spectrum = _transform(graph).forward(waveform, workers=workers)
        if fill and spans is not None:
            _zero_outside(spectrum, _transform(graph).hop, spans)
    arrays: dict[str, FloatArray] = {}
    for port in graph.inputs:
        if port.role == "waveform":
            arrays[port.name] = waveform
        elif port.role == "cac":
            arrays[port.name] = _complex_as_channels(_transform(graph), waveform, spectrum, workers)
        elif port.role == "complex":
            arrays[port.name] = _pairs(spectrum)
        elif port.role == "condition":
            if condition is not None:
                arrays[port.name] = condition
        else:
            arrays[port.name] = np.abs(_needed(spectrum))
    return ModelInputs(arrays=arrays, spectrum=spectrum if masks else None)


def stems_from_outputs(
    graph: Graph,
    outputs: Mapping[str, FloatArray],
    spectrum: ComplexArray | None,
    samples: int,
    *,
    workers: int = 1,
) -> FloatArray:
    """Build the stems from the graph's outputs.

    Spectra are summed before the inverse transform, which therefore runs once per stem and channel.

    Parameters
    ----------
    graph
        The graph's signature.
    outputs
        float32 arrays by the output's name.
    spectrum
        `ModelInputs.spectrum` of the same call.
    samples
        Length of the call's input window.
    workers
        Threads of the Fourier transform.

    Returns
    -------
    FloatArray
        float32, shape=(B, S, C, T); T is `samples` if any output is spectral, else the length of
        the graph's waveforms.

    Raises
    ------
    ModelFileError
        The outputs' shapes contradict the manifest.
    """
    waves = [outputs[port.name] for port in graph.outputs if port.role == "waveform"]
    spectral = [port for port in graph.outputs if port.role != "waveform"]
    if not spectral:
        _check_equal_shapes(graph, waves)
        return waves[0] if len(waves) == 1 else np.sum(waves, axis=0, dtype=np.float32)
    transform = _transform(graph)
    frames = transform.frames(samples)
    shapes = {_stem_shape(port, outputs[port.name], transform.bins, frames) for port in spectral}
    shapes |= {wave.shape[:3] if wave.shape[3:] == (samples,) else wave.shape for wave in waves}
    if len(shapes) > 1:
        raise _contradiction(f"the outputs disagree on stems, channels or length: {sorted(shapes)}")
    batch, stems, channels = shapes.pop()
    result = np.empty((batch, stems, channels, samples), np.float32)
    for stem in range(stems):
        real, imag = _stem_spectrum(graph, outputs, spectrum, stem)
        target = result[:, stem]
        transform.inverse_planes(real, imag, samples, out=target, workers=workers)
        for wave in waves:
            target += wave[:, stem]
    return result


def _zero_outside(spectrum: ComplexArray, hop: int, spans: Sequence[tuple[int, int]]) -> None:
    """Set frames whose centre, sample i * hop of the window, is not in the recording to zero."""
    centres = np.arange(spectrum.shape[-1]) * hop
    for item, (first, stop) in zip(spectrum, spans, strict=True):
        item[..., (centres < first) | (centres >= stop)] = 0


def _complex_as_channels(
    transform: Transform, waveform: FloatArray, spectrum: ComplexArray | None, workers: int
) -> FloatArray:
    if spectrum is None:
        planes = transform.forward_planes(waveform, workers=workers)
    else:
        planes = np.stack([spectrum.real, spectrum.imag], axis=2)
    batch, channels, parts, bins, frames = planes.shape
    return planes.reshape(batch, channels * parts, bins, frames)


def _pairs(spectrum: ComplexArray | None) -> FloatArray:
    values = _needed(spectrum)
    return values.view(np.float32).reshape(*values.shape, 2)


def _stem_shape(port: GraphOutput, array: FloatArray, bins: int, frames: int) -> tuple[int, ...]:
    """Batch, stems and channels of a spectral output."""
    wanted = {"mask": (bins, frames), "cac": (bins, frames)}.get(port.role, (bins, frames, 2))
    odd = port.role == "cac" and array.ndim == 5 and array.shape[2] % 2
    if array.ndim != 3 + len(wanted) or array.shape[3:] != wanted or odd:
        raise _contradiction(
            f"output {port.name} has shape {array.shape}, which is no {port.role} "
            f"of {bins} bins and {frames} frames"
        )
    batch, stems, channels = array.shape[:3]
    return batch, stems, channels // 2 if port.role == "cac" else channels


def _stem_spectrum(
    graph: Graph, outputs: Mapping[str, FloatArray], spectrum: ComplexArray | None, stem: int
) -> tuple[FloatArray, FloatArray]:
    """Sum of one stem's spectra: real and imaginary part, shape=(B, C, F, N)."""
    first, *others = (port for port in graph.outputs if port.role != "waveform")
    real, imag = _stem_planes(first, outputs[first.name][:, stem], spectrum, graph.gate)
    for port in others:
        more_real, more_imag = _stem_planes(port, outputs[port.name][:, stem], spectrum, graph.gate)
        real, imag = real + more_real, imag + more_imag
    return real, imag


def _stem_planes(
    port: GraphOutput, values: FloatArray, spectrum: ComplexArray | None, gate: float | None
) -> tuple[FloatArray, FloatArray]:
    if port.role == "cac":
        return values[:, 0::2], values[:, 1::2]
    if port.role == "spectra":
        return values[..., 0], values[..., 1]
    if port.role == "mask":
        if gate is not None:
            values = np.where(values < np.float32(gate), np.float32(0), values)
        product = _needed(spectrum) * values
    else:
        product = _needed(spectrum) * np.ascontiguousarray(values).view(np.complex64)[..., 0]
    return product.real, product.imag


def _check_equal_shapes(graph: Graph, waves: list[FloatArray]) -> None:
    shapes = sorted({wave.shape for wave in waves})
    if len(shapes) > 1 or len(shapes[0]) != 4:
        names = ", ".join(port.name for port in graph.outputs)
        raise _contradiction(f"outputs {names} have shapes {shapes}, not one [B, S, C, T]")


def _contradiction(message: str) -> ModelFileError:
    return ModelFileError(f"the model contradicts its manifest: {message}", "import or pull the model again")


def _transform(graph: Graph) -> Transform:
    if graph.transform is None:
        raise ValueError("a spectral port without a transform")
    return graph.transform


def _needed(spectrum: ComplexArray | None) -> ComplexArray:
    if spectrum is None:
        raise ValueError("the mixture's spectrum is needed: pass ModelInputs.spectrum of the same call")
    return spectrum
