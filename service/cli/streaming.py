"""The work of `stemwright stream`."""

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from stemwright.core.audio.pcm import (
    UNKNOWN_SIZE,
    Encoding,
    PcmFormat,
    WavStream,
    read_wav_head,
    wav_header,
)
from stemwright.core.errors import EXIT_OK, OptionError
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.separation.streaming import StreamSession, not_streamable, require_streamable
from stemwright.models.sessions.opening import PrecisionChoice, SessionOptions
from stemwright.service.streaming import PcmStream, StreamReport

_READ_BYTES = 1 << 18
_RAW: dict[str, Encoding] = {"s16le": "s16le", "f32le": "f32le"}


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """What was asked of `stream`."""

    model: str
    form: str
    out_form: str
    sample_rate: int | None
    channels: int | None
    stems: tuple[str, ...] | None
    piece_s: float
    device: str
    precision: PrecisionChoice
    threads: int | None
    json_report: bool


class _Reader(Protocol):
    """The part of a buffered stream that gives what is there."""

    def read1(self, size: int, /) -> bytes:
        """Give up to `size` bytes, at least one before the end, without waiting for more."""


def stream_stdin(request: StreamRequest) -> int:
    """Separate standard input to standard output.

    Raises
    ------
    OptionError
        A terminal at either end, options that do not fit, or a model that cannot be streamed.
    InputError
        Standard input is no WAV.
    BrokenPipeError
        The reader went away.
    """
    if sys.stdin.isatty() or sys.stdout.isatty():
        end = "input" if sys.stdin.isatty() else "output"
        raise OptionError(f"standard {end} is a terminal, not sound", "use a pipe or a redirection")
    if request.form == "wav" and (request.sample_rate, request.channels) != (None, None):
        raise OptionError(
            "a WAV says its rate and channels itself",
            "leave --rate and --channels out, or choose --format s16le or f32le",
        )
    model = open_model(request.model)
    if not isinstance(model, InstalledModel):
        raise not_streamable(model.name)
    require_streamable(model.manifest)
    return _stream(model, request)


def _stream(model: InstalledModel, request: StreamRequest) -> int:
    head = _head(model, request)
    fmt = head.fmt
    options = SessionOptions(device=request.device, precision=request.precision, threads=request.threads)
    with StreamSession.open(
        model, sample_rate=fmt.sample_rate, channels=fmt.channels, options=options
    ) as session:
        stream = PcmStream(
            session=session,
            source=fmt,
            encoding=_RAW.get(request.out_form, fmt.encoding),
            stems=request.stems,
            piece_s=request.piece_s,
        )
        sink = _Sink(sys.stdout.buffer, stream.target if request.out_form == "wav" else None)
        try:
            for data in _pieces(cast(_Reader, sys.stdin.buffer), head.data_bytes):
                sink.write(stream.feed(data))
            sink.write(stream.end())
            sink.finish()
        finally:  # also at Ctrl-C, which is how most streams end
            _tell(stream.report(), json_report=request.json_report)
    return EXIT_OK


def _head(model: InstalledModel, request: StreamRequest) -> WavStream:
    """Return what comes in: as the WAV says, or the options."""
    if request.form == "wav":
        return read_wav_head(sys.stdin.buffer.read)
    audio = model.manifest.audio
    fmt = PcmFormat(
        encoding=_RAW[request.form],
        sample_rate=audio.sample_rate if request.sample_rate is None else request.sample_rate,
        channels=audio.channels if request.channels is None else request.channels,
    )
    return WavStream(fmt=fmt, data_bytes=None)


def _pieces(source: _Reader, size: int | None) -> Iterator[bytes]:
    """Give what comes in as soon as it is there, up to a number of bytes; the rest is read and dropped."""
    left = size
    while data := source.read1(_READ_BYTES):
        if left is not None:
            data, left = data[:left], max(0, left - len(data))
        if data:
            yield data


class _Sink:
    """Standard output, each piece sent at once; a WAV gets its length where one can go back to its head."""

    def __init__(self, out: BinaryIO, wav: PcmFormat | None) -> None:
        self._out = out
        self._head = wav_header(wav) if wav is not None else b""
        self._written = 0
        self._start = _place(out)
        self._out.write(self._head)
        self._out.flush()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if data:
            self._out.write(data)
            self._out.flush()
            self._written += len(data)

    def finish(self) -> None:
        """Put the length into the head of a WAV that is a file, where it fits."""
        total = len(self._head) - 8 + self._written
        if self._head and self._start is not None and total < UNKNOWN_SIZE:
            for place, size in ((4, total), (len(self._head) - 4, self._written)):
                os.pwrite(self._out.fileno(), size.to_bytes(4, "little"), self._start + place)


def _place(out: BinaryIO) -> int | None:
    """Where a file stands that can be changed afterwards; None for pipes and for appending."""
    if not out.seekable():
        return None
    appends = fcntl.fcntl(out.fileno(), fcntl.F_GETFL) & os.O_APPEND
    return None if appends else out.tell()


def _tell(report: StreamReport, *, json_report: bool) -> None:
    """Tell latency and speed on standard error, where no sound goes."""
    if json_report:
        lines = [json.dumps(report.as_dict())]
    else:
        lines = [
            f"{report.seconds:.2f} s of sound in {report.busy_seconds:.2f} s "
            f"(real-time factor {report.real_time_factor:.2f})",
            f"latency: model {1000 * report.model_latency_s:.1f} ms, "
            f"resampling {1000 * report.resampling_latency_s:.1f} ms; "
            f"processing of a piece {report.p50_ms:.1f} ms (p50), {report.p99_ms:.1f} ms (p99)",
        ]
        if report.real_time_factor > 1:
            lines.append("this machine does not keep up with the stream; a larger --piece costs less")
        if report.clipped:
            lines.append(f"{report.clipped} samples of stems lie beyond full scale; f32le keeps them")
        if report.odd_bytes:
            lines.append(f"{report.odd_bytes} bytes at the end make no whole sample and were left out")
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()
