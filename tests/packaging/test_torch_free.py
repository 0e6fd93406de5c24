"""Separating leaves torch unimported, also where it is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import EXAMPLES
from tests.support.tiny_models import install_tiny_model

RUN_AND_TELL = """
import json, sys
from stemwright.service.cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))
"""
TRAINING_ONLY = {"torch", "torchaudio", "demucs", "onnxscript"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("separate", str(EXAMPLES / "excerpt.opus"), "-o", "out", "-m", "tiny", "--device", "cpu"),
        ("batch", str(EXAMPLES), "-o", "out", "-m", "tiny", "--device", "cpu"),
        ("models", "list"),
        ("doctor",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_command_imports_no_torch(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    install_tiny_model(tmp_path / "models")
    env = {**os.environ, "STEMWRIGHT_MODELS": str(tmp_path / "models"), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", RUN_AND_TELL, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    assert not TRAINING_ONLY & set(loaded)
