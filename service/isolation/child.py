"""The decoding process, forked by `forkserver.py`; imports nothing but the decoder.

It serves one recording: `tags` and `blocks` requests come one after the other on standard input, and it
ends when that is closed.
"""

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stemwright.core.audio.source import AudioSource, open_source
from stemwright.core.audio.tags import Tags
from stemwright.core.errors import StemwrightError
from stemwright.service.isolation import messages
from stemwright.service.isolation.messages import Failure, Start

_MAX_OPEN_FILES = 64
_TRACE_CHARACTERS = 8000


class Readable(AudioSource, Protocol):
    """A recording with tags."""

    def tags(self) -> Tags:
        """Read the tags."""
        ...


Opener = Callable[[Start], Readable]


def open_file(start: Start) -> Readable:
    """Open the recording that the parent names."""
    return open_source(
        Path(start.path), name=start.name, start_s=start.start_s, end_s=start.end_s, stream=start.stream
    )


def serve(start: Start, opener: Opener = open_file) -> None:
    """Serve the parent until it closes the pipe."""
    with suppress(BrokenPipeError):
        _serve(start, opener, _own_standard_output())


def _own_standard_output() -> int:
    """Keep the pipe for messages: what a library prints goes to standard error."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    return pipe


def _serve(start: Start, opener: Opener, pipe: int) -> None:
    _limit(start)
    _send(pipe, messages.READY)
    try:
        _allow_seconds(start.cpu_s)
        recording = opener(start)
        _send(pipe, messages.INFO, messages.as_json(recording.info))
        for line in sys.stdin.buffer:
            _allow_seconds(start.cpu_s)
            _answer(json.loads(line), recording, pipe)
    except BrokenPipeError:
        raise
    except Exception as error:
        _send(pipe, messages.FAILURE, messages.as_json(_failure(error, start)))


def _answer(request: dict[str, Any], recording: Readable, pipe: int) -> None:
    if request["do"] == "tags":
        tags = recording.tags()
        _send(pipe, messages.TAGS, json.dumps(dict(tags.fields)).encode())
        _send(pipe, messages.COVER, tags.cover or b"")
        return
    for block in recording.blocks(request["block_frames"]):
        _send(pipe, messages.BLOCK, np.ascontiguousarray(block, "<f4").data.cast("B"))
    _send(pipe, messages.END)


def _limit(start: Start) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, start.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
    ):
        resource.setrlimit(kind, (most, most))


def _allow_seconds(cpu_s: int) -> None:
    """Grant processor time for one request; beyond it the kernel ends the process (SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + cpu_s, hard))


def _failure(error: Exception, start: Start) -> Failure:
    if isinstance(error, StemwrightError):
        return Failure(code=error.code, message=error.message, remedy=error.remedy)
    if isinstance(error, MemoryError):
        message = f"{start.name} needs more than {start.memory_bytes >> 20} MiB of memory to be decoded"
        return Failure(
            code="unusable_input", message=message, remedy="convert it to WAV or FLAC and give that"
        )
    trace = "".join(traceback.format_exception(error))[-_TRACE_CHARACTERS:]
    return Failure(code=None, message=type(error).__name__, remedy="", trace=trace)


def _send(pipe: int, kind: bytes, data: bytes | memoryview = b"") -> None:
    rest = memoryview(messages.HEADER.pack(kind, len(data)))
    for piece in (rest, memoryview(data)):
        while piece:
            piece = piece[os.write(pipe, piece) :]
