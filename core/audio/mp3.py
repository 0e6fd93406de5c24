"""Frame headers of MPEG audio, layer III (ISO 11172-3, 2.4.2.3, and 13818-3 for the lower rates)."""

from dataclasses import dataclass
from typing import BinaryIO

_KBPS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_MPEG1 = (44100, 48000, 32000)


def frame_bytes(header: bytes) -> int:
    """Length of a frame in bytes by its four header bytes.

    Returns
    -------
    int
        0 where this is no header of layer III; 1 for the free format, whose length is not told.
    """
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate_index, bitrate_index = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate_index == 3 or bitrate_index == 15:
        return 0
    if bitrate_index == 0:
        return 1
    padding = header[2] >> 1 & 1
    if version == 3:
        return 144_000 * _KBPS_MPEG1[bitrate_index] // _RATES_MPEG1[rate_index] + padding
    rate = _RATES_MPEG1[rate_index] // (2 if version == 2 else 4)
    return 72_000 * _KBPS_MPEG2[bitrate_index] // rate + padding


def starts_with_frames(data: bytes, *, wanted: int = 3) -> bool:
    """Whether data begins with frames that follow each other: `wanted` of them, or to the end."""
    at = 0
    for _ in range(wanted):
        length = frame_bytes(data[at : at + 4])
        if length < 4:
            return False
        at += length
        if at == len(data):
            return True
    return True


def skip_id3v2(file: BinaryIO) -> int:
    """Offset behind the ID3v2 tags at the beginning, which MP3 and FLAC files may have."""
    offset = 0
    while True:
        file.seek(offset)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
            return offset
        length = (head[6] << 21) | (head[7] << 14) | (head[8] << 7) | head[9]
        offset += 10 + length + (10 if head[5] & 0x10 else 0)


@dataclass(frozen=True, kw_only=True)
class Count:
    """What an MP3 file's Xing, Info or VBRI header counts.

    Parameters
    ----------
    frames
        Coded frames, None without such a header.
    samples
        Samples without the encoder's delay and padding, None where LAME's extension does not
        tell these.
    """

    frames: int | None = None
    samples: int | None = None


def count(data: bytes) -> Count:
    """Read the header in the first frame of an MP3 file.

    Parameters
    ----------
    data
        The file from behind its ID3v2 tag, as far as the first frame may lie.
    """
    at = data.find(b"\xff")
    while 0 <= at < len(data) and not frame_bytes(data[at : at + 4]):
        at = data.find(b"\xff", at + 1)
    if at < 0:
        return Count()
    mpeg1, mono = data[at + 1] & 0x08, data[at + 3] >> 6 == 3
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    tag = data[at + 4 + side : at + 4 + side + 156].ljust(156, b"\0")
    if tag[:4] in (b"Xing", b"Info") and tag[7] & 1:
        frames = int.from_bytes(tag[8:12], "big")
        return Count(frames=frames, samples=_lame_samples(tag, frames * (1152 if mpeg1 else 576)))
    vbri = data[at + 36 : at + 36 + 18]
    return Count(frames=int.from_bytes(vbri[14:18], "big")) if vbri[:4] == b"VBRI" else Count()


def _lame_samples(tag: bytes, total: int) -> int | None:
    at = 8 + 4 + (4 if tag[7] & 2 else 0) + (100 if tag[7] & 4 else 0) + (4 if tag[7] & 8 else 0)
    packed = int.from_bytes(tag[at + 21 : at + 24], "big")
    delay, padding = packed >> 12, packed & 0xFFF
    return total - delay - padding if delay and total > delay + padding else None
