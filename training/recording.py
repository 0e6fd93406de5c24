"""What a run tells while it goes on: a bar on a terminal, a log of JSON lines, TensorBoard."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from stemwright.training.run_folder import RunFolder, line_of


class Recorder(Protocol):
    """Told how a run goes."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of the steps since the last call."""

    def advance(self, step: int) -> None:
        """Show that so many steps are done."""

    def scores(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Take the scores of a validation: by `network` or by `engine`."""

    def note(self, text: str) -> None:
        """Say something in one line."""

    def close(self) -> None:
        """Write out what is left."""


class Silent:
    """Tells nothing: for all processes but the first."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Tell nothing."""

    def advance(self, step: int) -> None:
        """Tell nothing."""

    def scores(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Tell nothing."""

    def note(self, text: str) -> None:
        """Tell nothing."""

    def close(self) -> None:
        """Do nothing."""


class RunRecorder:
    """Writes the log and TensorBoard's files of a run, and shows a bar where there is a terminal.

    Parameters
    ----------
    folder
        The run's.
    steps
        Steps in all.
    start
        Steps that are done.
    """

    def __init__(self, folder: RunFolder, *, steps: int, start: int) -> None:
        folder.path.mkdir(parents=True, exist_ok=True)
        self._log = folder.log.open("a", encoding="utf-8")
        self._board = _board(folder.tensorboard, start)
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=steps, completed=start, rate="")
        self._console = console
        self._bar.start()

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of the steps since the last call."""
        self._write({"step": step, "kind": "train", **values})
        for name, value in values.items():
            self._board.add_scalar(f"train/{name}", value, step)
        rate = f"{values['examples_per_s']:.1f} examples/s"
        self._bar.update(self._task, description=f"loss {values['loss']:.4f}", rate=rate)

    def advance(self, step: int) -> None:
        """Show the step."""
        self._bar.update(self._task, completed=step)

    def scores(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Log a validation, and print it in one line."""
        self._write({"step": step, "kind": kind, **values})
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        self.note(f"step {step}, validated by the {kind}: {shown}")

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Stop the bar and close the files."""
        self._bar.stop()
        self._board.close()
        self._log.close()

    def _write(self, row: Mapping[str, object]) -> None:
        self._log.write(line_of({**row, "time": round(time.time(), 3)}))
        self._log.flush()


def _board(folder: Path, start: int) -> SummaryWriter:
    # Of a resumed run, steps after its checkpoint that were told already are told again.
    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)


def open_recorder(folder: RunFolder, *, steps: int, start: int, tells: bool) -> Recorder:
    """Open the recorder of a run; it tells nothing where another process does."""
    return RunRecorder(folder, steps=steps, start=start) if tells else Silent()
