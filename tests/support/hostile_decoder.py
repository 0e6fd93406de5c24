"""Run in the place of the decoding processes: a decoder that behaves as the recording's name says."""

import ctypes
import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import BLOCK_FRAMES, AudioInfo
from stemwright.core.audio.tags import Tags
from stemwright.service.isolation import forkserver, messages
from stemwright.service.isolation.messages import Start

RATE = 8000


class Hostile:
    """Two blocks of silence, then what `deed` says."""

    def __init__(self, deed: str) -> None:
        self._deed = deed
        self.info = AudioInfo(
            sample_rate=RATE,
            channels=1,
            layout=("FC",),
            frames=RATE,
            codec="hostile",
            container="hostile",
        )

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
        for _ in range(2):
            yield np.zeros((1, block_frames), np.float32)
        yield from do(self._deed, block_frames)

    def tags(self) -> Tags:
        list(do(self._deed, 1))
        return Tags()


def do(deed: str, block_frames: int) -> Iterator[FloatArray]:
    yield from DEEDS[deed](np.zeros((1, block_frames), np.float32))


def _spin(_: FloatArray) -> list[FloatArray]:
    while True:
        pass


def _allocate(block: FloatArray) -> list[FloatArray]:
    while True:
        block = np.concatenate([block, np.ones((1, 1 << 22), np.float32)], axis=1)


def _raise(_: FloatArray) -> list[FloatArray]:
    raise LookupError(",".join(sorted(os.environ)))


def _descriptors(_: FloatArray) -> list[FloatArray]:
    raise LookupError("descriptors: " + ",".join(sorted(os.listdir("/proc/self/fd"))))


def _write(_: FloatArray) -> list[FloatArray]:
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
        file.flush()
    return []


def _huge(_: FloatArray) -> list[FloatArray]:
    for descriptor in range(3, 16):  # one of them is the pipe
        with suppress(OSError):
            os.write(descriptor, messages.HEADER.pack(messages.BLOCK, 0xFFFFFFFF))
    time.sleep(600)
    return []


def _call(deed: Callable[[], object]) -> Callable[[FloatArray], list[FloatArray]]:
    def then_nothing(_: FloatArray) -> list[FloatArray]:
        deed()
        return []

    return then_nothing


DEEDS: dict[str, Callable[[FloatArray], Iterable[FloatArray]]] = {
    "segfault": _call(lambda: ctypes.string_at(0)),
    "abort": _call(lambda: os.kill(os.getpid(), signal.SIGABRT)),
    "spin": _spin,
    "sleep": _call(lambda: time.sleep(600)),
    "allocate": _allocate,
    "exit": _call(lambda: os._exit(7)),
    "nan": lambda block: [np.full_like(block, np.nan)],
    "endless": itertools.repeat,
    "raise": _raise,
    "descriptors": _descriptors,
    "write": _write,
    "print": _call(lambda: print("noise", flush=True)),  # noqa: T201 - what a library might do
    "huge": _huge,
}


def open_hostile(start: Start) -> Hostile:
    when, _, deed = start.name.partition(" ")
    if when == "opening":
        list(do(deed, 1))
    return Hostile(deed)


if __name__ == "__main__":
    forkserver.main(open_hostile)
