"""Progress on standard error: a bar per track where it is a terminal, nothing where it is not."""

import contextlib
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LABEL_WIDTH = 32
# Bars beyond this many would scroll.
_MAX_BARS = 8


class TrackBar:
    """The bar of one track; without a display it does nothing."""

    def __init__(self, progress: "Progress | None", task: "TaskID | None") -> None:
        self._progress = progress
        self._task = task

    def update(self, fraction: float, stage: str) -> None:
        """Show the measured fraction (0..1) of the work done, and what is going on."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=min(fraction, 1.0), stage=stage)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


class ProgressDisplay:
    """Bars on standard error; a context manager.

    Parameters
    ----------
    tracks
        Number of tracks; for more than one there is a bar for all of them together.
    """

    def __init__(self, tracks: int = 1) -> None:
        self._progress = _bars() if sys.stderr.isatty() else None
        self._bars = 0
        self._all: TaskID | None = None
        if self._progress is not None and tracks > 1:
            self._all = self._progress.add_task("all tracks", total=tracks, stage=f"0 of {tracks}")
        self._tracks = tracks
        self._done = 0

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    @contextlib.contextmanager
    def track(self, label: str) -> Iterator[TrackBar]:
        """Show a bar for one track while the block runs."""
        task = None
        if self._progress is not None and self._bars < _MAX_BARS:
            shown = label if len(label) <= _LABEL_WIDTH else f"{label[: _LABEL_WIDTH - 1]}…"
            task = self._progress.add_task(shown.replace("[", r"\["), total=1.0, stage="opening")
        bar = TrackBar(self._progress, task)
        self._bars += 1
        try:
            yield bar
        finally:
            self._bars -= 1
            bar.close()
            self._count()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bars away while the block prints results."""
        if self._progress is not None:
            self._progress.stop()
        try:
            yield
        finally:
            if self._progress is not None:
                self._progress.start()

    def _count(self) -> None:
        self._done += 1
        if self._progress is not None and self._all is not None:
            self._progress.update(self._all, completed=self._done, stage=f"{self._done} of {self._tracks}")


def _bars() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[stage]}"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # standard output carries results, perhaps into a pipe
    )
