"""What the process of a stream and its parent say to each other: kind, length, bytes, in both directions."""

import struct
from dataclasses import dataclass
from typing import Literal

LiveEncoding = Literal["s16le", "f32le"]

SAMPLES = b"S"
"""Raw PCM, in both directions; from the process, whole samples of all channels."""
END = b"E"
"""To the process: no more samples, give the rest."""
HEAD = b"H"
"""From the process, first: `LiveHead` as JSON."""
REPORT = b"R"
"""From the process, last: `StreamReport` as JSON."""
FAILURE = b"X"
"""From the process, last: `stemwright.service.isolation.messages.Failure` as JSON."""

HEADER = struct.Struct("<cI")
MAX_BYTES = 1 << 16
"""Samples in one message, so that what waits on the way is bounded. Chosen here."""
MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class LiveStart:
    """Arguments of the process, as JSON in its first argument.

    Parameters
    ----------
    model, models_dir
        Name of an installed model, and the folder of the models.
    sample_rate, channels
        Of the stream; None for the model's own.
    encoding
        Of what comes and of what is given.
    stems
        Stems to give, in this order; None for all.
    piece_s
        As of PcmStream.
    device, precision
        As of SessionOptions.
    log_level, log_format, request_id
        For the lines that the process logs.
    """

    model: str
    models_dir: str
    sample_rate: int | None
    channels: int | None
    encoding: LiveEncoding
    stems: tuple[str, ...] | None
    piece_s: float
    device: str
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"]
    log_level: str
    log_format: Literal["json", "text"]
    request_id: str


@dataclass(frozen=True, kw_only=True)
class LiveHead:
    """What is given, told before the first sample.

    Parameters
    ----------
    model
        Its name.
    stems
        Given one after the other as channels: all channels of the first, then of the second.
    sample_rate, format
        Of what comes and of what is given.
    channels
        Of what comes, and of each stem.
    output_channels
        Stems times channels.
    latency_s, model_latency_s, resampling_latency_s
        Sound that has to follow a sample before its stems can be given, in all and by cause.
    piece_s
        Sound that is waited for before the network is called.
    """

    model: str
    stems: tuple[str, ...]
    sample_rate: int
    channels: int
    output_channels: int
    format: str
    latency_s: float
    model_latency_s: float
    resampling_latency_s: float
    piece_s: float


def split(data: bytes | memoryview, most: int = MAX_BYTES) -> list[memoryview]:
    """Cut bytes into pieces of at most so many."""
    view = memoryview(data)
    return [view[start : start + most] for start in range(0, len(view), most)]
