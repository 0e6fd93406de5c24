"""Write docs/cli.md from the `--help` texts of all commands.

python scripts/make_cli_reference.py           writes docs/cli.md
python scripts/make_cli_reference.py --check   fails if it is out of date
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from stemwright.service.cli.main import COMMANDS, PROGRAM, build_command, load_command

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
WIDTH = 100
HEAD = """# Command reference

Made from `--help` by `scripts/make_cli_reference.py`; a test compares them. [guide.md](guide.md) explains,
[results.md](results.md) describes `result.json`, `batch.jsonl` and what `--json` prints.

| exit code | meaning |
|---|---|
| 0 | all done |
| 1 | failure: out of memory or disk, no source of weights answered, a fault of stemwright |
| 2 | the request cannot be met as it was made: input, output, option, model, device |
| 3 | some inputs of several failed, the others are done |
| 130 | interrupted (143: terminated) |

An error is a line `error: ...` with the cause and a line `hint: ...` with the remedy, both on standard error.
Standard output has results only. `NO_COLOR` is respected; progress is shown on a terminal only.

| variable | meaning |
|---|---|
| `STEMWRIGHT_MODELS` | folder of the installed models |
| `XDG_CACHE_HOME` | caches of compiled models go to `stemwright` below it |
| `TMPDIR` | where standard input, and what goes to standard output, is kept meanwhile |
"""


def contexts(command: Any, name: str, parent: typer.Context | None = None) -> Iterator[typer.Context]:
    """Yield the context of a command, as if it were called, then those of the commands below it."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = typer.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if parent is None:
        for inner in COMMANDS:
            yield from contexts(load_command(inner), inner, context)
    else:
        for inner, below in getattr(command, "commands", {}).items():
            yield from contexts(below, inner, context)


def section(context: typer.Context) -> str:
    """Return a command's help as it is printed, under a heading."""
    lines = (line.rstrip() for line in context.get_help().splitlines())
    return f"## {context.command_path}\n\n```text\n" + "\n".join(lines) + "\n```\n"


def reference() -> str:
    """Return the text of docs/cli.md."""
    return "\n".join([HEAD, *(section(context) for context in contexts(build_command(), PROGRAM))])


def main() -> None:
    """Write the page, or compare it."""
    text = reference()
    if sys.argv[1:] == ["--check"]:
        if TARGET.read_text() != text:
            sys.exit(f"{TARGET} is out of date: run python scripts/make_cli_reference.py")
        return
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
