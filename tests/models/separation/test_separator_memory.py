"""The peak of memory does not depend on the duration."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def measure(minutes: float) -> dict[str, float]:
    """Separate a generated recording in a fresh process; its frames and peak memory."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / ".dev"), str(ROOT)])}
    command = [sys.executable, "-m", "tests.models.separation.measure_memory", str(minutes)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def test_an_hour_needs_the_memory_of_five_minutes() -> None:
    short, long = measure(5), measure(60)
    assert short["frames"] == 5 * 60 * 44_100
    assert long["frames"] == 60 * 60 * 44_100
    assert long["peak_mib"] <= 1.1 * short["peak_mib"]
