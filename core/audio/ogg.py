"""Ogg pages (RFC 3533): where a stream ends, and other comments for a Vorbis file.

FFmpeg's muxer and demuxer lose or invent samples of Vorbis files that fit into one page, so that
comments are put in here, page by page, and the last page's granule position tells the length.
"""

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from stemwright.core.audio.pictures import Picture

_HEADER = struct.Struct("<4sBBqIIIB")
PAGE_MAX = 27 + 255 + 255 * 255
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_FRONT_COVER = 3
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_VORBIS_IDENTIFICATION, _VORBIS_COMMENT = b"\x01vorbis", b"\x03vorbis"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page: its flags, granule position, stream, number, lacing and body."""

    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    body: bytes

    @property
    def last(self) -> bool:
        """Whether it ends its stream."""
        return bool(self.flags & _LAST)

    def encoded(self) -> bytes:
        """Return the page's bytes, with its checksum."""
        fields = (b"OggS", 0, self.flags, self.granule, self.serial, self.number)
        plain = _HEADER.pack(*fields, 0, len(self.lacing)) + self.lacing + self.body
        return plain[:22] + struct.pack("<I", checksum(plain)) + plain[26:]


def checksum(data: bytes) -> int:
    """CRC-32 of RFC 3533: polynomial 0x04C11DB7, most significant bit first, start 0, no final inversion."""
    mirrored = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def read_page(file: BinaryIO) -> Page | None:
    """Read the page at the file's position; None at the end, or where no whole page lies there."""
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[:4] != b"OggS":
        return None
    _, _, flags, granule, serial, number, _, segments = _HEADER.unpack(head)
    lacing = file.read(segments)
    body = file.read(sum(lacing))
    if len(lacing) < segments or len(body) < sum(lacing):
        return None
    return Page(flags=flags, granule=granule, serial=serial, number=number, lacing=lacing, body=body)


def last_page(file: BinaryIO) -> Page | None:
    """Read the last page of a file; None where it is cut off or damaged."""
    size = file.seek(0, 2)
    start = max(0, size - PAGE_MAX)
    file.seek(start)
    at = file.read(PAGE_MAX).rfind(b"OggS")
    if at < 0:
        return None
    file.seek(start + at)
    page = read_page(file)
    file.seek(start + at)
    return page if page is not None and page.encoded() == file.read(len(page.encoded())) else None


def vorbis_end(file: BinaryIO) -> int | None:
    """Position behind the last sample of a file that holds one Vorbis stream and nothing else.

    None for chained streams (a page that begins a stream behind audio), for several streams side
    by side, and where the pages do not follow each other without a gap.
    """
    file.seek(0)
    first = read_page(file)
    if first is None or not first.body.startswith(_VORBIS_IDENTIFICATION):
        return None
    end = 0
    while len(head := file.read(_HEADER.size)) == _HEADER.size:
        _, _, flags, granule, serial, _, _, segments = _HEADER.unpack(head)
        if head[:4] != b"OggS" or flags & _FIRST or serial != first.serial:
            return None
        end = max(end, granule)
        file.seek(sum(file.read(segments)), 1)
    return end or None


def rewrite_comments(source: BinaryIO, target: BinaryIO, comments: Mapping[str, str], vendor: str) -> None:
    """Copy an Ogg Vorbis file with other comments; audio pages keep their bodies and positions.

    Parameters
    ----------
    source, target
        The file to read, as libvorbis lays it out (setup header and audio on pages of their own),
        and the file to write. The serial number becomes 1, so that equal input gives equal files.
    comments
        Upper-case names and texts.
    vendor
        Name of the encoder.

    Raises
    ------
    ValueError
        The source is no such file.
    """
    identification, headers = read_page(source), _header_packets(source)
    if identification is None or not identification.body.startswith(_VORBIS_IDENTIFICATION):
        raise ValueError("not an Ogg Vorbis stream")
    setup = headers[1]
    target.write(_renumbered(identification, 0).encoded())
    number = 1
    for header in _paged((_comment_packet(comments, vendor), setup)):
        target.write(_renumbered(header, number).encoded())
        number += 1
    ended = False
    while (page := read_page(source)) is not None:
        target.write(_renumbered(page, number).encoded())
        number += 1
        ended = page.last
    if not ended:
        raise ValueError("the stream is not complete")


def picture_block(data: bytes, picture: Picture) -> str:
    """Make the text of a METADATA_BLOCK_PICTURE comment: FLAC's block for a front cover, in base 64."""
    mime = picture.mime.encode()
    head = struct.pack(">II", _FRONT_COVER, len(mime)) + mime
    # no description, size in pixels, 24 bits each, no palette
    head += struct.pack(">IIIIII", 0, picture.width, picture.height, 24, 0, len(data))
    return base64.b64encode(head + data).decode()


def _renumbered(page: Page, number: int) -> Page:
    return Page(
        flags=page.flags, granule=page.granule, serial=1, number=number, lacing=page.lacing, body=page.body
    )


def _header_packets(source: BinaryIO) -> tuple[bytes, bytes]:
    """Comment and setup packet, from the pages behind the first."""
    packets: list[bytes] = []
    pending = b""
    while len(packets) < 2:
        page = read_page(source)
        if page is None:
            raise ValueError("the headers are not complete")
        at = 0
        for segment in page.lacing:
            pending += page.body[at : at + segment]
            at += segment
            if segment < 255:
                packets.append(pending)
                pending = b""
    if len(packets) != 2 or not packets[0].startswith(_VORBIS_COMMENT):
        raise ValueError("the headers are not those of Vorbis")
    return packets[0], packets[1]


def _comment_packet(comments: Mapping[str, str], vendor: str) -> bytes:
    lines = [f"{name}={text}".encode() for name, text in comments.items()]
    packed = [vendor.encode(), *lines]
    body = struct.pack("<I", len(packed[0])) + packed[0] + struct.pack("<I", len(lines))
    body += b"".join(struct.pack("<I", len(line)) + line for line in lines)
    return _VORBIS_COMMENT + body + b"\x01"


def _paged(packets: tuple[bytes, ...]) -> Iterator[Page]:
    """Lay header packets on pages, one behind the other; a page in which none ends has no position."""
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    data = b"".join(packets)
    flags, at = 0, 0
    for start in range(0, len(lacing), 255):
        part = lacing[start : start + 255]
        ends = any(segment < 255 for segment in part)
        body = data[at : at + sum(part)]
        yield Page(flags=flags, granule=0 if ends else -1, serial=1, number=0, lacing=part, body=body)
        at += len(body)
        flags = _CONTINUED if part[-1] == 255 else 0
