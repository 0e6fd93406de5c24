"""Cover pictures: what containers want to know of an encoded JPEG or PNG."""

import struct
from dataclasses import dataclass

# Start-of-frame markers: all of 0xC0 to 0xCF but DHT, JPG and DAC (ITU T.81, table B.1).
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Kind and size of an encoded picture; FFmpeg's name of its codec."""

    mime: str
    codec: str
    width: int
    height: int


def identify(data: bytes) -> Picture | None:
    """Find out what a picture is, None where it is no JPEG or PNG, or damaged."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return Picture(mime="image/png", codec="png", width=width, height=height)
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    return None


def _jpeg(data: bytes) -> Picture | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Picture(mime="image/jpeg", codec="mjpeg", width=width, height=height)
        if marker == 0xFF:
            at += 1
        elif marker in _STANDALONE:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None
