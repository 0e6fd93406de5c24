"""Pulling a model in a terminal: asking for its terms, notes and progress on standard error."""

import contextlib
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from stemwright.models.manifest import Licence
from stemwright.models.registry import downloads
from stemwright.models.registry.downloads import ProgressCallback
from stemwright.models.registry.pull import PullOptions, pull
from stemwright.models.registry.sources import settings_from_environment
from stemwright.models.registry.store import AnyInstalled, ModelStore
from stemwright.models.registry.terms import Ask, accept_none


def confirm(question: str, *, default: bool = False) -> bool:
    """Ask on standard error; an empty line is the default, the end of the input a no.

    typer's own prompt writes a blank to standard output, which is kept for results.
    """
    typer.echo(f"{question} [{'Y/n' if default else 'y/N'}] ", nl=False, err=True)
    answer = sys.stdin.readline()
    return default if answer == "\n" else answer.strip().lower() in ("y", "yes")


def show_terms(licence: Licence) -> None:
    """Print terms to standard error."""
    typer.echo(f"Terms of the weights: {licence.name}\n{licence.text}\n{licence.url}".rstrip(), err=True)


def accept_shown(licence: Licence) -> bool:
    """Show terms that the user accepted beforehand."""
    show_terms(licence)
    return True


def ask_at_terminal(licence: Licence) -> bool:
    """Show terms and ask."""
    show_terms(licence)
    return confirm("Do you accept these terms?")


def someone_there() -> bool:
    """Tell whether a person can be asked: a terminal on both ends."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def way_to_ask(*, accept_licence: bool) -> Ask:
    """Return how terms are accepted: by the option, by asking, or, where nobody is there, not at all."""
    if accept_licence:
        return accept_shown
    return ask_at_terminal if someone_there() else accept_none


class TerminalReporter:
    """Notes as lines, transfers as bars where there is a terminal; a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not sys.stderr.isatty(),
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bars away while the block asks something: both would overwrite each other."""
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text)

    def transfer(self, label: str) -> ProgressCallback:
        """Show a bar for a transfer, in the place of the one before."""
        for known in self._bars.task_ids:
            self._bars.remove_task(known)
        task = self._bars.add_task(label, total=None)

        def step(progress: downloads.Progress) -> None:
            self._bars.update(task, completed=progress.done, total=progress.total)

        return step


def pull_in_terminal(
    name: str, store: ModelStore, *, accept_licence: bool, given: str = "", force: bool = False
) -> AnyInstalled:
    """Pull a model, asking a person at the terminal for the terms unless they were accepted already.

    Raises
    ------
    StemwrightError
        As models.pull.pull does.
    """
    options = PullOptions(given=given, force=force, settings=settings_from_environment())
    with TerminalReporter() as reporter:

        def ask(licence: Licence) -> bool:
            with reporter.hidden():
                return way_to_ask(accept_licence=accept_licence)(licence)

        return pull(name, store, ask=ask, options=options, reporter=reporter)
