"""The folder of a run: its configuration, checkpoints and log.

config.json     the configuration, complete
checkpoints/    step-*.pt and best.pt
log.jsonl       one line of JSON for every `log_every` steps and for every validation
tensorboard/    the same for TensorBoard
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stemwright.core.errors import InputError, OutputError
from stemwright.training.config import TrainConfig, config_from

CONFIG_FILE = "config.json"
LOG_FILE = "log.jsonl"


class RunFolder:
    """Paths of a run, and its configuration.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """The log."""
        return self.path / LOG_FILE

    @property
    def tensorboard(self) -> Path:
        """Folder that TensorBoard reads."""
        return self.path / "tensorboard"

    def open(self, config: TrainConfig, step: int, *, resume: bool, writes: bool) -> None:
        """Begin a run, or make the log of a resumed one end with its checkpoint.

        Parameters
        ----------
        config
            The run's.
        step
            Steps that are done.
        resume
            Whether there is a run to go on with.
        writes
            False for all processes but the first, which do nothing here.

        Raises
        ------
        OutputError
            There is a run already, or the folder cannot be written.
        """
        if not writes:
            return
        target = self.path / CONFIG_FILE
        if target.exists() and not resume:
            raise OutputError(
                f"there is a run in {self.path}",
                f"go on with it: stemwright train resume {self.path}; or choose another folder",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if resume:
                self._cut_log(step)
            else:
                target.write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"cannot write {target}: {error.strerror or error}", "choose another folder"
            ) from error

    def config(self) -> TrainConfig:
        """Read the configuration; raises InputError if the folder holds no run."""
        target = self.path / CONFIG_FILE
        try:
            given = json.loads(target.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path} holds no run: {CONFIG_FILE} cannot be read", "give the folder of a run"
            ) from error
        return config_from(given, str(target))

    def rows(self) -> list[dict[str, Any]]:
        """Read the log; a last line that was cut off counts for nothing."""
        try:
            lines = self.log.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        return list(_parsed(lines))

    def _cut_log(self, step: int) -> None:
        """Drop what the log tells of steps after `step`, which a resumed run makes again."""
        kept = [row for row in self.rows() if row["step"] <= step]
        part = self.log.with_suffix(".part")
        part.write_text("".join(line_of(row) for row in kept), encoding="utf-8")
        os.replace(part, self.log)


def line_of(row: Mapping[str, Any]) -> str:
    """One line of strict JSON: what is no number there is null."""
    finite = {
        name: None if isinstance(value, float) and value - value != 0 else value
        for name, value in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def _parsed(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            return
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row
