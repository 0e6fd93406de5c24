"""docs/cli.md is what `--help` says, and the options are in it that results record."""

import subprocess
import sys

from tests.support.paths import ROOT

SCRIPT = ROOT / "scripts" / "make_cli_reference.py"


def test_the_reference_is_up_to_date() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
