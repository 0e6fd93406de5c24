"""Encoders and containers by FFmpeg's libraries (PyAV), and Vorbis by libsndfile.

A sink takes float32 blocks, encodes them into a file object and is done with `finish`.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, cast

import av
import av.error
import numpy as np
import numpy.typing as npt
import soundfile
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.frames import default_layout
from stemwright.core.audio.mp4 import add_items, cover_item, edit_movie, free_form
from stemwright.core.audio.pictures import identify
from stemwright.core.audio.tags import Tags, TagStyle, free_form_fields
from stemwright.core.errors import OutputError, ResourceError

ENCODE_FRAMES = 16_384
AAC_PRIMING = 1024  # of FFmpeg's AAC encoder
_VORBIS_NAMES = {"album_artist": "ALBUMARTIST", "track": "TRACKNUMBER", "disc": "DISCNUMBER"}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a format is made: FFmpeg's muxer, encoder, sample format and options."""

    muxer: str
    codec: str
    sample_format: str
    style: TagStyle
    integer_bits: int = 0
    codec_options: tuple[tuple[str, str], ...] = ()
    muxer_options: tuple[tuple[str, str], ...] = ()
    bit_rate: int = 0
    cover: bool = False


@contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Map errors of the disk and of the codec libraries to ours.

    Raises
    ------
    ResourceError
        The disk is full, or a quota or size limit is met.
    OutputError
        Anything else that keeps the file from being written.
    """
    try:
        yield
    except (OSError, soundfile.SoundFileError, av.error.FFmpegError, ValueError) as error:
        code = getattr(error, "errno", None)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceError(
                f"no room to write {what}: {reason}", "free some space, or write to another disk"
            ) from error
        raise OutputError(
            f"cannot write {what}: {reason}", "choose another folder, name or format"
        ) from error


def to_integers(block: FloatArray, bits: int) -> tuple[npt.NDArray[np.int32], int]:
    """Round to the nearest integer (halves to even), clamped at full scale; 1.0 is 2**(bits - 1).

    No dither: the rounding error of 16 bits lies 98 dB below full scale, and equal input gives
    equal files.

    Returns
    -------
    tuple
        Integers, shape as the block, and how many samples lay beyond full scale. A sample of
        exactly 1.0 is written one step lower and not counted.
    """
    top = 2 ** (bits - 1)
    beyond = int(np.count_nonzero(np.abs(block) > 1.0))
    scaled = np.rint(np.clip(block, -1.0, 1.0) * np.float32(top))
    return np.minimum(scaled, np.float32(top - 1)).astype(np.int32), beyond


def pyav_layout(channels: int, layout: tuple[str, ...] | None) -> AudioLayout:
    """FFmpeg's layout for named channels; unnamed ones give one without places."""
    names = layout if layout and len(layout) == channels else default_layout(channels)
    try:
        return AudioLayout("+".join(names))
    except ValueError:
        return AudioLayout(f"{channels} channels")


class Target:
    """A file that a container is written to.

    FFmpeg goes on writing after an error, and PyAV prints every exception behind the first. So an
    error is kept here until `check` raises it, and nothing more is written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.discard = False
        self._file = file
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write, unless something went wrong before."""
        if not self.discard:
            try:
                self._file.write(data)
            except OSError as error:
                self._error, self.discard = error, True
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, unless something went wrong before."""
        if self.discard:
            return offset
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            self._error, self.discard = error, True
            return offset

    def tell(self) -> int:
        """Tell the position."""
        return 0 if self.discard else self._file.tell()

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error


class Track:
    """An audio stream of a container that is being written."""

    def __init__(
        self,
        container: OutputContainer,
        encoding: Encoding,
        sample_rate: int,
        channels: int,
        *,
        layout: tuple[str, ...] | None = None,
        start_s: float = 0.0,
    ) -> None:
        self.clamped = 0
        self.start = round(start_s * sample_rate)
        self.frames = 0
        self._container = container
        self._encoding = encoding
        self._rate = sample_rate
        # AAC has places for its channels only, not names
        self._layout = pyav_layout(channels, None if encoding.style == "mp4" else layout)
        stream = container.add_stream(encoding.codec, rate=sample_rate, options=dict(encoding.codec_options))
        self.stream = cast(AudioStream, stream)
        context = self.stream.codec_context
        context.layout = self._layout
        context.format = encoding.sample_format
        if encoding.bit_rate:
            context.bit_rate = encoding.bit_rate

    def write(self, block: FloatArray) -> None:
        """Encode a block, shape=(channels, n)."""
        for start in range(0, block.shape[1], ENCODE_FRAMES):
            self._write(block[:, start : start + ENCODE_FRAMES])

    def finish(self) -> None:
        """Encode what is left."""
        self._container.mux(self.stream.encode(None))

    def _write(self, block: FloatArray) -> None:
        encoding = self._encoding
        samples: npt.NDArray[np.generic] = block
        if encoding.integer_bits:
            integers, beyond = to_integers(block, encoding.integer_bits)
            self.clamped += beyond
            samples = integers.astype(np.int16) if encoding.integer_bits == 16 else integers * 256
        if not encoding.sample_format.endswith("p"):
            samples = samples.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format=encoding.sample_format, layout=self._layout
        )
        frame.sample_rate = self._rate
        frame.pts = self.start + self.frames
        frame.time_base = Fraction(1, self._rate)
        self.frames += block.shape[1]
        self._container.mux(self.stream.encode(frame))


def add_movie_tags(file: BinaryIO, tags: Tags) -> None:
    """Add to a complete MP4 file the tags and the cover that FFmpeg's muxer cannot write."""
    items = [free_form(name, text) for name, text in free_form_fields(tags.fields).items()]
    if tags.cover is not None and identify(tags.cover) is not None:
        items.append(cover_item(tags.cover))
    if items:
        edit_movie(file, lambda movie: add_items(movie, items))


def open_output(target: Target, encoding: Encoding) -> OutputContainer:
    """Start a container.

    bitexact leaves out random serial numbers and library versions, so that equal input gives
    equal files.
    """
    options = {"fflags": "+bitexact", **dict(encoding.muxer_options)}
    return av.open(target, "w", format=encoding.muxer, options=options)


def close_output(container: OutputContainer, target: Target) -> None:
    """Close a container; what it still writes is not wanted."""
    target.discard = True
    container.close()


def add_cover(container: OutputContainer, tags: Tags) -> "Packet[Stream] | None":
    """Announce the cover picture as FFmpeg's muxers of FLAC and MP3 take it; return its packet."""
    picture = identify(tags.cover or b"")
    if tags.cover is None or picture is None:
        return None
    stream = container.add_mux_stream(picture.codec, width=picture.width, height=picture.height)
    stream.disposition = Disposition.attached_pic
    packet = av.Packet(tags.cover)
    packet.stream = stream
    packet.pts = packet.dts = 0
    packet.is_keyframe = True
    return packet
