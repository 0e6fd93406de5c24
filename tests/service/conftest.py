"""Models in a store of the test's own, and the command run in this process or in a fresh one."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stemwright.service.cli.main import run
from tests.support.paths import ROOT
from tests.support.tiny_models import install_tiny_model

LOUD_GAINS = (3.0, 2.0, -1.0, -3.0)
FRESH = "from stemwright.service.cli.main import main; main()"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def shows_error(self, message: str, hint: str = "") -> bool:
        """Whether there is a line of cause with `message` and a line of remedy with `hint`."""
        lines = self.err.splitlines()
        causes = [line for line in lines if line.startswith("error: ") and message in line]
        hints = [line for line in lines if line.startswith("hint: ") and hint in line]
        return bool(causes and hints)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """A place with models and an empty folder to work in."""

    folder: Path
    models: Path
    capture: Callable[[], tuple[str, str]] = field(repr=False)

    def run(self, *arguments: str | Path) -> Ended:
        """Run the command in this process."""
        code = run([str(argument) for argument in arguments])
        out, err = self.capture()
        return Ended(code=code, out=out, err=err)

    def piped(self, *arguments: str | Path, stdin: bytes = b"") -> tuple[int, bytes, str]:
        """Run the command in this process with pipes; return code, standard output, standard error."""
        out = io.BytesIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr("sys.stdout", io.TextIOWrapper(out, write_through=True))
            code = run([str(argument) for argument in arguments])
            return code, out.getvalue(), self.capture()[1]

    def separate(self, *arguments: str | Path, model: str = "tiny") -> Ended:
        return self.run("separate", "-m", model, "--device", "cpu", *arguments)

    def batch(self, *arguments: str | Path, model: str = "tiny") -> Ended:
        return self.run("batch", "-m", model, "--device", "cpu", *arguments)

    def fresh(self, *arguments: str | Path, **settings: Any) -> "subprocess.CompletedProcess[bytes]":
        """Run the command in a fresh process."""
        return subprocess.run(
            self.fresh_command(*arguments), capture_output=True, cwd=self.folder, timeout=60, **settings
        )

    def fresh_command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-c", FRESH, *map(str, arguments)]

    def files(self, folder: str | Path = ".") -> set[str]:
        """Return all files below a folder, hidden ones too."""
        root = self.folder / folder
        return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Workshop:
    models = tmp_path / "models"
    install_tiny_model(models)
    install_tiny_model(models, "loud", gains=LOUD_GAINS)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(models))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [str(ROOT / ".dev"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))

    def capture() -> tuple[str, str]:
        captured = capfd.readouterr()
        return captured.out, captured.err

    return Workshop(folder=folder, models=models, capture=capture)
