"""Samples as bytes: raw PCM, and WAV read and written as it comes, without a file to seek in."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError

Encoding = Literal["s16le", "s24le", "s32le", "f32le"]

_WIDTHS: dict[Encoding, int] = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
_MOST_CHANNELS = 64
_LONGEST_CHUNK = 1 << 20  # in front of the samples; tags and cues are far shorter. Chosen here
UNKNOWN_SIZE = 0xFFFFFFFF
"""What a header says of a length that nobody knows yet."""
_EXTENSIBLE = 0xFFFE
_REMEDY = "send a WAV file, or raw samples with --format, --rate and --channels"


@dataclass(frozen=True, kw_only=True)
class PcmFormat:
    """What bytes mean: the encoding of a sample, rate in Hz, interleaved channels."""

    encoding: Encoding
    sample_rate: int
    channels: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return _WIDTHS[self.encoding] * self.channels

    def decode(self, data: bytes) -> FloatArray:
        """Return samples, float32, nominal range -1..1, shape=(channels, n), of whole frames."""
        if self.encoding == "f32le":
            flat = np.frombuffer(data, "<f4").astype(np.float32)
        elif self.encoding == "s16le":
            flat = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(1 << 15)
        elif self.encoding == "s32le":
            flat = (np.frombuffer(data, "<i4") / float(1 << 31)).astype(np.float32)
        else:
            padded = np.zeros((len(data) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            flat = (padded.view("<i4")[:, 0] / float(1 << 31)).astype(np.float32)
        return np.ascontiguousarray(flat.reshape(-1, self.channels).T)

    def encode(self, samples: FloatArray) -> bytes:
        """Return the bytes of samples, shape=(channels, n); integers are clipped at full scale."""
        flat = np.ascontiguousarray(samples.T, np.float32).reshape(-1)
        if self.encoding == "f32le":
            return flat.astype("<f4").tobytes()
        bits = 8 * _WIDTHS[self.encoding]
        top = float(1 << (bits - 1))
        whole = np.clip(np.rint(flat.astype(np.float64) * top), -top, top - 1)
        if self.encoding == "s24le":
            return whole.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        return whole.astype("<i2" if bits == 16 else "<i4").tobytes()


def wav_header(fmt: PcmFormat) -> bytes:
    """Return the head of a WAV file of unknown length, as readers of pipes expect it."""
    kind = 3 if fmt.encoding == "f32le" else 1
    width = _WIDTHS[fmt.encoding]
    rate = fmt.sample_rate * fmt.frame_bytes
    body = struct.pack("<HHIIHH", kind, fmt.channels, fmt.sample_rate, rate, fmt.frame_bytes, 8 * width)
    head = struct.pack("<4sI4s4sI", b"RIFF", UNKNOWN_SIZE, b"WAVE", b"fmt ", len(body))
    return head + body + struct.pack("<4sI", b"data", UNKNOWN_SIZE)


@dataclass(frozen=True, kw_only=True)
class WavStream:
    """The head of a WAV stream: what follows, and how many bytes of it; None if that is not known."""

    fmt: PcmFormat
    data_bytes: int | None


def read_wav_head(read: Callable[[int], bytes]) -> WavStream:
    """Read a WAV stream up to its first sample.

    Parameters
    ----------
    read
        Gives as many bytes as it is asked for, fewer only at the end.

    Raises
    ------
    InputError
        No WAV, or samples of another kind than PCM of 16, 24 or 32 bits or 32-bit float.
    """
    head = read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        raise InputError("standard input is no WAV", _REMEDY)
    fmt: PcmFormat | None = None
    while True:
        chunk = read(8)
        if len(chunk) < 8:
            raise InputError("the WAV ends before its samples", _REMEDY)
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            if fmt is None:
                raise InputError("the WAV has samples before their format", _REMEDY)
            # Writers to pipes put 0 or the largest number there, which a header of RF64 always has.
            known = 0 < size < UNKNOWN_SIZE and size < 0x7FFFF000
            return WavStream(fmt=fmt, data_bytes=size if known else None)
        if size > _LONGEST_CHUNK:
            raise InputError(f"the WAV has {size} bytes of something else before its samples", _REMEDY)
        body = read(size + size % 2)
        if chunk[:4] == b"fmt ":
            fmt = _format(body)


def _format(body: bytes) -> PcmFormat:
    if len(body) < 16:
        raise InputError("the WAV's format is truncated", _REMEDY)
    kind, channels, rate, _, align, bits = struct.unpack("<HHIIHH", body[:16])
    if kind == _EXTENSIBLE and len(body) >= 26:
        kind = int.from_bytes(body[24:26], "little")
    known: dict[tuple[int, int], Encoding] = {
        (1, 16): "s16le",
        (1, 24): "s24le",
        (1, 32): "s32le",
        (3, 32): "f32le",
    }
    encoding = known.get((kind, bits))
    if encoding is None:
        raise InputError(
            f"the WAV has samples of kind {kind} with {bits} bits",
            "send PCM of 16, 24 or 32 bits or 32-bit float",
        )
    fmt = PcmFormat(encoding=encoding, sample_rate=rate, channels=channels)
    if not 1 <= channels <= _MOST_CHANNELS or not 1000 <= rate <= 768_000 or align != fmt.frame_bytes:
        raise InputError(f"the WAV has {channels} channels at {rate} Hz, {align} bytes each", _REMEDY)
    return fmt
