"""Decoding with FFmpeg's libraries (PyAV): one audio stream of a file as float32 blocks.

The decoder's own trimming is used throughout, so that encoder delay and padding of MP3, priming
and edit lists of MP4, and Opus' pre-skip never reach the samples.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import av.error
import av.logging
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from stemwright.core.audio.arrays import FloatArray
from stemwright.core.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ
from stemwright.core.errors import InputError

# FFmpeg's messages would reach standard error otherwise; what matters becomes an exception.
av.logging.set_level(None)

# Real recordings only: no playlists, devices, images, scripts or raw formats, which would open
# other files or addresses, or make sound of anything.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,matroska,webm,mov,mp4,m4a,mp3,mpc,mpc8,"
    "mpeg,mpegts,nut,ogg,oma,tak,tta,voc,w64,wav,wsd,wv"
)
MAX_CHANNELS = 64

_LAYOUTS = {
    1: ("FC",),
    2: ("FL", "FR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
_SCALE = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "flt": 1.0, "dbl": 1.0}
_FROM_ZERO = ("mov", "matroska", "avi", "flv")


def default_layout(channels: int) -> tuple[str, ...]:
    """Names of channels whose file names none: mono, stereo, 5.1, 7.1, else CH1, CH2 ..."""
    return _LAYOUTS.get(channels) or tuple(f"CH{index + 1}" for index in range(channels))


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """What the header and the first decoded frame tell."""

    sample_rate: int
    layout: tuple[str, ...]
    frames: int | None
    codec: str
    container: str
    bit_depth: int | None
    start_s: float


class Decoder:
    """One audio stream of a file.

    Parameters
    ----------
    path
        The file.
    name
        What messages call it.
    stream
        Which audio stream, counted from 0.
    whole
        Whether all of the file is wanted, so that a file that is cut off is refused at once.

    Raises
    ------
    InputError
        As for `open_source`.
    """

    def __init__(self, path: Path, name: str, *, stream: int = 0, whole: bool = True) -> None:
        self._path = path
        self._name = name
        self._stream = stream
        with self._open_file() as file, self._open_container(file) as container:
            audio = self._audio_stream(container)
            first = next(self._frames(container, audio), None)
            if first is None:
                raise InputError(f"{name} has no audio samples", "check that the file is complete")
            self.facts = self._facts(container, audio, first)

    def samples(self) -> Iterator[FloatArray]:
        """Decode the stream from its beginning; blocks have the sizes of the codec's frames."""
        facts = self.facts
        position = 0
        with self._open_file() as file, self._open_container(file) as container:
            audio = self._audio_stream(container)
            for frame in self._frames(container, audio):
                self._check_unchanged(frame, position)
                position += frame.samples
                yield to_float(frame)
            del facts

    def _open_file(self) -> BinaryIO:
        if self._path.is_dir():
            raise InputError(f"{self._name} is a folder, not a recording", "name a file in it")
        try:
            file = self._path.open("rb")
            size = os.fstat(file.fileno()).st_size
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"cannot read {self._name}: {reason}", "check the name and the permissions"
            ) from error
        if size == 0:
            file.close()
            raise InputError(f"{self._name} is empty (0 bytes)", "copy or download the file again")
        return file

    def _open_container(self, file: BinaryIO) -> InputContainer:
        try:
            return av.open(_Nameless(file), "r", options={"format_whitelist": FORMATS})
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"{self._name} is not a recording that can be read: {_reason(error)}",
                "give an audio or video file, such as WAV, FLAC, MP3, M4A, Ogg or MP4",
            ) from error

    def _audio_stream(self, container: InputContainer) -> AudioStream:
        streams = container.streams.audio
        if not streams:
            raise InputError(f"{self._name} has no audio stream", "give a file with sound")
        if self._stream >= len(streams):
            raise InputError(
                f"{self._name} has {len(streams)} audio streams, no number {self._stream}",
                f"choose a stream from 0 to {len(streams) - 1}",
            )
        return streams[self._stream]

    def _frames(self, container: InputContainer, audio: AudioStream) -> Iterator[AudioFrame]:
        try:
            for packet in container.demux(audio):
                for frame in packet.decode():
                    if frame.samples:
                        yield frame
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"{self._name} is damaged: {_reason(error)}", "copy or download the file again"
            ) from error

    def _facts(self, container: InputContainer, audio: AudioStream, first: AudioFrame) -> StreamFacts:
        rate = first.sample_rate
        if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise InputError(
                f"{self._name} says its sample rate is {rate} Hz",
                f"give a recording between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz",
            )
        layout = frame_layout(first)
        if not 1 <= len(layout) <= MAX_CHANNELS:
            raise InputError(
                f"{self._name} has {len(layout)} channels", f"give one with 1 to {MAX_CHANNELS} channels"
            )
        frames = None
        if audio.duration and audio.time_base:
            frames = round(audio.duration * audio.time_base * rate)
        kind = container.format.name.split(",")[0]
        return StreamFacts(
            sample_rate=rate,
            layout=layout,
            frames=frames,
            codec=audio.codec_context.name,
            container=kind,
            bit_depth=None,
            start_s=0.0,
        )

    def _check_unchanged(self, frame: AudioFrame, position: int) -> None:
        facts = self.facts
        if frame.sample_rate != facts.sample_rate or frame.layout.nb_channels != len(facts.layout):
            raise InputError(
                f"{self._name} changes from {facts.sample_rate} Hz, {len(facts.layout)} channels to "
                f"{frame.sample_rate} Hz, {frame.layout.nb_channels} channels at "
                f"{position / facts.sample_rate:.3f} s",
                "convert it to one sample rate and channel count first",
            )


def to_float(frame: AudioFrame) -> FloatArray:
    """Samples of a decoded frame as float32, shape=(channels, n)."""
    kind = frame.format.name.removesuffix("p")
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if kind == "u8":
        return (samples.astype(np.float32) - np.float32(128)) * np.float32(_SCALE[kind])
    out = np.ascontiguousarray(samples, dtype=np.float32)
    return out if _SCALE[kind] == 1.0 else out * np.float32(_SCALE[kind])


def frame_layout(frame: AudioFrame) -> tuple[str, ...]:
    """Names of a frame's channels; the usual ones where the file names none."""
    names = tuple(channel.name for channel in frame.layout.channels)
    if any(name in ("NONE", "UNSD", "UNK", "") for name in names) or len(set(names)) != len(names):
        return default_layout(len(names))
    return names


class _Nameless:
    """A file without a name, so that its content alone decides what it is."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
