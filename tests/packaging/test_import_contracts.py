"""The import contracts of pyproject.toml catch what they are there to catch.

A copy of the package under another name gets one forbidden import at a time. (The clean tree is checked by
scripts/check.py.)
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.paths import ROOT

PARTS = ("core", "models", "eval", "training", "service")
COPY = "stemwright_copy"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("contracts")
    for part in PARTS:
        shutil.copytree(ROOT / part, root / COPY / part, ignore=shutil.ignore_patterns("__pycache__"))
    (root / COPY / "models" / "invented").mkdir()
    for name in ("__init__.py", "network.py", "export.py"):
        (root / COPY / "models" / "invented" / name).write_text("")
    for path in root.rglob("*.py"):
        path.write_text(path.read_text().replace("stemwright", COPY))
    (root / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text().replace("stemwright", COPY))
    return root


@pytest.fixture
def inject(copy: Path) -> Iterator[list[tuple[Path, str]]]:
    changed: list[tuple[Path, str]] = []
    yield changed
    for path, text in changed:
        path.write_text(text)


def broken_contracts(root: Path) -> set[str]:
    command = [needs.program("lint-imports"), "--no-cache"]
    run = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert "Contracts:" in run.stdout, run.stdout + run.stderr
    return set(re.findall(r"^(.+) BROKEN", run.stdout, re.MULTILINE))


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/errors.py", "import stemwright_copy.models.manifest", "layers"),
        ("models/manifest.py", "import stemwright_copy.service.cli", "layers"),
        ("models/manifest.py", "import torch", "torch is for networks, their export and training"),
        (
            "core/errors.py",
            "def late():\n    import torchaudio",
            "torch is for networks, their export and training",
        ),
        ("service/__init__.py", "import stemwright_copy.training", "layers"),
        (
            "models/manifest.py",
            "import stemwright_copy.models.invented.network",
            "serving never reaches a network or an export",
        ),
        (
            "models/manifest.py",
            "import fastapi",
            "the web framework and the command line's parser stay in the service",
        ),
    ],
)
def test_forbidden_import_breaks_its_contract(
    copy: Path, inject: list[tuple[Path, str]], module: str, line: str, contract: str
) -> None:
    path = copy / COPY / module
    inject.append((path, path.read_text()))
    path.write_text(f"{path.read_text()}\n{line}\n")
    assert contract in broken_contracts(copy)


def test_networks_and_exports_may_import_torch(copy: Path, inject: list[tuple[Path, str]]) -> None:
    for name in ("network.py", "export.py"):
        path = copy / COPY / "models" / "invented" / name
        inject.append((path, ""))
        path.write_text("import torch\n")
    assert broken_contracts(copy) == set()
