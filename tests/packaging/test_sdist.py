"""The wheel that the source distribution builds is the wheel that the checkout builds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def build(kind: str, source: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = target.glob("stemwright-*")
    return made


def test_wheel_of_sdist_equals_wheel_of_checkout(tmp_path: Path) -> None:
    needs.module("hatchling", "hatchling")
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(tmp_path)], check=True)
    (unpacked,) = tmp_path.glob("stemwright-*")
    names = [
        zipfile.ZipFile(build("wheel", source, tmp_path / place)).namelist()
        for source, place in ((ROOT, "from-checkout"), (unpacked, "from-sdist"))
    ]
    assert sorted(names[0]) == sorted(names[1])
    assert "stemwright/service/cli/main.py" in names[0]
