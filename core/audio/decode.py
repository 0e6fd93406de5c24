"""Decoding with FFmpeg's libraries (PyAV): one audio stream of a file as float32 blocks.

The libraries' own trimming is used, so that encoder delay and padding of MP3, priming and edit
lists of MP4, and Opus' pre-skip never reach the samples. They stop without a word where a file
ends too soon or has lost a part; so what was decoded is held against what the file promises.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import av.error
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags2
from av.container import InputContainer
from av.packet import Packet

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.completeness import inspect
from stemwright.core.audio.frames import frame_layout, is_convertible, to_float
from stemwright.core.audio.lengths import (
    COPY_AGAIN,
    Tail,
    Watch,
    declared_frames,
    limits,
    packet_samples,
    start_s,
)
from stemwright.core.audio.media import kind_of, open_media
from stemwright.core.audio.mp3 import frame_bytes
from stemwright.core.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ
from stemwright.core.errors import InputError

MAX_CHANNELS = 64


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
        self._number = stream
        self._told = False
        with self._open_file() as file:
            self._structure = inspect(file)
            if whole and self._structure.fault:
                raise self._cut_off(self._structure.fault)
            with self._open_container(file) as container:
                audio = self._audio_stream(container)
                watch = Watch(name, kind_of(container))
                first = next((frame for frame, _ in self._frames(container, audio, watch)), None)
                if first is None:
                    raise InputError(f"{name} has no audio samples", "check that the file is complete")
                self.facts = self._facts(container, audio, first)

    def samples(self) -> Iterator[FloatArray]:
        """Decode the stream from its beginning; blocks, shape=(channels, n), as the codec makes them.

        Raises
        ------
        InputError
            The file is damaged, or ends before its header says.
        """
        with self._open_file() as file, self._open_container(file) as container:
            audio = self._audio_stream(container)
            tail, watch = Tail(), Watch(self._name, kind_of(container), told=self._told)
            bounds, padding = None, 0
            for frame, counting in self._frames(container, audio, watch):
                self._check_unchanged(frame, tail.position)
                if bounds is None:
                    bounds = limits(
                        container, audio, self._structure, rate=frame.sample_rate, first_s=frame.time or 0.0
                    )
                padding = frame.samples - counting
                self._told = watch.told
                yield from tail.push(to_float(frame))
            if bounds is None:
                return
            if tail.position + watch.closed_s * self.facts.sample_rate < bounds.at_least:
                raise self._cut_off(
                    f"{tail.position / self.facts.sample_rate:.2f} s of "
                    f"{bounds.at_least / self.facts.sample_rate:.2f} s can be read"
                )
            end = tail.position - padding if self._trims_last(container) else tail.position
            yield from tail.end(end if bounds.at_most is None else min(end, bounds.at_most))

    def _open_file(self) -> BinaryIO:
        try:
            if self._path.is_dir():
                raise InputError(f"{self._name} is a folder, not a recording", "name a file in it")
            file = self._path.open("rb")
            size = os.fstat(file.fileno()).st_size
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read {self._name}: {_reason(error)}", "check the name and the permissions"
            ) from error
        if size == 0:
            file.close()
            raise InputError(f"{self._name} is empty (0 bytes)", "copy or download the file again")
        return file

    def _open_container(self, file: BinaryIO) -> InputContainer:
        try:
            return open_media(file)
        except (av.error.FFmpegError, OSError) as error:
            if self._structure.fault:
                raise self._cut_off(self._structure.fault) from error
            if self._structure.known:
                raise InputError(
                    f"{self._name} is damaged: its beginning cannot be read",
                    "copy or download the file again",
                ) from error
            raise InputError(
                f"{self._name} is not audio or video that can be read",
                "give an audio or video file, such as WAV, FLAC, MP3, M4A, Ogg or MP4",
            ) from error

    def _audio_stream(self, container: InputContainer) -> AudioStream:
        streams = container.streams.audio
        if not streams:
            raise InputError(f"{self._name} has no audio stream", "give a file with sound")
        if not 0 <= self._number < len(streams):
            raise InputError(
                f"{self._name} has {len(streams)} audio streams, and no stream {self._number}",
                f"choose a stream from 0 to {len(streams) - 1}",
            )
        audio = streams[self._number]
        context = cast("AudioCodecContext | None", audio.codec_context)
        if context is None:
            raise InputError(
                f"{self._name} holds sound in a coding that cannot be decoded",
                "convert it to WAV or FLAC first",
            )
        if context.name == "flac":
            # a frame with a wrong checksum is an error, not noise
            context.options = {"err_detect": "crccheck+explode"}
        if _is_vorbis_in_ogg(container, audio):
            # FFmpeg trims files of one page wrongly; `lengths` does it by the granule position
            context.flags2 |= Flags2.skip_manual
        return audio

    def _frames(
        self, container: InputContainer, audio: AudioStream, watch: Watch
    ) -> Iterator[tuple[AudioFrame, int]]:
        """Frames, and how many samples each packet says it holds."""
        kind = kind_of(container)
        # the first packet of Vorbis only starts the overlap and holds no samples of its own
        start = 1 if _is_vorbis_in_ogg(container, audio) else 0
        packets, whole = 0, True
        try:
            for packet in container.demux(audio):
                frames = self._decode(packet, kind, watch)
                if packet.size and frames:
                    packets += 1
                    whole = kind != "mp3" or packet.size >= frame_bytes(bytes(packet)[:4])
                for frame in frames if packets > start else []:
                    if frame.samples:
                        watch.see(frame)
                        yield frame, packet_samples(packet.duration, packet.time_base, frame)
        except (av.error.FFmpegError, OSError) as error:
            raise self._damaged(watch) from error
        if self._structure.fault:
            raise self._cut_off(self._structure.fault)
        if not whole:
            raise self._cut_off("it ends in the middle of a frame")
        # some writers count the frame that holds the header too
        if packets < (self._structure.packets or 0) - 1:
            raise self._cut_off(f"{packets} frames of {self._structure.packets} are there")

    def _decode(self, packet: "Packet[AudioStream]", kind: str, watch: Watch) -> list[AudioFrame]:
        """Decode a packet; bytes behind an MP3's last frame that are no frame are passed over."""
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if kind == "mp3" and not frame_bytes(bytes(packet)[:4]):
                watch.junk = True
                return []
            raise
        if frames and watch.junk:
            raise self._damaged(watch)
        return frames

    def _facts(self, container: InputContainer, audio: AudioStream, first: AudioFrame) -> StreamFacts:
        rate = first.sample_rate
        if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise InputError(
                f"{self._name} says its sample rate is {rate} Hz",
                f"give a recording between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz",
            )
        if not is_convertible(first):
            raise InputError(
                f"{self._name} has samples of the kind {first.format.name}",
                "convert it to 32-bit float first",
            )
        layout = frame_layout(first)
        if not 1 <= len(layout) <= MAX_CHANNELS:
            raise InputError(
                f"{self._name} has {len(layout)} channels", f"give one with 1 to {MAX_CHANNELS} channels"
            )
        return StreamFacts(
            sample_rate=rate,
            layout=layout,
            frames=self._structure.frames or declared_frames(audio, rate),
            codec=audio.codec_context.codec.canonical_name,
            container=kind_of(container),
            bit_depth=_bit_depth(audio),
            start_s=start_s(container, first),
        )

    def _trims_last(self, container: InputContainer) -> bool:
        """Whether the last packet's duration tells how much of its frame counts.

        So it does in MP4, but in MUSDB's stem files, with their several streams, it is off by
        some samples, and all that read them take whole frames.
        """
        return self.facts.container == "mov" and len(container.streams.audio) == 1

    def _check_unchanged(self, frame: AudioFrame, position: int) -> None:
        facts = self.facts
        if frame.sample_rate == facts.sample_rate and frame.layout.nb_channels == len(facts.layout):
            return
        raise InputError(
            f"{self._name} changes from {facts.sample_rate} Hz, {len(facts.layout)} channels to "
            f"{frame.sample_rate} Hz, {frame.layout.nb_channels} channels at "
            f"{position / facts.sample_rate:.3f} s",
            "convert it to one sample rate and channel count first",
        )

    def _cut_off(self, how: str) -> InputError:
        return InputError(f"{self._name} is cut off: {how}", COPY_AGAIN)

    def _damaged(self, watch: Watch) -> InputError:
        return InputError(f"{self._name} is damaged at {max(0.0, watch.end_s):.2f} s", COPY_AGAIN)


def _is_vorbis_in_ogg(container: InputContainer, audio: AudioStream) -> bool:
    return kind_of(container) == "ogg" and audio.codec_context.name == "vorbis"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _bit_depth(audio: AudioStream) -> int | None:
    name, extra = audio.codec_context.codec.canonical_name, audio.codec_context.extradata or b""
    if name == "flac" and len(extra) >= 14:
        return (((extra[-22] & 1) << 4) | (extra[-21] >> 4)) + 1
    if name == "alac" and len(extra) >= 18:
        return extra[17]
    if name in ("pcm_alaw", "pcm_mulaw"):
        return 8
    if name.startswith("pcm_"):
        digits = "".join(character for character in name[4:8] if character.isdigit())
        return int(digits) if digits else None
    return None
