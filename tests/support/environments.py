"""Fresh virtual environments with stemwright installed from a wheel, as a reader of the manual makes them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment and what can be asked of it."""

    folder: Path

    def run(
        self, program: str, *arguments: str | Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the checkout and without its import path."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(self.folder / "bin" / program), *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.folder, env={**inherited, **(env or {})}, capture_output=True, text=True
        )

    def check(self, program: str, *arguments: str | Path, env: Mapping[str, str] | None = None) -> str:
        """Run a program that must succeed; return what it printed."""
        done = self.run(program, *arguments, env=env)
        assert done.returncode == 0, f"{program} {arguments}: {done.stderr[-3000:]}"
        return done.stdout

    def ask(self, expression: str) -> object:
        """Evaluate a Python expression there; modules it uses are imported by `__import__`."""
        return json.loads(self.check("python", "-c", f"import json; print(json.dumps({expression}))"))

    def distributions(self) -> dict[str, str]:
        """Map the names of all installed distributions to their versions."""
        listed = json.loads(self.check("python", "-m", "pip", "list", "--format", "json"))
        return {entry["name"].lower(): entry["version"] for entry in listed}

    def providers(self) -> list[str]:
        """ONNX Runtime's list of the providers it was built with."""
        found = self.ask("__import__('onnxruntime').get_available_providers()")
        assert isinstance(found, list)
        return found

    def site_packages(self) -> Path:
        """Folder that the installed packages stand in."""
        return Path(str(self.ask("__import__('sysconfig').get_path('purelib')")))


def make_environment(folder: Path, *installs: Sequence[str | Path]) -> Environment:
    """Make a fresh environment and run `pip install` once for each group of arguments."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    environment = Environment(folder=folder)
    for arguments in installs:
        environment.check("python", "-m", "pip", "install", "--only-binary=:all:", *arguments)
    return environment


def build_wheel(folder: Path) -> Path:
    """Build stemwright's wheel into `folder`."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = folder.glob("stemwright-*.whl")
    return wheel


def pins(name: str) -> tuple[str, ...]:
    """Arguments that install a hashed file of requirements/."""
    return ("--require-hashes", "-r", str(ROOT / "requirements" / name))
