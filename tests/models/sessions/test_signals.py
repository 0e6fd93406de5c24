"""A signal ends a process that has used OpenVINO as it ends any other: in its handler, not in a crash."""

import subprocess
import sys
from pathlib import Path

from tests.support.tiny_models import install_tiny_model

PROGRAM = """
import signal, sys
from pathlib import Path
from stemwright.models.registry.store import open_model
from stemwright.models.sessions.opening import SessionOptions, open_session

options = SessionOptions(cache_dir=Path(sys.argv[2]), device="openvino")
first, second = (open_session(open_model(Path(sys.argv[1])), options) for _ in range(2))
first.close()
del first
second.close()
del second
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
signal.raise_signal(signal.SIGINT)
"""


def test_sessions_closed_in_the_order_they_were_opened_leave_signals_alone(tmp_path: Path) -> None:
    model = install_tiny_model(tmp_path / "models")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model), str(tmp_path / "cache")], timeout=120, check=False
    )
    assert done.returncode == 7
