"""Asking a run to stop: the first Ctrl-C or SIGTERM lets the step end, the second one does not."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers, while it is entered, that a signal asked to stop.

    Where it is entered in another thread than the main one, signals act as they did.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave back

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        before = self._before[number]
        signal.signal(number, before)  # type: ignore[arg-type]  # the next one acts at once
