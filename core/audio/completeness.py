"""Is a file all there? What a container's own structure says of its length.

FFmpeg reads what there is and stops without a word where a file was cut off. So the sizes that
the headers give are held against the file here, without decoding.
"""

import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

from stemwright.core.audio.mp3 import count, skip_id3v2
from stemwright.core.audio.ogg import last_page, vorbis_end

# Sizes that programs which write to a pipe leave in a WAV header: unknown, read to the end
# (0 and 0xFFFFFFFF: FFmpeg and others; 0x7FFFF000: SoX; 0x7FFFFFFF, 0x80000000 and 0x7FFFFF00: arecord).
_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0x7FFFFF00)
_MAX_CHUNKS = 100_000
_MP3_SEARCH = 1 << 16
_MAGIC = (b"RIFF", b"RF64", b"BW64", b"FORM", b"caff", b"fLaC", b"OggS")
_MP4_BOXES = (
    b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"udta", b"meta", b"uuid", b"sidx",
    b"styp", b"mfra", b"pdin", b"emsg", b"ssix", b"prft", b"pnot",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What a file's structure promises.

    Parameters
    ----------
    known
        Whether the first bytes are those of a container looked into here.
    fault
        What is missing, in words; empty where the file is whole as far as its structure tells.
    frames
        Length that decoding must reach, in samples per channel.
    end
        Position behind the last sample; what is decoded behind it is padding.
    packets
        Number of coded frames that must be there.
    movie_timescale
        Ticks a second of an MP4's edit lists.
    """

    known: bool = False
    fault: str = ""
    frames: int | None = None
    end: int | None = None
    packets: int | None = None
    movie_timescale: int = 0


def inspect(file: BinaryIO) -> Structure:
    """Compare a file with the sizes in its headers; leaves it at its beginning.

    Parameters
    ----------
    file
        Any file, audio or not; what has no sizes to compare is not faulted.
    """
    size = file.seek(0, 2)
    try:
        start = skip_id3v2(file)
        file.seek(start)
        head = file.read(12)
        return replace(_inspect(file, head, start, size), known=_is_known(head))
    except struct.error:
        return Structure(fault="its header is cut off")
    finally:
        file.seek(0)


def _is_known(head: bytes) -> bool:
    return (
        head[:4] in (b"RIFF", b"RF64", b"BW64", b"FORM", b"caff", b"fLaC", b"OggS") or head[4:8] in _MP4_BOXES
    )


def _inspect(file: BinaryIO, head: bytes, start: int, size: int) -> Structure:
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _samples_fit(file, start, size, _WAV)
    if head[:4] == b"RIFF":
        declared = int.from_bytes(head[4:8], "little")
        return _beyond(start + 8 + declared, size) if declared not in _UNKNOWN_SIZES else Structure()
    if head[:4] == b"FORM" and head[8:11] == b"AIF":
        return _samples_fit(file, start, size, _AIFF)
    if head[:4] == b"caff":
        return _samples_fit(file, start, size, _CAF)
    if head[:4] == b"riff":
        return _samples_fit(file, start, size, _W64)
    if head[:4] == b"fLaC":
        return _flac(file, start)
    if head[:4] == b"OggS":
        return _ogg(file)
    if head[4:8] in _MP4_BOXES:
        return _mp4(file, size)
    if head[:4] == b"\x1aE\xdf\xa3":
        return _matroska(file, size)
    file.seek(start)
    counted = count(file.read(_MP3_SEARCH))
    return Structure(packets=counted.frames, end=counted.samples)


def _beyond(end: int, size: int) -> Structure:
    if end <= size:
        return Structure()
    return Structure(fault=f"its header promises {end} bytes, the file has {size}")


@dataclass(frozen=True, kw_only=True)
class _Chunked:
    """How the chunks of a container of plain samples are laid out."""

    first: int
    header: struct.Struct
    data: bytes
    align: int = 2
    inclusive: bool = False
    unknown: tuple[int, ...] = ()


_WAV = _Chunked(first=12, header=struct.Struct("<4sI"), data=b"data", unknown=_UNKNOWN_SIZES)
_AIFF = _Chunked(first=12, header=struct.Struct(">4sI"), data=b"SSND")
_CAF = _Chunked(first=8, header=struct.Struct(">4sq"), data=b"data", align=1, unknown=(-1,))
_W64 = _Chunked(
    first=40,
    header=struct.Struct("<16sQ"),
    data=b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a",
    align=8,
    inclusive=True,
)


def _samples_fit(file: BinaryIO, start: int, size: int, layout: _Chunked) -> Structure:
    """Find the chunk of samples, and see whether the file holds all of it."""
    offset = start + layout.first
    long_size: int | None = None
    for _ in range(_MAX_CHUNKS):
        if offset > size:
            return _beyond(offset, size)
        file.seek(offset)
        head = file.read(layout.header.size)
        if len(head) < layout.header.size:
            return Structure()
        kind, length = layout.header.unpack(head)
        body = offset + layout.header.size
        if layout.inclusive:
            length -= layout.header.size
        if kind == b"ds64":
            # RF64 and BW64 keep sizes beyond 32 bits here
            long_size = struct.unpack("<8xQ", file.read(16))[0]
        if kind == layout.data:
            if long_size is not None and length == 0xFFFFFFFF:
                return _beyond(body + long_size, size)
            return Structure() if length in layout.unknown else _beyond(body + length, size)
        if length < 0:
            return Structure(fault="its chunks are damaged")
        offset = body + length + -length % layout.align
    return Structure(fault="it has more chunks than any recording")


def _flac(file: BinaryIO, start: int) -> Structure:
    file.seek(start + 4)
    block = file.read(38)
    if len(block) < 38:
        return Structure(fault="its header is cut off")
    if block[0] & 0x7F != 0:
        return Structure()
    # STREAMINFO: 36 bits of total samples behind rate (20), channels (3) and depth (5)
    total = int.from_bytes(block[4 + 10 : 4 + 18], "big") & ((1 << 36) - 1)
    return Structure(frames=total or None)


def _ogg(file: BinaryIO) -> Structure:
    if last_page(file) is None:
        return Structure(fault="its last page is not whole")
    return Structure(end=vorbis_end(file))


def _mp4(file: BinaryIO, size: int) -> Structure:
    offset, timescale = 0, 0
    for _ in range(_MAX_CHUNKS):
        file.seek(offset)
        head = file.read(16)
        if len(head) < 8 or head[4:8] not in _MP4_BOXES:
            break
        length = int.from_bytes(head[:4], "big")
        header = 8
        if length == 1:
            length, header = struct.unpack(">Q", head[8:16])[0], 16
        if length == 0:
            length = size - offset
        if length < header:
            return Structure(fault="its boxes are damaged")
        if offset + length > size:
            return Structure(
                fault=f"its header promises {offset + length} bytes or more, the file has {size}"
            )
        if head[4:8] == b"moov":
            timescale = _movie_timescale(file, offset + header, offset + length)
        offset += length
    return Structure(movie_timescale=timescale)


def _movie_timescale(file: BinaryIO, offset: int, end: int) -> int:
    while offset + 8 <= end:
        file.seek(offset)
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"mvhd":
            body = file.read(32)
            at = 20 if body[:1] == b"\x01" else 12
            return int.from_bytes(body[at : at + 4], "big")
        if length < 8:
            return 0
        offset += length
    return 0


def _matroska(file: BinaryIO, size: int) -> Structure:
    file.seek(4)
    header, known = _ebml_size(file)
    if not known:
        return Structure()
    file.seek(header, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return Structure()
    length, known = _ebml_size(file)
    return _beyond(file.tell() + length, size) if known else Structure()


def _ebml_size(file: BinaryIO) -> tuple[int, bool]:
    """Size of an EBML element, and whether it is known (all bits set means that it is not)."""
    first = file.read(1)
    if not first or first[0] == 0:
        return 0, False
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    value = int.from_bytes(bytes([first[0] & ((1 << (8 - width)) - 1)]) + rest, "big")
    return value, value != (1 << (7 * width)) - 1
