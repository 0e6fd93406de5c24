"""Opening media files with FFmpeg's libraries (PyAV), recordings only and quietly."""

from typing import BinaryIO

import av
import av.logging
from av.container import InputContainer

# FFmpeg's messages would reach standard error otherwise; what matters becomes an exception.
av.logging.set_level(None)

# Real recordings only: no playlists, devices, images, scripts or raw formats, which would open
# other files or addresses, or make sound of anything.
_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,matroska,webm,mov,mp4,m4a,mp3,mpc,mpc8,"
    "mpeg,mpegts,nut,ogg,oma,tak,tta,voc,w64,wav,wsd,wv"
)


class _Nameless:
    """A file without a name, so that its content alone decides what it is."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def open_media(file: BinaryIO) -> InputContainer:
    """Open a media file.

    Raises
    ------
    av.error.FFmpegError
        It is none.
    OSError
        It cannot be read.
    """
    return av.open(_Nameless(file), "r", options={"format_whitelist": _FORMATS}, metadata_errors="replace")


def kind_of(container: InputContainer) -> str:
    """First of FFmpeg's names for the container's format, such as "mov" for MP4."""
    return container.format.name.split(",")[0]
