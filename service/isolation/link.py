"""The parent's end: starts a decoding process, reads its messages under limits of size and time, kills it."""

import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemwright.core.errors import InputError, InternalError, StemwrightError
from stemwright.service.isolation import messages
from stemwright.service.isolation.decoders import Decoders
from stemwright.service.isolation.limits import DecodeLimits
from stemwright.service.isolation.messages import Failure, Start

_LOG = logging.getLogger(__name__)

# Room for two stereo blocks, so that the process decodes on while its parent is busy.
_PIPE_BYTES = 1 << 20
_STARTING_S = 60.0
_ENDING_S = 5.0

_CONVERT = "check that it plays, or convert it to WAV or FLAC and give that"


class Link:
    """A decoding process for one recording.

    Parameters
    ----------
    start
        What it reads.
    limits
        What it may use.
    decoders
        Starts it.

    Raises
    ------
    InternalError
        The process does not start.
    """

    def __init__(self, start: Start, limits: DecodeLimits, decoders: Decoders) -> None:
        self._name = start.name
        self._limits = limits
        self._decoder = decoders.start(start)
        self._pipe = self._decoder.answers
        with contextlib.suppress(OSError):  # more than the user may have; the usual size will do
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._pipe, False)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        try:
            self._await_start()
        except BaseException:
            self.kill()
            raise

    def _await_start(self) -> None:
        try:
            kind, _ = self._header(time.monotonic() + _STARTING_S)
        except InputError as error:
            raise InternalError(
                f"the decoding process did not start: {self._decoder.said() or error.message}",
                "see the server's log; memory or processes may be short",
            ) from error
        if kind != messages.READY:
            raise self._nonsense()

    def request(self, do: str, **details: Any) -> None:
        """Send a request."""
        try:
            os.write(self._decoder.requests, json.dumps({"do": do, **details}).encode() + b"\n")
        except BrokenPipeError as error:
            raise self._died() from error

    def receive(self, expected: Mapping[bytes, int]) -> tuple[bytes, bytearray]:
        """Return the next message.

        Parameters
        ----------
        expected
            The kinds that may come, each with the most bytes it may have.

        Raises
        ------
        StemwrightError
            What the process found wrong; or InputError where it died, fell silent or sent nonsense.
        """
        deadline = time.monotonic() + self._limits.stall_s
        kind, size = self._header(deadline)
        if kind == messages.FAILURE and size <= messages.MAX_JSON_BYTES:
            raise self._failure(self._exactly(size, deadline))
        if size > expected.get(kind, -1):
            raise self._nonsense()
        return kind, self._exactly(size, deadline)

    def stop(self) -> None:
        """End the process at once; whoever reads from it learns that it died."""
        self._decoder.kill()

    def kill(self) -> None:
        """End the process at once, and let go of it; nobody may be reading from it."""
        self.stop()
        with contextlib.suppress(TimeoutError):
            self._decoder.wait(_ENDING_S)
        self._decoder.close()

    def _header(self, deadline: float) -> tuple[bytes, int]:
        kind, size = messages.HEADER.unpack(self._exactly(messages.HEADER.size, deadline))
        return kind, size

    def _exactly(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                raise InputError(
                    f"{self._name} keeps the decoder busy without a result for {self._limits.stall_s:g} s",
                    _CONVERT,
                )
            count = os.readv(self._pipe, [rest])
            if count == 0:
                raise self._died()
            rest = rest[count:]
        return data

    def _died(self) -> InputError:
        try:
            code = self._decoder.wait(_ENDING_S)
        except TimeoutError:
            return self._nonsense()
        _LOG.warning("the decoding process of %s ended with %s: %s", self._name, code, self._decoder.said())
        if code == -signal.SIGXCPU:
            return InputError(f"{self._name} takes the decoder more than {self._limits.cpu_s} s", _CONVERT)
        how = "lost" if code is None else signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return InputError(f"{self._name} makes the decoder fail ({how})", _CONVERT)

    def _nonsense(self) -> InputError:
        return InputError(f"{self._name} makes the decoder answer nonsense", _CONVERT)

    def _failure(self, data: bytearray) -> StemwrightError:
        try:
            failure = Failure(**json.loads(data))
            message, remedy = _line(failure.message), _line(failure.remedy)
        except (ValueError, TypeError):
            return self._nonsense()
        known = {kind.code: kind for kind in _subclasses(StemwrightError)}.get(failure.code or "")
        if known is not None:
            return known(message, remedy)
        _LOG.warning("the decoder failed with %s", failure.trace)
        return InputError(f"{self._name} makes the decoder fail ({message})", _CONVERT)


def started(
    path: Path, name: str, limits: DecodeLimits, *, start_s: float, end_s: float | None, stream: int
) -> Start:
    """Return the arguments of a process."""
    return Start(
        path=str(path.absolute()),
        name=name,
        start_s=start_s,
        end_s=end_s,
        stream=stream,
        memory_bytes=limits.memory_bytes,
        cpu_s=limits.cpu_s,
    )


def _line(text: object) -> str:
    return " ".join(str(text).split())[:1000]


def _subclasses(kind: type[StemwrightError]) -> list[type[StemwrightError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _subclasses(child))]
