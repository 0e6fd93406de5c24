"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is written aside, flushed to the disk and renamed, so that one that is there is whole whenever
the process or the machine dies. The last few and the best are kept.
"""

import dataclasses
import errno
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stemwright.core.errors import ModelFileError, OutputError, ResourceError, StemwrightError

FORMAT = 1
BEST = "best.pt"
_NUMBERED = re.compile(r"^step-(\d{9})\.pt$")


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    folder
        Where they are.
    keep
        How many are kept beside the best.
    writes
        Whether they are written; of several processes the first one's are.
    """

    def __init__(self, folder: Path, keep: int, *, writes: bool = True) -> None:
        self.folder, self._keep, self._writes = folder, keep, writes

    @property
    def best(self) -> Path:
        """The best one, if there is any yet."""
        return self.folder / BEST

    def last(self) -> Path | None:
        """Return the newest one; None if there is none."""
        found = self._numbered()
        return found[-1] if found else None

    def save(self, state: Mapping[str, Any], step: int) -> None:
        """Write the state of a run after so many steps, and drop the oldest.

        Raises
        ------
        ResourceError
            The disk is full.
        OutputError
            The folder cannot be written.
        """
        path = self.folder / f"step-{step:09d}.pt"
        self._write(path, state, step)
        if self._writes:
            for old in self._numbered()[: -self._keep]:
                old.unlink()

    def save_best(self, state: Mapping[str, Any], step: int) -> None:
        """Write the state of a run as the best one; raises as `save` does."""
        self._write(self.best, state, step)

    def _numbered(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NUMBERED.match(path.name))

    def _write(self, path: Path, state: Mapping[str, Any], step: int) -> None:
        if not self._writes:
            return
        part = path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                torch.save({"format": FORMAT, **state}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, path)
            sync_folder(self.folder)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise self._failure(path, step, error) from error

    def _failure(self, path: Path, step: int, error: OSError | RuntimeError) -> StemwrightError:
        last = self.last()
        kept = f"the last checkpoint is {last}" if last else "there is no checkpoint yet"
        # torch's writer wraps what its stream raised.
        causes = [error, error.__cause__, error.__context__]
        number = next((cause.errno for cause in causes if isinstance(cause, OSError)), None)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return ResourceError(
                f"no space for the checkpoint of step {step} at {path}",
                f"free space, then resume the run; {kept}",
            )
        return OutputError(
            f"cannot write the checkpoint of step {step} at {path}: {error}", f"check the folder; {kept}"
        )


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, running no code that it may hold.

    Raises
    ------
    ModelFileError
        It is no checkpoint of a run, or of a later version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ModelFileError(
            f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}",
            "take another one of the run's folder",
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelFileError(f"{path} is no checkpoint of a run of this version", "give one that train wrote")
    return state


def architecture(family: str, config: Any, stems: tuple[str, ...]) -> dict[str, Any]:
    """Describe a network as plain data, so that checkpoints of another one are told."""
    return {"family": family, "config": dataclasses.asdict(config), "stems": list(stems)}


def check_architecture(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise ModelFileError, naming the first difference, if a checkpoint is of another network."""
    if found.get("family") != wanted["family"]:
        raise _other(path, f"of {found.get('family')}, not of {wanted['family']}")
    own = found.get("config", {})
    for name, value in wanted["config"].items():
        if name not in _USE_ONLY and _plain(own.get(name)) != _plain(value):
            raise _other(path, f"of a network with {name} = {own.get(name)!r}, not {value!r}")


_USE_ONLY = ("theta", "mirror", "tagger", "upright")  # settings that change no weight
_REMEDY = "take the configuration that it was trained with, or another checkpoint"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _other(path: Path, what: str) -> ModelFileError:
    return ModelFileError(f"the checkpoint {path} is {what}", _REMEDY)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
