"""A stream of bytes to a stream of bytes: what the command line and the WebSocket share."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.pcm import Encoding, PcmFormat
from stemwright.core.errors import OptionError
from stemwright.models.separation.streaming import StreamSession

_MOST_TIMES = 100_000  # pieces whose times are kept for the percentiles, the latest ones; chosen here


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """How a stream went.

    Parameters
    ----------
    seconds
        Sound that came in.
    busy_seconds
        Time spent on it.
    model_latency_s, resampling_latency_s
        Sound that has to follow a sample before its stems are given, by cause.
    pieces
        Calls that gave something.
    p50_ms, p99_ms
        Median and 99th percentile of the time of such a call.
    clipped
        Samples of stems beyond full scale, cut where the output has integers.
    odd_bytes
        Bytes at the end that made no whole sample.
    """

    seconds: float
    busy_seconds: float
    model_latency_s: float
    resampling_latency_s: float
    pieces: int
    p50_ms: float
    p99_ms: float
    clipped: int
    odd_bytes: int

    @property
    def real_time_factor(self) -> float:
        """Time spent per time of sound; the stream keeps up below 1."""
        return self.busy_seconds / self.seconds if self.seconds else 0.0

    @property
    def latency_s(self) -> float:
        """Latency of a typical sample: what has to follow it, and the time of its call."""
        return self.model_latency_s + self.resampling_latency_s + self.p50_ms / 1000

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "real_time_factor": self.real_time_factor, "latency_s": self.latency_s}


@dataclass(kw_only=True)
class PcmStream:
    """Bytes of a stream in, bytes of its stems out: stem after stem as channels of one sample.

    Parameters
    ----------
    session
        The stream's session; it stays open.
    source
        What comes in: at the session's rate, on its channels.
    encoding
        Of what goes out.
    stems
        Stems that go out, in this order; None for all.
    piece_s
        Sound that is waited for before the network is called. Smaller pieces answer sooner and cost more.

    Raises
    ------
    OptionError
        A stem that the model does not have, or a piece of no length.
    """

    session: StreamSession
    source: PcmFormat
    encoding: Encoding
    stems: tuple[str, ...] | None = None
    piece_s: float = 0.02
    _rest: bytes = b""
    _frames: int = 0
    _busy_s: float = 0.0
    _times: list[float] = field(default_factory=list)
    _pieces: int = 0
    _clipped: int = 0
    _odd: int = 0

    def __post_init__(self) -> None:
        offered = self.session.stems
        for stem in self.stems or ():
            if stem not in offered:
                raise OptionError(
                    f"{self.session.manifest.name} has no stem {stem}", f"it has {', '.join(offered)}"
                )
        if not 0 < self.piece_s <= 60:
            raise OptionError(
                f"pieces of {1000 * self.piece_s:g} ms make no sense", "use more than 0, up to a minute"
            )
        if (self.source.sample_rate, self.source.channels) != (
            self.session.sample_rate,
            self.session.channels,
        ):
            raise ValueError("the session is for another rate or number of channels")
        self._picks = [offered.index(stem) for stem in self.stems or offered]

    @property
    def target(self) -> PcmFormat:
        """What goes out."""
        return PcmFormat(
            encoding=self.encoding,
            sample_rate=self.source.sample_rate,
            channels=len(self._picks) * self.source.channels,
        )

    @property
    def wanted_bytes(self) -> int:
        """Bytes that are missing until the network is called, at least 1."""
        return max(1, self._piece_bytes - len(self._rest))

    @property
    def _piece_bytes(self) -> int:
        return max(1, round(self.piece_s * self.source.sample_rate)) * self.source.frame_bytes

    def feed(self, data: bytes) -> bytes:
        """Take bytes, of any number, and give what is final; raises as StreamSession.push."""
        self._rest += data
        if len(self._rest) < self._piece_bytes:
            return b""
        return self._run(last=False)

    def end(self) -> bytes:
        """End the stream and give the rest; bytes that make no whole sample are dropped and counted."""
        out = self._run(last=True)
        self._odd, self._rest = len(self._rest), b""
        return out

    def report(self) -> StreamReport:
        """Tell how it went so far."""
        latency = self.session.latency
        p50, p99 = np.percentile(self._times, [50, 99]) if self._times else (0.0, 0.0)
        return StreamReport(
            seconds=self._frames / self.source.sample_rate,
            busy_seconds=self._busy_s,
            model_latency_s=latency.model_s,
            resampling_latency_s=latency.resampling_s,
            pieces=self._pieces,
            p50_ms=1000 * float(p50),
            p99_ms=1000 * float(p99),
            clipped=self._clipped,
            odd_bytes=self._odd,
        )

    def _run(self, *, last: bool) -> bytes:
        started = time.perf_counter()
        whole = len(self._rest) // self.source.frame_bytes * self.source.frame_bytes
        samples = self.source.decode(self._rest[:whole])
        self._rest = self._rest[whole:]
        self._frames += samples.shape[1]
        parts = [self.session.push(samples)] if samples.shape[1] else []
        if last:
            parts.append(self.session.flush())
        out = self._encoded(np.concatenate(parts, axis=-1)) if parts else b""
        took = time.perf_counter() - started
        self._busy_s += took
        if out and not last:
            self._pieces += 1
            self._times.append(took)
            if len(self._times) > 2 * _MOST_TIMES:
                del self._times[:-_MOST_TIMES]
        return out

    def _encoded(self, stems: FloatArray) -> bytes:
        picked = stems[self._picks].reshape(self.target.channels, stems.shape[-1])
        self._clipped += int(np.count_nonzero(np.abs(picked) > 1))
        return self.target.encode(picked)
