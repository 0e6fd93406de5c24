"""What processes load, and how supervised workers live and end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stemwright.service.jobs.supervisor import Supervisor, settings_environment
from stemwright.service.settings import Settings, load_settings
from tests.service.jobs.service import Service
from tests.support.paths import ROOT
from tests.support.servers import Backend

WAITING = (sys.executable, "-c", "import sys; sys.stdin.read()")
DYING = (sys.executable, "-c", "raise SystemExit(3)")


def _loaded(code: str, **environment: str) -> set[str]:
    """Return the packages that are loaded after some code in a fresh process."""
    script = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_no_job_engine() -> None:
    for arguments in ([], ["worker"]):
        code = f"from stemwright.service.cli.main import run; run([*{arguments!r}, '--help'])"
        assert not _loaded(code) & {"dbos", "sqlalchemy", "fsspec", "onnxruntime", "torch", "numpy"}


def test_the_board_loads_no_ml(tmp_path: Path) -> None:
    code = (
        "from stemwright.service.jobs.board import JobBoard\n"
        "from stemwright.service.settings import load_settings\n"
        "JobBoard.open(load_settings()).close()"
    )
    loaded = _loaded(code, STEMWRIGHT_DATA_DIR=str(tmp_path))
    assert "dbos" in loaded
    assert not loaded & {"torch", "onnxruntime", "onnx", "openvino", "av", "scipy", "librosa"}


def test_a_worker_s_modules_load_no_torch() -> None:
    assert not _loaded("import stemwright.service.jobs.worker") & {"torch", "torchaudio"}


def test_settings_reach_a_worker_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        data_dir=tmp_path,
        database_url="postgresql://a:b@c/d",
        storage_url="s3://bucket/prefix",
        storage_options={"client_kwargs": {"endpoint_url": "http://x"}},
        queues=("a", "b"),
        queue_of_model={"m": "a"},
        cors_origins=("https://x",),
        max_audio_minutes_per_key=5.5,
        ui=False,
        webhook_secret="s",
    )
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_workers_that_die_are_started_again_and_end_with_the_supervisor(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, grace_s=0.0)
    with Supervisor(settings, queues=("a", "b"), command=WAITING) as supervisor:
        first = set(supervisor.pids)
        assert len(first) == 2
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        until = time.monotonic() + 10
        while len(supervisor.pids) < 2 or victim in supervisor.pids:
            assert time.monotonic() < until
            time.sleep(0.05)
        last = supervisor.pids
    assert all(not Path(f"/proc/{pid}").exists() for pid in last)


def test_workers_that_fail_at_their_start_are_not_started_all_the_time(tmp_path: Path) -> None:
    with Supervisor(Settings(data_dir=tmp_path), command=DYING) as supervisor:
        time.sleep(1.5)
        (child,) = supervisor._children
        assert child.pause_s in (1.0, 2.0)
    assert supervisor.pids == ()


@pytest.mark.slow
def test_a_worker_ends_when_its_supervisor_was_killed(tmp_path: Path) -> None:
    backend = Backend(name="sqlite+folder", settings={"default_model": "none", "models": tmp_path})
    with Service.open(tmp_path, backend) as service:
        process = subprocess.Popen(
            [sys.executable, "-m", "stemwright.service.cli", "worker", "--until-eof"],
            stdin=subprocess.PIPE,
            env={**os.environ, **settings_environment(service.settings)},
            cwd=ROOT,
        )
        service.until(lambda: service.do(service.board.workers()))
        process.send_signal(signal.SIGINT)  # of a terminal: the supervisor's business
        time.sleep(1.5)
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
        assert service.do(service.board.workers()) == ()
