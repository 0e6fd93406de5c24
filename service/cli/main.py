"""The `stemwright` command: finds sub-commands by name, maps errors to exit codes.

`COMMANDS` is the one permitted crossing of the layers: a sub-command's module is imported when it is
called, not before, so that `stemwright --help` stays fast and no command loads what another one needs.
"""

import importlib
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from stemwright.core.errors import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    CancelledError,
    StemwrightError,
)

PROGRAM = "stemwright"
# 128 + signal number, what a shell reports for a process that the signal ended.
EXIT_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True, kw_only=True)
class Command:
    """A sub-command: the module whose `app` it is, and its line in the list of commands."""

    module: str
    summary: str


COMMANDS = {
    "separate": Command(
        module="stemwright.service.cli.separate", summary="Separate recordings into their stems."
    ),
    "batch": Command(
        module="stemwright.service.cli.batch", summary="Separate a whole folder or MUSDB18, resumable."
    ),
    "detect": Command(
        module="stemwright.service.cli.detect", summary="Tell which sounds are in a recording, and when."
    ),
    "stream": Command(module="stemwright.service.cli.stream", summary="Separate a stream while it goes on."),
    "submit": Command(
        module="stemwright.service.cli.submit", summary="Have a recording separated by a service."
    ),
    "models": Command(
        module="stemwright.service.cli.models", summary="Pull, list, check, import and export models."
    ),
    "serve": Command(
        module="stemwright.service.cli.serve", summary="Serve separation over HTTP, with a worker."
    ),
    "worker": Command(
        module="stemwright.service.cli.worker", summary="Do the jobs of a server, on this machine."
    ),
    "keys": Command(
        module="stemwright.service.cli.keys", summary="Create, list and revoke API keys of the service."
    ),
    "eval": Command(module="stemwright.service.cli.eval", summary="Score stems against references."),
    "train": Command(module="stemwright.training.cli.main", summary="Train models, and make data for it."),
    "doctor": Command(
        module="stemwright.service.cli.doctor", summary="Check this machine and this installation."
    ),
    "bench": Command(
        module="stemwright.service.cli.bench", summary="Measure the speed of this machine's providers."
    ),
}


@dataclass(kw_only=True)
class Invocation:
    """What the outermost call knows of the run; the context's `obj` in every command."""

    verbose: bool = False


def _be_verbose(context: typer.Context, value: bool) -> bool:
    invocation = context.find_root().obj
    if value and isinstance(invocation, Invocation):
        invocation.verbose = True
    return value


Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        callback=_be_verbose,
        expose_value=False,
        help="Log what is done, and show the traceback of an error.",
    ),
]


def load_command(name: str) -> TyperCommand | TyperGroup:
    """Import a sub-command's module and return its command, `--verbose` added to it."""
    app: typer.Typer = importlib.import_module(COMMANDS[name].module).app
    app.rich_markup_mode = None  # plain help: rich takes longer to import than the help to print
    command: Any = typer.main.get_command(app)
    command.name = name
    _add_verbose(command)
    return command  # type: ignore[no-any-return]  # one of the two, by the kind of app


def _add_verbose(command: Any) -> None:
    """Give a command, and what is below it, the option that build_command's own parameters have."""
    command.params.append(next(p for p in build_command().params if p.name == "verbose"))
    for inner in getattr(command, "commands", {}).values():
        _add_verbose(inner)


class LazyGroup(TyperGroup):
    """A group that knows its sub-commands by name and line, and imports the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, command in COMMANDS.items():
            self.add_command(TyperCommand(name, help=command.summary, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the stand-in that help and completion show by the command itself."""
        name, _stand_in, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, rest


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    name=PROGRAM,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
    verbose: Verbose = False,
) -> None:
    """Separate recordings into their stems, on this machine.

    Results go to standard output, progress and messages to standard error. Exit codes: 0 all done,
    1 failure, 2 the request cannot be met as it was made, 3 some inputs of several failed, 130
    interrupted.
    """


def build_command() -> TyperGroup:
    """Return the whole command, sub-commands not yet imported."""
    command: Any = typer.main.get_command(app)
    return command  # type: ignore[no-any-return]  # LazyGroup, by `cls` above


def main() -> None:
    """Run the command with the process's arguments and exit with its code."""
    arguments = sys.argv[1:]
    _quieten(verbose="--verbose" in arguments)
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code.

    Every error ends here: a line of cause and a line of remedy on standard error.
    """
    invocation = Invocation(verbose="--verbose" in arguments)
    try:
        code = build_command().main(
            list(arguments) or ["--help"], prog_name=PROGRAM, obj=invocation, standalone_mode=False
        )
    except (KeyboardInterrupt, CancelledError):
        return _report(invocation, "interrupted", "", EXIT_INTERRUPTED)
    except StemwrightError as error:
        return _report(invocation, error.message, error.remedy, error.exit_code)
    except BrokenPipeError:
        return _closed_output()
    except typer.Abort:
        return _report(invocation, "aborted", "", EXIT_FAILURE)
    except Exception as error:
        return _report_foreign(invocation, error)
    if code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into a code
        show_error("interrupted", "")
    return code if isinstance(code, int) else EXIT_OK


def _report_foreign(invocation: Invocation, error: Exception) -> int:
    """Report a mistake in the arguments (typer's own exceptions), or a fault that nobody foresaw."""
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":  # the message is the help
            typer.echo(format_message(), err=True)
            return EXIT_USAGE
        where = context.command_path if context else PROGRAM
        message = " ".join(str(format_message()).split()).rstrip(".")
        return _report(invocation, message, f"see `{where} --help`", int(getattr(error, "exit_code", 1)))
    cause = " ".join(str(error).split())
    message = f"unexpected {type(error).__name__}" + (f": {cause}" if cause else "")
    return _report(invocation, message, "run it with --verbose for the traceback", EXIT_FAILURE)


def _report(invocation: Invocation, message: str, remedy: str, code: int) -> int:
    if invocation.verbose:
        traceback.print_exc()
    show_error(message, remedy)
    return code


def show_error(message: str, remedy: str) -> None:
    """Print `error: message` and `hint: remedy` on standard error, coloured only on a terminal."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    for label, text, code in (("error", message, 31), ("hint", remedy, 36)):
        if text:
            shown = f"\x1b[1;{code}m{label}:\x1b[0m" if colour else f"{label}:"
            typer.echo(f"{shown} {printable(text)}", err=True)


def printable(text: str) -> str:
    """Return text as one line that any terminal shows as it is: no control codes, no lone surrogates."""
    encodable = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in encodable)


def _closed_output() -> int:
    """Reader of standard output went away: stop without another message (and none at shutdown)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILURE


def _quieten(*, verbose: bool) -> None:
    """Log to standard error; libraries' warnings are for developers and shown with --verbose only."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger(PROGRAM).setLevel(logging.DEBUG if verbose else logging.WARNING)
    if not verbose and not sys.warnoptions:
        warnings.simplefilter("ignore")


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Leave as for any exception, so that staged files are removed."""
    raise SystemExit(EXIT_TERMINATED)
