"""The process that decoding processes are forked from: it has imported all they need and opens no recording.

Run as a program by `decoders.py`, which asks on a socket. Each message is the JSON of a `Start` and brings
four descriptors: standard input, output and error of the new process, and where its exit code goes. The
answer is a descriptor of the process, or why there is none. It ends when the socket is closed.
"""

import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from typing import NoReturn

from stemwright.service.isolation import messages
from stemwright.service.isolation.child import Opener, open_file, serve
from stemwright.service.isolation.messages import Start

_STREAMS = 3


def main(opener: Opener = open_file) -> None:
    """Fork a process for each request until the parent closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent's business
    with socket.socket(fileno=int(sys.argv[1])) as control:
        Forkserver(control, opener).run()


class Forkserver:
    """Forks decoding processes, and tells how they ended.

    Parameters
    ----------
    control
        Where requests come from.
    opener
        Opens recordings in the processes.
    """

    def __init__(self, control: socket.socket, opener: Opener) -> None:
        self._control = control
        self._opener = opener
        self._reports: dict[int, int] = {}

    def run(self) -> None:
        """Serve until the parent closes the socket."""
        gc.collect()
        gc.freeze()  # what is shared with the processes stays shared
        woken, wakes = os.pipe()
        for end in (woken, wakes):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            selector.register(self._control, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if woken in ready:
                    os.read(woken, 4096)
                    self._reap()
                if self._control.fileno() in ready and not self._answer():
                    return

    def _answer(self) -> bool:
        """Answer a request; return whether there was one."""
        data, descriptors, _, _ = socket.recv_fds(self._control, messages.MAX_JSON_BYTES, _STREAMS + 1)
        if not data:
            return False
        *streams, report = descriptors
        try:
            pid = os.fork()
        except OSError as error:
            os.close(report)
            self._control.send((error.strerror or str(error)).encode())
        else:
            if pid == 0:
                self._decode(data, streams)
            self._reports[pid] = report
            process = os.pidfd_open(pid)
            socket.send_fds(self._control, [b""], [process])
            os.close(process)
        for stream in streams:
            os.close(stream)
        return True

    def _decode(self, data: bytes, streams: list[int]) -> NoReturn:
        """Be a decoding process: with its own streams and nothing of this one's but memory."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.closerange(_STREAMS, os.sysconf("SC_OPEN_MAX"))
            serve(Start(**json.loads(data)), self._opener)
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._reports:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            report = self._reports.pop(pid)
            try:
                os.write(report, messages.EXIT_CODE.pack(os.waitstatus_to_exitcode(status)))
            except BrokenPipeError:
                pass  # nobody asks any more
            finally:
                os.close(report)


if __name__ == "__main__":
    main()
