"""Where audio goes: WAV, FLAC, MP3, Ogg Vorbis and M4A files that appear whole or not at all."""

import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import numpy as np

from stemwright.core.audio.arrays import FloatArray
from stemwright.core.audio.muxing import Encoding, foreign_errors
from stemwright.core.audio.sinks import ContainerSink, Sink, VorbisSink
from stemwright.core.audio.tags import Tags
from stemwright.core.errors import InternalError, OutputError, ResourceError

PART_PREFIX = ".stemwright-"
PART_SUFFIX = ".part"

ContainerName = Literal["wav", "flac", "mp3", "ogg", "m4a"]
BitDepth = Literal["16", "24", "32f"]

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (7350, *_MP3_RATES, 64000, 88200, 96000)
_FLAC_RATES = range(1000, 655_351)
_VORBIS_RATES = range(6000, 200_001)
# libsndfile writes Vorbis channels beyond stereo in the order given, not in that of the format;
# FFmpeg's AAC encoder takes only the layouts that AAC has numbers for.
_CHANNELS: Mapping[str, Container[int]] = {
    "wav": range(1, 65),
    "flac": range(1, 9),
    "mp3": (1, 2),
    "ogg": (1, 2),
    "m4a": (1, 2, 6),
}
_KBPS = {"mp3": range(8, 321), "ogg": range(32, 501), "m4a": range(16, 513)}
_DEFAULT_KBPS = {"mp3": 320, "m4a": 256, "ogg": 256}
# Nominal kbit/s of libvorbis' qualities 0 to 1 in steps of 0.1, 44.1 kHz stereo.
_VORBIS_KBPS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """Format of a file to write.

    Parameters
    ----------
    container
        "ogg" holds Vorbis, because Opus would change most sample rates; "m4a" holds AAC.
    bit_depth
        For WAV ("16", "24" or "32f") and FLAC ("16" or "24"); lossy formats have none.
    bitrate_kbps
        For lossy formats; by default 320 for MP3, 256 for AAC, 256 nominal for Vorbis.
    """

    container: ContainerName
    bit_depth: BitDepth = "16"
    bitrate_kbps: int | None = None

    @property
    def extension(self) -> str:
        """Suffix of such files, with its dot."""
        return f".{self.container}"

    @property
    def lossy(self) -> bool:
        """Whether decoding gives other samples than were written."""
        return self.container in _DEFAULT_KBPS

    @property
    def clamps(self) -> bool:
        """Whether samples beyond full scale are clamped when they are written."""
        return not self.lossy and self.bit_depth != "32f"


