"""What a test needs beyond the Python packages: skipped with a reason where it is missing.

With STEMWRIGHT_CI set such a skip is a failure (tests/conftest.py): there everything is to be had. A reason
that begins with `HARDWARE` is exempt, since no set-up can mend it.
"""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CI_VARIABLE = "STEMWRIGHT_CI"
MODELS_VARIABLE = "STEMWRIGHT_TEST_MODELS"
HARDWARE = "this machine"


def in_ci() -> bool:
    """Tell whether skips for want of something installable count as failures."""
    return bool(os.environ.get(CI_VARIABLE))


def program(name: str, debian_package: str = "") -> str:
    """Path of a program, or a skip that names the Debian package that has it (none: the `dev` extra does)."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        source = (
            f"Debian package {debian_package}" if debian_package else "python3 scripts/test.py installs it"
        )
        pytest.skip(f"needs the program {name} ({source})")
    return found


def module(name: str, distribution: str) -> None:
    """Skip where a Python module of the `dev` extra is not installed."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs the package {distribution} (python3 scripts/test.py installs it)")


def package_index() -> None:
    """Skip where pip reaches no package index."""
    if not _index_answers():
        pytest.skip("needs a package index that pip reaches")


def real_models(name: str = "htdemucs") -> Path:
    """Return the folder of models that holds the real weights of `name`: $STEMWRIGHT_TEST_MODELS."""
    folder = Path(os.environ.get(MODELS_VARIABLE, ""))
    if not os.environ.get(MODELS_VARIABLE) or not (folder / name / "manifest.json").exists():
        pytest.skip(
            f"needs the weights of {name}: STEMWRIGHT_MODELS=DIR stemwright models pull {name}, "
            f"then {MODELS_VARIABLE}=DIR"
        )
    return folder


@functools.cache
def _index_answers() -> bool:
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    line += ["--timeout", "15", "--retries", "0", "annotated-types"]
    return subprocess.run(line, capture_output=True, timeout=60).returncode == 0
