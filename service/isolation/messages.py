"""What a decoding process and its parent say to each other.

Requests are lines of JSON on the process's standard input. Answers on its standard output are messages: a
byte for the kind, the length of the rest as 32 bits little-endian, then that many bytes.
"""

import dataclasses
import json
import struct
from dataclasses import dataclass
from typing import Any

READY = b"R"
"""Imported all, limits set."""
INFO = b"I"
"""`AudioInfo` as JSON."""
TAGS = b"T"
"""Fields of `Tags` as JSON; a cover follows, perhaps empty."""
COVER = b"C"
BLOCK = b"B"
"""Samples of shape (channels, n), float32, little-endian, channel after channel."""
END = b"E"
"""No more blocks."""
FAILURE = b"X"
"""`Failure` as JSON."""

HEADER = struct.Struct("<cI")
EXIT_CODE = struct.Struct("<i")
MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the process is for, as JSON."""

    path: str
    name: str
    start_s: float
    end_s: float | None
    stream: int
    memory_bytes: int
    cpu_s: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An exception of the process.

    Parameters
    ----------
    code
        Of the `StemwrightError`, None for any other exception.
    message, remedy
        Its lines.
    trace
        Traceback of an exception that nobody foresaw.
    """

    code: str | None
    message: str
    remedy: str
    trace: str = ""


def as_json(message: Any) -> bytes:
    """Encode a dataclass."""
    return json.dumps(dataclasses.asdict(message)).encode()
