"""What the commands of `stemwright train` that concern runs do."""

import sys
import tomllib
from pathlib import Path
from typing import Any

from stemwright.core.errors import EXIT_OK, InputError, OptionError
from stemwright.models.manifest import StorageKind
from stemwright.training.config import read_config
from stemwright.training.run_folder import RunFolder

RUNS = Path("runs")


def run_config(config: str, out: Path | None, start: Path | None, settings: list[str]) -> int:
    """Train as a configuration says, with some of its settings changed."""
    from stemwright.training.loop import train

    read = read_config(config, changes=[parse_setting(text) for text in settings])
    where = out or RUNS / read.name
    train(read, where, start=start)
    _print(where)
    return EXIT_OK


def resume_run(where: Path) -> int:
    """Go on with a run."""
    from stemwright.training.loop import train

    train(RunFolder(where).config(), where, resume=True)
    _print(where)
    return EXIT_OK


def publish_run(
    where: Path,
    *,
    name: str,
    storage: StorageKind,
    measure: Path | None,
    checkpoint: Path | None,
    force: bool,
) -> int:
    """Install the weights of a run as a model."""
    from stemwright.models.registry.converting import Measure
    from stemwright.models.registry.store import ModelStore
    from stemwright.training.publishing import PublishOptions, publish

    if checkpoint is not None and not checkpoint.is_file():
        raise InputError(f"there is no checkpoint {checkpoint}", "check the path")
    options = PublishOptions(
        name=name,
        storage=storage,
        measure=None if measure is None else Measure(folder=measure, note=_note),
        checkpoint=checkpoint,
        replace=force,
        note=_note,
    )
    installed = publish(where, ModelStore(), options)
    _print(installed.folder)
    return EXIT_OK


def parse_setting(text: str) -> tuple[list[str], Any]:
    """Read `a.b=value`; the value is TOML, or a bare word; raises OptionError."""
    name, equals, value = text.partition("=")
    if not equals or not all(name.split(".")):
        raise OptionError(f"--set {text} is no setting", "write it as loop.steps=100")
    try:
        return name.split("."), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.split("."), value


def _print(path: Path) -> None:
    sys.stdout.write(f"{path}\n")


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
