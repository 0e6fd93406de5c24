"""Boxes of an MP4 file's movie header that FFmpeg's muxer does not write.

The header is the last box of the files written here, so that it can grow without moving any
audio, and no chunk offset changes.

References
----------
ISO/IEC 14496-12, sections 4.2 (boxes) and 8.6.6 (edit list); iTunes' metadata as FFmpeg and
Picard read it.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

_FREE_FORM_OWNER = b"com.apple.iTunes"
# hdlr of an iTunes metadata box: version and flags, predefined, type, manufacturer, reserved, name
_METADATA_HANDLER = struct.pack(">I4x4s4s9x", 0, b"mdir", b"appl")
_UTF8, _JPEG, _PNG = 1, 13, 14


def box(kind: bytes, payload: bytes) -> bytes:
    """Return a box: size, kind, payload."""
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def children(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of each box in a payload.

    Raises
    ------
    ValueError
        The bytes are no boxes.
    """
    at = 0
    while at + 8 <= len(payload):
        size, kind = struct.unpack_from(">I4s", payload, at)
        if size < 8 or at + size > len(payload):
            raise ValueError(f"the box {kind!r} is damaged")
        yield kind, payload[at + 8 : at + size]
        at += size


def changed(payload: bytes, kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the payload of each box of a kind; where there is none, add one changed from nothing."""
    found = False
    out = b""
    for name, body in children(payload):
        found |= name == kind
        out += box(name, change(body) if name == kind else body)
    return out if found else out + box(kind, change(b""))


def edit_movie(file: BinaryIO, change: Callable[[bytes], bytes]) -> None:
    """Change the movie header, the last box of a file that was just written.

    Raises
    ------
    ValueError
        The movie header is not the last box.
    """
    size = file.seek(0, 2)
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16).ljust(16, b"\0")
        length, kind = struct.unpack_from(">I4s", head)
        if kind == b"moov" and at + length == size:
            file.seek(at + 8)
            movie = change(file.read(length - 8))
            file.seek(at)
            file.write(box(b"moov", movie))
            return
        at += struct.unpack_from(">Q", head, 8)[0] if length == 1 else max(length, 8)
    raise ValueError("the movie header is not the last box")


def add_items(movie: bytes, items: Iterable[bytes]) -> bytes:
    """Add items, such as `free_form` and `cover_item` make, to a movie header's iTunes metadata."""
    atoms = b"".join(items)

    def into_metadata(body: bytes) -> bytes:
        # a metadata box has four bytes of version and flags before its children
        head, inner = (body[:4], body[4:]) if body else (bytes(4), box(b"hdlr", _METADATA_HANDLER))
        return head + changed(inner, b"ilst", lambda tags: tags + atoms)

    return changed(movie, b"udta", lambda user: changed(user, b"meta", into_metadata))


def add_user_data(movie: bytes, kind: bytes, payload: bytes) -> bytes:
    """Add a box to the movie's user data."""
    return changed(movie, b"udta", lambda user: user + box(kind, payload))


def hide_priming(movie: bytes, *, delay: int, priming: int, frames: int) -> bytes:
    """Make tracks that start late skip the encoder's priming.

    FFmpeg's muxer lets such a track begin with the priming, before the first sample.

    Parameters
    ----------
    movie
        Payload of the movie header; movie and media time scale are the sample rate.
    delay
        Time of the first sample, in samples.
    priming
        Samples of the encoder's delay.
    frames
        Samples from the first to the last.
    """
    # version 1, two edits of duration, media time and rate: an empty one, then the sound
    edits = struct.pack(">BxxxIQqIQqI", 1, 2, delay, -1, 0x10000, frames, priming, 0x10000)

    def track(body: bytes) -> bytes:
        return changed(body, b"edts", lambda inner: changed(inner, b"elst", lambda _: edits))

    return b"".join(box(kind, track(body) if kind == b"trak" else body) for kind, body in children(movie))


def free_form(name: str, text: str) -> bytes:
    """Make a free-form tag."""
    mean = box(b"mean", bytes(4) + _FREE_FORM_OWNER)
    title = box(b"name", bytes(4) + name.encode())
    data = box(b"data", struct.pack(">II", _UTF8, 0) + text.encode())
    return box(b"----", mean + title + data)


def cover_item(picture: bytes) -> bytes:
    """Make the cover of a JPEG or PNG picture."""
    kind = _PNG if picture[:4] == b"\x89PNG" else _JPEG
    return box(b"covr", box(b"data", struct.pack(">II", kind, 0) + picture))
