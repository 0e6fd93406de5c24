"""`stemwright serve` as it is run, with a tiny model, on SQLite with a folder and on PostgreSQL with S3."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stemwright.service.client import Client
from stemwright.service.jobs.supervisor import settings_environment
from stemwright.service.settings import Settings
from stemwright.service.storage import Storage
from tests.service.conftest import FRESH
from tests.service.jobs.conftest import backend, postgres, s3
from tests.support.paths import ROOT
from tests.support.servers import Backend, free_port
from tests.support.tiny_models import install_tiny_model

__all__ = ["backend", "postgres", "s3"]

WEBHOOK_SECRET = "whsec_c2VjcmV0"


@dataclass(kw_only=True)
class Live:
    """A service that can be killed and started again on the same port."""

    settings: Settings
    folder: Path
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def start(self) -> None:
        variables = {
            **os.environ,
            **settings_environment(self.settings),
            "PYTHONPATH": str(ROOT / ".dev"),
        }
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", FRESH, "serve"],
                env=variables,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.until(self._answers, 60)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(f"{self.url}/health/live", timeout=2):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """Kill API, supervisor, worker and all, as a power cut does."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.kill()

    def client(self, **settings: Any) -> Client:
        return Client(self.url, **settings)

    def until(self, ask: Any, timeout_s: float = 60.0) -> Any:
        until = time.monotonic() + timeout_s
        while not (found := ask()):
            assert time.monotonic() < until, f"not in {timeout_s:g} s\n{self.log()}"
            time.sleep(0.1)
        return found

    def log(self) -> str:
        return (self.folder / "serve.log").read_text()[-6000:]

    def stored(self, prefix: str) -> list[str]:
        """Return the folders of the storage below a prefix."""
        return list(Storage.from_settings(self.settings).folders(prefix))


@pytest.fixture
def live(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A service on either back end."""
    with serving(tmp_path, monkeypatch, backend.settings) as service:
        yield service


@pytest.fixture
def simple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A service on SQLite and a folder, for what does not depend on the back end."""
    with serving(tmp_path, monkeypatch, {}) as service:
        yield service


@contextlib.contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch, backend: dict[str, Any]) -> Iterator[Live]:
    for name in [name for name in os.environ if name.startswith("STEMWRIGHT_")]:
        monkeypatch.delenv(name)
    install_tiny_model(folder / "models")
    values: dict[str, Any] = {
        "data_dir": folder / "data",
        "models": folder / "models",
        "default_model": "tiny",
        "device": "cpu",
        "port": free_port(),
        "poll_s": 0.1,
        "heartbeat_s": 0.5,
        "dead_after_s": 3.0,
        "grace_s": 5.0,
        "webhook_secret": WEBHOOK_SECRET,
        "webhook_http": True,
        "webhook_networks": ("127.0.0.1/32",),
        **backend,
    }
    service = Live(settings=Settings(**values), folder=folder)
    service.start()
    try:
        yield service
    finally:
        service.stop()
