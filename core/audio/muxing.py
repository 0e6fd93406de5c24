"""Encoders and containers by FFmpeg's libraries (PyAV), and Vorbis by libsndfile.

A sink takes float32 blocks, encodes them into a file object and is done with `finish`.
"""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Protocol, cast

import av
import av.error
import numpy as np
import numpy.typing as npt
import soundfile
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition

from stemwright.core.audio.arrays import FloatArray
from stemwright.core.audio.frames import default_layout
from stemwright.core.audio.ogg import picture_block, rewrite_comments
from stemwright.core.audio.tags import Tags, TagStyle, container_fields
from stemwright.core.errors import OutputError, ResourceError

ENCODE_FRAMES = 16_384
_VORBIS_NAMES = {"album_artist": "ALBUMARTIST", "track": "TRACKNUMBER", "disc": "DISCNUMBER"}
_COVER_CODECS = {"image/jpeg": "mjpeg", "image/png": "png"}


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


class Sink(Protocol):
    """Takes blocks and makes a file of them."""

    clamped: int

    def write(self, block: FloatArray) -> None:
        """Encode a block, shape=(channels, n)."""
        ...

    def finish(self) -> None:
        """Encode what is left and complete the file."""
        ...

    def close(self) -> None:
        """Let go of everything; after `finish`, or instead of it."""
        ...


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
    top = float(2 ** (bits - 1))
    scaled = np.rint(block * np.float32(top))
    beyond = int(np.count_nonzero(np.abs(block) > 1.0)) if block.size else 0
    return np.clip(scaled, -top, top - 1).astype(np.int32), beyond


def pyav_layout(channels: int, layout: tuple[str, ...] | None) -> AudioLayout:
    """FFmpeg's layout for named channels; unnamed ones give one without places."""
    names = layout if layout and len(layout) == channels else default_layout(channels)
    try:
        return AudioLayout("+".join(names))
    except ValueError:
        return AudioLayout(f"{channels} channels")


class ContainerSink:
    """One audio stream, its tags and cover, by FFmpeg."""

    def __init__(
        self,
        file: BinaryIO,
        encoding: Encoding,
        sample_rate: int,
        channels: int,
        *,
        layout: tuple[str, ...] | None = None,
        tags: Tags | None = None,
        start_s: float = 0.0,
    ) -> None:
        self.clamped = 0
        self._encoding = encoding
        self._rate = sample_rate
        self._position = round(start_s * sample_rate)
        self._layout = pyav_layout(channels, layout)
        # bitexact: no random serial numbers and no library versions, so that equal input gives equal files
        options = {"fflags": "+bitexact", **dict(encoding.muxer_options)}
        self._container = av.open(file, "w", format=encoding.muxer, options=options)
        stream = self._container.add_stream(
            encoding.codec, rate=sample_rate, options=dict(encoding.codec_options)
        )
        self._stream = cast(AudioStream, stream)
        context = self._stream.codec_context
        context.layout = self._layout
        context.format = encoding.sample_format
        if encoding.bit_rate:
            context.bit_rate = encoding.bit_rate
        if tags is not None:
            self._container.metadata.update(container_fields(tags.fields, encoding.style))
            if encoding.cover:
                add_cover(self._container, tags)

    def write(self, block: FloatArray) -> None:
        """Encode a block, shape=(channels, n)."""
        for start in range(0, block.shape[1], ENCODE_FRAMES):
            self._write(block[:, start : start + ENCODE_FRAMES])

    def finish(self) -> None:
        """Encode what is left and complete the file."""
        self._container.start_encoding()  # a file without samples has a header too
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def close(self) -> None:
        """Let go of the encoder; what it cannot write any more is not wanted."""
        try:
            self._container.close()
        except (OSError, av.error.FFmpegError):
            return

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
        frame.pts = self._position
        frame.time_base = Fraction(1, self._rate)
        self._position += block.shape[1]
        self._container.mux(self._stream.encode(frame))


class VorbisSink:
    """Ogg Vorbis by libsndfile's libvorbis; then the comments are put in.

    FFmpeg's own Vorbis encoder is marked experimental and takes stereo only.
    """

    def __init__(
        self, file: BinaryIO, sample_rate: int, channels: int, *, quality: float, tags: Tags | None = None
    ) -> None:
        self.clamped = 0
        self._file = file
        self._tags = tags
        self._plain = tempfile.TemporaryFile()
        self._sound = soundfile.SoundFile(
            self._plain,
            "w",
            samplerate=sample_rate,
            channels=channels,
            format="OGG",
            subtype="VORBIS",
            compression_level=1.0 - quality,
        )

    def write(self, block: FloatArray) -> None:
        """Encode a block, shape=(channels, n)."""
        # libsndfile encodes a whole call on the stack: long ones overflow it
        for start in range(0, block.shape[1], ENCODE_FRAMES):
            self._sound.write(block[:, start : start + ENCODE_FRAMES].T)

    def finish(self) -> None:
        """Encode what is left and complete the file."""
        self._sound.close()
        self._plain.seek(0)
        comments = vorbis_comments(self._tags) if self._tags is not None else {}
        rewrite_comments(self._plain, self._file, comments, "libvorbis")

    def close(self) -> None:
        """Let go of the encoder."""
        self._sound.close()
        self._plain.close()


def vorbis_comments(tags: Tags) -> dict[str, str]:
    """Vorbis comments of tags, the cover among them."""
    comments = {_VORBIS_NAMES.get(name, name.upper()): text for name, text in tags.fields.items()}
    if tags.cover is not None and tags.cover_mime in _COVER_CODECS:
        comments["METADATA_BLOCK_PICTURE"] = picture_block(tags.cover, tags.cover_mime)
    return comments


def add_cover(container: OutputContainer, tags: Tags) -> None:
    """Attach the cover picture as FFmpeg's muxers of FLAC, MP3 and MP4 take it."""
    codec = _COVER_CODECS.get(tags.cover_mime)
    if tags.cover is None or codec is None:
        return
    stream = container.add_mux_stream(codec)
    stream.disposition = Disposition.attached_pic
    packet = av.Packet(tags.cover)
    packet.stream = stream
    packet.pts = packet.dts = 0
    packet.is_keyframe = True
    container.mux(packet)
