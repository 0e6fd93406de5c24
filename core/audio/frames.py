"""What FFmpeg's decoded frames hold: samples and names of channels."""

import numpy as np
from av.audio.frame import AudioFrame

from stemwright.core.arrays import FloatArray

_LAYOUTS = {
    1: ("FC",),
    2: ("FL", "FR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
_UNNAMED = ("NONE", "UNSD", "UNK", "")
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}


def default_layout(channels: int) -> tuple[str, ...]:
    """Name channels that their file leaves unnamed: mono, stereo, 5.1, 7.1, else CH1, CH2 ..."""
    return _LAYOUTS.get(channels) or tuple(f"CH{index + 1}" for index in range(channels))


def frame_layout(frame: AudioFrame) -> tuple[str, ...]:
    """Name a frame's channels, as the file does or by `default_layout`."""
    names = tuple(channel.name for channel in frame.layout.channels)
    if any(name in _UNNAMED for name in names) or len(set(names)) != len(names):
        return default_layout(len(names))
    return names


def is_convertible(frame: AudioFrame) -> bool:
    """Whether `to_float` knows the frame's samples; it does not know 64-bit integers."""
    return frame.format.name.removesuffix("p") in _FULL_SCALE


def to_float(frame: AudioFrame) -> FloatArray:
    """Convert a decoded frame to float32, shape=(channels, n); integers are divided by 2**(bits - 1)."""
    kind = frame.format.name.removesuffix("p")
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is found as such
        out = np.ascontiguousarray(samples, dtype=np.float32)
    if kind == "u8":
        out -= np.float32(128)
    full_scale = _FULL_SCALE[kind]
    return out if full_scale == 1.0 else out * np.float32(1.0 / full_scale)