class AudioWriter:
    """Writes one file under a temporary name beside it; made by `open_writer`.

    `commit` completes the file and puts it under its name in one step. Leaving the context
    without it, by an exception or not, removes what was written.

    Attributes
    ----------
    path
        The final name.
    frames
        Frames written so far.
    """

    def __init__(self, path: Path, part: Path, file: BinaryIO, sink: Sink, channels: int) -> None:
        self.path = path
        self.frames = 0
        self._part = part
        self._file = file
        self._sink = sink
        self._channels = channels
        self._open = True

    @property
    def clamped_samples(self) -> int:
        """Samples beyond full scale that an integer format had to clamp so far."""
        return self._sink.clamped

    def write(self, block: FloatArray) -> None:
        """Append a block.

        Parameters
        ----------
        block
            shape=(channels, n), float32; full scale is 1.

        Raises
        ------
        ResourceError
            The disk is full.
        OutputError
            The file cannot be written.
        InternalError
            A sample is NaN or infinite.
        """
        if block.ndim != 2 or block.shape[0] != self._channels:
            raise ValueError(f"block has shape {block.shape}, expected ({self._channels}, n)")
        if not self._open:
            raise ValueError("the writer is closed")
        if not np.isfinite(block.sum(dtype=np.float64)):
            raise InternalError(
                f"a NaN or infinite sample was to be written to {self.path.name}",
                "use --precision float32, and report the model and the recording",
            )
        with foreign_errors(self.path.name):
            self._sink.write(block)
        self.frames += block.shape[1]

    def commit(self) -> Path:
        """Complete the file, put it under its name, and return that.

        Raises
        ------
        ResourceError
            The disk is full.
        OutputError
            The file cannot be completed or renamed.
        """
        if not self._open:
            raise ValueError("the writer is closed")
        try:
            with foreign_errors(self.path.name):
                self._sink.finish()
                self._file.flush()
                self._file.close()
                os.replace(self._part, self.path)
        finally:
            self.abort()
        return self.path

    def abort(self) -> None:
        """Remove what was written, unless it was committed."""
        if not self._open:
            return
        self._open = False
        try:
            self._sink.close()
        finally:
            _close_quietly(self._file)
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Enter; `abort` is called at the end, unless the file was committed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort, unless the file was committed."""
        self.abort()


def open_writer(
    path: str | Path,
    fmt: OutputFormat,
    sample_rate: int,
    channels: int,
    *,
    layout: tuple[str, ...] | None = None,
    tags: Tags | None = None,
    start_s: float = 0.0,
) -> AudioWriter:
    """Start writing a file.

    Parameters
    ----------
    path
        Final name; its folder has to exist. An existing file is replaced at `commit`.
    fmt
        Format.
    sample_rate, channels
        Rate in Hz, and channels of every block.
    layout
        Names of the channels.
    tags
        Tags, where the container has a place for them.
    start_s
        Time of the first sample; kept by M4A (edit list), which alone can say so.

    Raises
    ------
    OutputError
        The format cannot hold such audio, or the file cannot be made.
    ResourceError
        The disk is full.
    """
    check_format(fmt, sample_rate, channels)
    return create_writer(
        Path(path),
        lambda file: _sink(
            file,
            fmt,
            sample_rate,
            channels,
            folder=Path(path).parent,
            layout=layout,
            tags=tags,
            start_s=start_s,
        ),
        channels,
    )


def create_writer(path: Path, make_sink: Callable[[BinaryIO], Sink], channels: int) -> AudioWriter:
    """Start a file under a temporary name with any sink; raises as `open_writer` does."""
    part = path.parent / f"{PART_PREFIX}{secrets.token_hex(8)}{PART_SUFFIX}"
    with foreign_errors(path.name):
        _check_name(path)
        file = _create(part)
    try:
        with foreign_errors(path.name):
            sink = make_sink(file)
    except BaseException:
        _close_quietly(file)
        part.unlink(missing_ok=True)
        raise
    return AudioWriter(path, part, file, sink, channels)


def check_writable(
    folder: str | Path, fmt: OutputFormat, sample_rate: int, channels: int, *, needed_bytes: int = 0
) -> None:
    """Find out before the work whether its result can be written.

    Parameters
    ----------
    folder
        Where the files will go; it may not exist yet, the nearest folder above it counts then.
    fmt, sample_rate, channels
        What will be written.
    needed_bytes
        Room that the files will take; see `estimated_bytes`.

    Raises
    ------
    OutputError
        The place cannot be written to, or the format cannot hold such audio.
    ResourceError
        There is not enough room.
    """
    check_format(fmt, sample_rate, channels)
    with foreign_errors("audio in this format"):
        _try_encoder(fmt, sample_rate, channels)
    place = Path(folder).absolute()
    with foreign_errors(str(folder)):
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise OutputError(f"{place} is a file, not a folder", "choose another output folder")
        probe = place / f"{PART_PREFIX}{secrets.token_hex(8)}{PART_SUFFIX}"
        _create(probe).close()
        probe.unlink()
        free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise ResourceError(
            f"{place} has {free / 1e9:.1f} GB free, the result needs {needed_bytes / 1e9:.1f} GB",
            "free some space, or write to another disk",
        )


def estimated_bytes(fmt: OutputFormat, sample_rate: int, channels: int, frames: int) -> int:
    """Size of a file of `frames` frames; for FLAC that of the samples uncompressed."""
    if fmt.lossy:
        kbps = fmt.bitrate_kbps or _DEFAULT_KBPS[fmt.container]
        return round(frames / sample_rate * kbps * 125)
    return frames * channels * {"16": 2, "24": 3, "32f": 4}[fmt.bit_depth]


def check_format(fmt: OutputFormat, sample_rate: int, channels: int) -> None:
    """Check that a format can hold audio of this rate and channel count.

    Raises
    ------
    OutputError
        It cannot; the remedy names the formats that can.
    """
    fault = _fault(fmt, sample_rate, channels)
    kbps = _KBPS.get(fmt.container)
    if not fault and kbps and fmt.bitrate_kbps is not None and fmt.bitrate_kbps not in kbps:
        raise OutputError(
            f"{fmt.container} cannot be written with {fmt.bitrate_kbps} kbit/s",
            f"use {kbps.start} to {kbps.stop - 1} kbit/s",
        )
    if not fault:
        return
    others = [
        name
        for name in ("wav", "flac", "ogg", "m4a", "mp3")
        if not _fault(OutputFormat(container=name), sample_rate, channels)
    ]
    raise OutputError(fault, f"use one of these formats: {', '.join(others)}")


def _fault(fmt: OutputFormat, sample_rate: int, channels: int) -> str:
    rates = {"mp3": _MP3_RATES, "m4a": _AAC_RATES, "flac": _FLAC_RATES, "ogg": _VORBIS_RATES}
    if fmt.container == "flac" and fmt.bit_depth == "32f":
        return "FLAC cannot hold 32-bit float samples"
    if channels not in _CHANNELS[fmt.container]:
        return f"{fmt.container} cannot hold {channels} channels"
    if fmt.container in rates and sample_rate not in rates[fmt.container]:
        return f"{fmt.container} cannot hold audio at {sample_rate} Hz"
    return ""


def _sink(
    file: BinaryIO,
    fmt: OutputFormat,
    sample_rate: int,
    channels: int,
    *,
    folder: Path | None = None,
    layout: tuple[str, ...] | None = None,
    tags: Tags | None = None,
    start_s: float = 0.0,
) -> Sink:
    if fmt.container == "ogg":
        quality = _vorbis_quality(fmt)
        return VorbisSink(file, sample_rate, channels, quality=quality, folder=folder, tags=tags)
    encoding = encoding_of(fmt, sample_rate)
    shift = start_s if fmt.container == "m4a" else 0.0
    return ContainerSink(file, encoding, sample_rate, channels, layout=layout, tags=tags, start_s=shift)


def encoding_of(fmt: OutputFormat, sample_rate: int) -> Encoding:
    """How FFmpeg makes a format; Ogg Vorbis, made by libsndfile, is not among them."""
    bit_rate = (fmt.bitrate_kbps or _DEFAULT_KBPS.get(fmt.container, 0)) * 1000
    if fmt.container == "mp3":
        return Encoding(
            muxer="mp3", codec="libmp3lame", sample_format="fltp", style="id3", bit_rate=bit_rate, cover=True
        )
    if fmt.container == "m4a":
        # the edit list counts in the movie's time scale: samples, so that it is exact
        return Encoding(
            muxer="ipod",
            codec="aac",
            sample_format="fltp",
            style="mp4",
            bit_rate=bit_rate,
            muxer_options=(("movie_timescale", str(sample_rate)),),
        )
    bits = {"16": 16, "24": 24, "32f": 0}[fmt.bit_depth]
    if fmt.container == "flac":
        return Encoding(
            muxer="flac",
            codec="flac",
            sample_format="s16" if bits == 16 else "s32",
            style="vorbis",
            integer_bits=bits,
            codec_options=(("bits_per_raw_sample", str(bits)),),
            cover=True,
        )
    codec, sample_format = {
        16: ("pcm_s16le", "s16"),
        24: ("pcm_s24le", "s32"),
        0: ("pcm_f32le", "flt"),
    }[bits]
    return Encoding(
        muxer="wav",
        codec=codec,
        sample_format=sample_format,
        style="riff",
        integer_bits=bits,
        muxer_options=(("rf64", "auto"),),
    )


def _vorbis_quality(fmt: OutputFormat) -> float:
    kbps = fmt.bitrate_kbps or _DEFAULT_KBPS["ogg"]
    return float(np.interp(kbps, _VORBIS_KBPS, np.arange(11) / 10))


def _try_encoder(fmt: OutputFormat, sample_rate: int, channels: int) -> None:
    sink = _sink(io.BytesIO(), fmt, sample_rate, channels)
    try:
        sink.write(np.zeros((channels, 4096), np.float32))
        sink.finish()
    finally:
        sink.close()


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "w+b")


def _check_name(path: Path) -> None:
    """Find out now, not after the work, whether a name is possible."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder", "give the name of a file")


def _close_quietly(file: BinaryIO) -> None:
    try:
        file.close()
    except OSError:
        return
