"""Progress on standard error: a bar per track where it is a terminal, nothing where it is not."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stemwright.models.separation.separator import Progress

if TYPE_CHECKING:
    from rich import progress as rich_progress

_LABEL_WIDTH = 32
# Bars beyond this many would scroll.
_MAX_BARS = 8


class TrackBar:
    """The bar of one track; without a display it does nothing."""

    def __init__(
        self, progress: "rich_progress.Progress | None", task: "rich_progress.TaskID | None"
    ) -> None:
        self._progress = progress
        self._task = task

    def update(self, progress: Progress) -> None:
        """Show how much of the network's work is done, measured in chunks, and what is going on.

        The first reading of the recording counts for nothing: it is quick, and the time left is
        estimated from the network's pace.
        """
        separating = progress.stage == "separation"
        fraction = progress.fraction if separating else 0.0
        self.show("reading" if not separating else "separating" if fraction < 1 else "writing", fraction)

    def show(self, stage: str, fraction: float) -> None:
        """Show what is going on, and how much of the track is done."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=fraction, stage=stage)

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
        self._counting = threading.Lock()  # tracks of a batch run in threads of their own
        self._all: rich_progress.TaskID | None = None
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
        with self._counting:
            self._bars += 1
        try:
            yield bar
        finally:
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
        with self._counting:
            self._bars -= 1
            self._done += 1
            if self._progress is not None and self._all is not None:
                stage = f"{self._done} of {self._tracks}"
                self._progress.update(self._all, completed=self._done, stage=stage)


def _bars() -> "rich_progress.Progress":
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
