"""Sinks: take float32 blocks, encode them into a file object, and are done with `finish`."""

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import soundfile

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.mp4 import edit_movie, hide_priming
from stemwright.core.audio.muxing import (
    AAC_PRIMING,
    ENCODE_FRAMES,
    Encoding,
    Target,
    Track,
    add_cover,
    add_movie_tags,
    close_output,
    open_output,
)
from stemwright.core.audio.ogg import picture_block, rewrite_comments
from stemwright.core.audio.pictures import identify
from stemwright.core.audio.tags import Tags, container_fields

_VORBIS_NAMES = {"album_artist": "ALBUMARTIST", "track": "TRACKNUMBER", "disc": "DISCNUMBER"}
_SYSTEM_ERROR = 2  # libsndfile's SF_ERR_SYSTEM

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes blocks and makes a file of them."""

    @property
    def clamped(self) -> int:
        """Samples beyond full scale that were clamped so far."""
        ...

    def write(self, block: FloatArray) -> None:
        """Encode a block, shape=(channels, n)."""
        ...

    def finish(self) -> None:
        """Encode what is left and complete the file."""
        ...

    def close(self) -> None:
        """Let go of everything; after `finish`, or instead of it."""
        ...


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
        self._file = file
        self._target = Target(file)
        self._encoding = encoding
        self._tags = tags or Tags()
        self._container = open_output(self._target, encoding)
        self._track = Track(self._container, encoding, sample_rate, channels, layout=layout, start_s=start_s)
        self._container.metadata.update(container_fields(self._tags.fields, encoding.style))
        self._cover = add_cover(self._container, self._tags) if encoding.cover else None

    @property
    def clamped(self) -> int:
        """Samples beyond full scale so far."""
        return self._track.clamped

    def write(self, block: FloatArray) -> None:
        """Encode a block, shape=(channels, n)."""
        self._send_cover()
        self._track.write(block)
        self._target.check()

    def finish(self) -> None:
        """Encode what is left and complete the file."""
        self._send_cover()
        self._container.start_encoding()  # a file without samples has a header too
        self._track.finish()
        self._container.close()
        self._target.check()
        if self._encoding.style == "mp4":
            self._complete_movie()

    def close(self) -> None:
        """Let go of the encoder."""
        close_output(self._container, self._target)

    def _send_cover(self) -> None:
        if self._cover is not None:
            self._container.mux(self._cover)
            self._cover = None

    def _complete_movie(self) -> None:
        track = self._track
        if track.start:
            edit_movie(
                self._file,
                lambda movie: hide_priming(
                    movie, delay=track.start, priming=AAC_PRIMING, frames=track.frames
                ),
            )
        add_movie_tags(self._file, self._tags)


class VorbisSink:
    """Ogg Vorbis by libsndfile's libvorbis; then the comments are put in.

    FFmpeg's own Vorbis encoder is marked experimental and takes stereo only.
    """

    def __init__(
        self,
        file: BinaryIO,
        sample_rate: int,
        channels: int,
        *,
        quality: float,
        folder: Path | None = None,
        tags: Tags | None = None,
    ) -> None:
        self.clamped = 0
        self._file = file
        self._tags = tags
        # without a name, so that nothing is left of it, however the process ends
        self._plain = tempfile.TemporaryFile(dir=folder)
        self._sound = soundfile.SoundFile(
            self._plain.fileno(),
            "w",
            samplerate=sample_rate,
            channels=channels,
            format="OGG",
            subtype="VORBIS",
            compression_level=1.0 - quality,
            closefd=False,
        )

    def write(self, block: FloatArray) -> None:
        """Encode a block, shape=(channels, n)."""
        # libsndfile encodes a whole call on the stack: long ones overflow it
        for start in range(0, block.shape[1], ENCODE_FRAMES):
            with _system_errors():
                self._sound.write(block[:, start : start + ENCODE_FRAMES].T)

    def finish(self) -> None:
        """Encode what is left and complete the file."""
        with _system_errors():
            self._sound.close()
        self._plain.seek(0)
        comments = vorbis_comments(self._tags) if self._tags is not None else {}
        rewrite_comments(self._plain, self._file, comments, "libvorbis")

    def close(self) -> None:
        """Let go of the encoder."""
        try:
            self._sound.close()
        except soundfile.SoundFileError:
            _log.debug("the abandoned Vorbis file could not be closed")
        finally:
            self._plain.close()


def vorbis_comments(tags: Tags) -> dict[str, str]:
    """Vorbis comments of tags, the cover among them."""
    comments = {_VORBIS_NAMES.get(name, name.upper()): text for name, text in tags.fields.items()}
    picture = identify(tags.cover or b"")
    if tags.cover is not None and picture is not None:
        comments["METADATA_BLOCK_PICTURE"] = picture_block(tags.cover, picture)
    return comments


@contextmanager
def _system_errors() -> Iterator[None]:
    """Libsndfile forgets which system call failed: while writing it is the disk that is full."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        if error.code != _SYSTEM_ERROR:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
