"""Where audio goes: WAV, FLAC, MP3, Ogg Vorbis and M4A files that appear whole or not at all."""

import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.formats import (
    OutputFormat,
    check_format,
    encoding_of,
    estimated_bytes,
    vorbis_quality,
)
from stemwright.core.audio.muxing import foreign_errors
from stemwright.core.audio.sinks import ContainerSink, Sink, VorbisSink
from stemwright.core.audio.tags import Tags
from stemwright.core.errors import InternalError, OutputError, ResourceError

__all__ = [
    "PART_PREFIX",
    "AudioWriter",
    "OutputFormat",
    "check_format",
    "check_writable",
    "create_writer",
    "estimated_bytes",
    "open_writer",
]

PART_PREFIX = ".stemwright-"
PART_SUFFIX = ".part"


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
        # Ctrl-C is raised in the main thread. There it could strike where the encoder calls back to write to
        # the file, and the libraries between would lose it.
        self._encoder = ThreadPoolExecutor(1, "stemwright-encoder")
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
            self._encoder.submit(self._sink.write, block).result()
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
                self._encoder.submit(self._sink.finish).result()
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
            self._encoder.shutdown()
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
        quality = vorbis_quality(fmt)
        return VorbisSink(file, sample_rate, channels, quality=quality, folder=folder, tags=tags)
    encoding = encoding_of(fmt, sample_rate)
    shift = start_s if fmt.container == "m4a" else 0.0
    return ContainerSink(file, encoding, sample_rate, channels, layout=layout, tags=tags, start_s=shift)


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
