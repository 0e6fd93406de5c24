"""In CI a skip for want of something installable is a failure (tests/conftest.py)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import CI_VARIABLE
from tests.support.paths import ROOT

SKIPPING = """
import pytest

def test_program():
    pytest.skip("needs the program absent (Debian package absent)")

@pytest.mark.skipif(True, reason="needs a package")
def test_package():
    pass

def test_hardware():
    pytest.skip("this machine has no bfloat16")

@pytest.mark.xfail(reason="known")
def test_known():
    assert False
"""
SKIPPED_MODULE = "import pytest\npytest.importorskip('absent_module_of_the_test')\n"


def closing_line(folder: Path, ci: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "tests.conftest"]
    command += [
        "-p",
        "no:cacheprovider",
        "--continue-on-collection-errors",
        "--rootdir",
        str(folder),
        str(folder),
    ]
    environment = {**os.environ, CI_VARIABLE: ci, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    counts = re.findall(r"(\d+) (failed|skipped|xfailed|errors?)", run.stdout.splitlines()[-1])
    return " ".join(f"{word}={number}" for number, word in sorted(counts, key=lambda count: count[1]))


@pytest.mark.parametrize(
    ("ci", "counts"), [("1", "errors=2 failed=1 skipped=1 xfailed=1"), ("", "skipped=4 xfailed=1")]
)
def test_skip_fails_in_ci_unless_hardware_causes_it(tmp_path: Path, ci: str, counts: str) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    (tmp_path / "test_skipped.py").write_text(SKIPPED_MODULE)
    assert closing_line(tmp_path, ci) == counts
