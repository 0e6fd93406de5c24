"""Opening media files with FFmpeg's libraries (PyAV), recordings only and quietly."""

from typing import BinaryIO

import av
import av.error
import av.logging
from av.container import InputContainer

from stemwright.core.audio.mp3 import skip_id3v2, starts_with_frames

# FFmpeg's messages would reach standard error otherwise; what matters becomes an exception.
av.logging.set_level(None)

# Real recordings only: no playlists, devices, images, scripts or raw formats, which would open
# other files or addresses, or make sound of anything.
_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,matroska,webm,mov,mp4,m4a,mp3,mpc,mpc8,"
    "mpeg,mpegts,nut,ogg,oma,tak,tta,voc,w64,wav,wsd,wv"
)

_FRAMES_BYTES = 8192


class _Nameless:
    """A file without a name, so that its content alone decides what it is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = file.read
        self.tell = file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; -1 where a damaged file sends FFmpeg to an impossible place, which PyAV would print."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def open_media(file: BinaryIO) -> InputContainer:
    """Open a media file.

    Raises
    ------
    av.error.FFmpegError
        It is none.
    OSError
        It cannot be read.
    """
    try:
        return _open(file, None)
    except av.error.FFmpegError:
        # MP3 has no magic number, and FFmpeg takes very short ones for something else
        file.seek(skip_id3v2(file))
        if not starts_with_frames(file.read(_FRAMES_BYTES)):
            raise
        file.seek(0)
        return _open(file, "mp3")


def _open(file: BinaryIO, form: str | None) -> InputContainer:
    options = {"format_whitelist": _FORMATS}
    return av.open(_Nameless(file), "r", format=form, options=options, metadata_errors="replace")


def kind_of(container: InputContainer) -> str:
    """First of FFmpeg's names for the container's format, such as "mov" for MP4."""
    return container.format.name.split(",")[0]
