"""Decoding processes as their parent has them: each for one recording, forked from one that is ready."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from stemwright.core.errors import InternalError
from stemwright.service.isolation import messages
from stemwright.service.isolation.messages import Start

PROGRAM = (sys.executable, "-P", "-m", "stemwright.service.isolation.forkserver")
# For importing all on a machine that is very busy.
_STARTING_S = 60.0
_ENDING_S = 5.0
_ERROR_BYTES = 4000
_MAX_ANSWER_BYTES = 4096
# All that the processes need of the environment; above all no keys and no addresses of databases.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT")


class Decoder:
    """One decoding process, by its descriptors.

    Attributes
    ----------
    requests, answers, errors
        The ends of its standard input, output and error that are ours.
    """

    def __init__(self, *, process: int, requests: int, answers: int, errors: int, report: int) -> None:
        self.requests, self.answers, self.errors = requests, answers, errors
        self._process = process
        self._report = report

    def kill(self) -> None:
        """End it at once; no harm if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def wait(self, limit_s: float | None = None) -> int | None:
        """Return its exit code, negative for a signal; None where the process that knew it has died.

        Raises
        ------
        TimeoutError
            It still runs.
        """
        if not _readable(self._report, limit_s):
            raise TimeoutError
        data = os.read(self._report, messages.EXIT_CODE.size)
        return int(messages.EXIT_CODE.unpack(data)[0]) if data else None

    def said(self) -> str:
        """Return the end of what it wrote to standard error, without waiting for more."""
        return _end_of(self.errors)

    def close(self) -> None:
        """Let go of it."""
        for descriptor in (self.requests, self.answers, self.errors, self._process, self._report):
            os.close(descriptor)


class Decoders:
    """Starts decoding processes, within milliseconds once it is ready; a context manager. Safe for threads.

    Behind it stands one process that has everything imported and is forked for each recording. It never
    opens one itself, so that every decoding process begins as untouched as a new interpreter. It is
    started again should it die.

    Parameters
    ----------
    program
        The command that runs it.
    """

    def __init__(self, program: Sequence[str] = PROGRAM) -> None:
        self._program = tuple(program)
        self._lock = threading.Lock()
        self._closed = False
        self._server: _Server | None = _Server(self._program)

    def start(self, start: Start) -> Decoder:
        """Start a decoding process.

        Raises
        ------
        InternalError
            It does not start.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the decoders are closed")
            try:
                return self._ask(start)
            except _LostError:
                self._drop()  # it was killed since the last one
            try:
                return self._ask(start)
            except _LostError as error:
                self._drop()
                raise _not_started(str(error)) from error

    def close(self) -> None:
        """End the process behind it; decoding processes that still run end with their pipes."""
        with self._lock:
            self._closed = True
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, start: Start) -> Decoder:
        if self._server is None:
            self._server = _Server(self._program)
        return self._server.fork(start)

    def _drop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()


class _LostError(Exception):
    """The process that is forked does not answer."""


class _Server:
    """The process that is forked."""

    def __init__(self, program: Sequence[str]) -> None:
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [*program, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(),
                pass_fds=(other.fileno(),),
            )
        self._control.settimeout(_STARTING_S)

    def fork(self, start: Start) -> Decoder:
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            stdin, requests = _pipe(theirs, ours)
            answers, stdout = _pipe(ours, theirs)
            errors, stderr = _pipe(ours, theirs)
            report, code = _pipe(ours, theirs)
            try:
                socket.send_fds(self._control, [messages.as_json(start)], [stdin, stdout, stderr, code])
                data, processes, _, _ = socket.recv_fds(self._control, _MAX_ANSWER_BYTES, 1)
            except OSError as error:
                raise _LostError(self._said() or str(error)) from error
            if not processes:
                if data:
                    raise _not_started(data.decode("utf-8", "replace"))
                raise _LostError(self._said())
            ours.pop_all()
            return Decoder(
                process=processes[0], requests=requests, answers=answers, errors=errors, report=report
            )

    def close(self) -> None:
        self._control.close()
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _said(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_S)
        return _end_of(self._process.stderr.fileno()) if self._process.stderr is not None else ""


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Make a pipe whose ends are closed by these two."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _readable(descriptor: int, limit_s: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if limit_s is None else limit_s * 1000))


def _end_of(errors: int) -> str:
    os.set_blocking(errors, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(errors, 1 << 16)[-_ERROR_BYTES:].decode("utf-8", "replace").strip()
    return ""


def _not_started(cause: str) -> InternalError:
    return InternalError(
        f"the decoding process did not start: {cause or 'it says nothing'}",
        "see the server's log; memory or processes may be short",
    )


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # each thread of the linear algebra would reserve address space, which is limited; and a process with
    # threads must not be forked
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
