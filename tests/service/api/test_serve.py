"""`stemwright serve` and `stemwright keys` as processes and in this one."""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stemwright.service.cli.main import run
from tests.service.api.site import WAV
from tests.support.paths import ROOT

_HEAVY = ("numpy", "scipy", "onnx", "onnxruntime", "openvino", "torch", "av", "soundfile", "soxr", "librosa")
_COMMAND = "from stemwright.service.cli.main import main; main()"


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Undo what a command in this process does to logging."""
    names = ("", "stemwright", "dbos", "uvicorn", "uvicorn.error")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for logger, level in before:
        logger.setLevel(level)


def _environment(data_dir: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEMWRIGHT_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT / ".dev"),
        "STEMWRIGHT_DATA_DIR": str(data_dir),
        "STEMWRIGHT_MIN_FREE_BYTES": "0",
        "STEMWRIGHT_GRACE_S": "3",
    }


@contextlib.contextmanager
def _serving(data_dir: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """Run `serve` in a process; yield it, its address and its log so far."""
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, "serve", "--port", "0", *arguments],
        env=_environment(data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "listening on" in line:
                yield process, json.loads(line)["message"].rpartition(" ")[2], lines
                break
        else:
            raise AssertionError("".join(lines))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_it_serves_until_sigterm_and_loads_nothing_heavy(data_dir: Path) -> None:
    with _serving(data_dir, "--no-worker") as (process, url, _):
        with httpx.Client(base_url=url) as client:
            assert client.get("/health/live").status_code == 200
            job = client.post("/v1/jobs", files={"file": ("song.wav", WAV)})
            assert job.status_code == 202
            assert client.get("/v1/models").status_code == 200
            assert client.get("/v1/labels?q=dog").status_code == 200
            assert client.get("/metrics").status_code == 200
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            assert not [name for name in _HEAVY if f"/{name}/" in maps or f"/{name}.libs/" in maps]
            with client.stream("GET", f"{job.headers['location']}/events") as events:
                lines = events.iter_lines()
                next(lines)
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                list(lines)
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - began < 3
        assert process.returncode == 0, err
        assert out == ""
        for line in err.splitlines():
            assert json.loads(line)["level"] != "error"
    with _serving(data_dir, "--no-worker") as (_, url, _):  # what was taken is still there
        assert httpx.get(url + job.headers["location"]).json()["status"] == "queued"


@pytest.mark.slow
def test_a_second_server_on_the_port_is_told_so(data_dir: Path) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-c", _COMMAND, "serve", "--no-worker", "--port", port],
            env=_environment(data_dir),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 2
    assert f"port {port} of 127.0.0.1 is taken" in ended.stderr
    assert "--port" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message", "remedy"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 is open to others, and there is no API key", "keys create"),
        (["--host", "203.0.113.7"], "cannot listen on 203.0.113.7", "--host"),
        (["--host", "no such host"], "no such host is no address", "127.0.0.1"),
        (["--config", "none.toml"], "there is no file of settings none.toml", "--config"),
    ],
)
def test_it_refuses_to_start(
    data_dir: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str, remedy: str
) -> None:
    assert run(["serve", "--no-worker", "--port", "0", *arguments]) == 2
    err = capfd.readouterr().err
    assert f"error: {message}" in err
    assert remedy in err.partition("hint: ")[2]


def test_a_database_that_is_away_is_an_error_of_one_line(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEMWRIGHT_DATABASE_URL", "postgresql://me:hunter2@127.0.0.1:9/none")
    assert run(["serve", "--no-worker", "--port", "0"]) == 1
    err = capfd.readouterr().err
    assert "the database does not answer" in err
    assert "hunter2" not in err


def test_the_settings_are_printed_with_secrets_masked(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEMWRIGHT_DATABASE_URL", "postgresql://me:hunter2@db/x")
    assert run(["serve", "--print-config", "--port", "99", "--no-ui", "-m", "speakers"]) == 0
    out = capfd.readouterr().out
    assert "hunter2" not in out
    shown = tomllib.loads(out)
    assert (shown["port"], shown["ui"], shown["default_model"]) == (99, False, "speakers")


def test_keys_are_created_listed_and_revoked(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "alice"]) == 0
    token, note = (stream.strip() for stream in capfd.readouterr())
    assert token.startswith("swk_") and "not shown again" in note
    assert run(["keys", "create", "bob", "--json"]) == 0
    bob = json.loads(capfd.readouterr().out)
    assert bob["name"] == "bob" and bob["key"].startswith("swk_")
    assert run(["keys", "revoke", "alice"]) == 0
    capfd.readouterr()
    assert run(["keys", "list", "--json"]) == 0
    out = capfd.readouterr().out
    listed = [json.loads(line) for line in out.splitlines()]
    assert [(key["name"], key["revoked"] is None) for key in listed] == [("alice", False), ("bob", True)]
    assert token not in out and bob["key"] not in out
    assert run(["keys", "list"]) == 0
    assert "revoked" in capfd.readouterr().out
    assert run(["keys", "revoke", "alice"]) == 2
    assert "there is no valid key 'alice'" in capfd.readouterr().err
    assert run(["keys", "create", ""]) == 2
