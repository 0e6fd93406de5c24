"""The project's own environment, .venv, for scripts/example.py and scripts/test.py.

Standard library only, since nothing is installed when it runs. Each kind of set-up leaves a stamp, the hash
of what it was made from, so that the next call starts at once.
"""

from __future__ import annotations  # so that an older Python reaches the message that it is too old

import hashlib
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)
BUILD_PINS = "requirements/build.txt"
SERVING_PINS = "requirements/serve-cpu.txt"
DEVELOPMENT_PINS = "requirements/dev.txt"
# Published as source only, and built with what they name themselves.
SOURCE_ONLY = ("pesq",)


def say(text: str) -> None:
    """Tell the reader something, on stderr."""
    print(f"stemwright set-up: {text}", file=sys.stderr, flush=True)


def give_up(problem: str, remedy: str) -> None:
    """End with the problem and what the reader can do about it."""
    say(f"{problem}\n  {remedy}")
    raise SystemExit(1)


def program(name: str) -> str:
    """Path of a program of the environment."""
    folder, suffix = ("Scripts", ".exe") if sys.platform == "win32" else ("bin", "")
    return str(VENV / folder / (name + suffix))


def set_up_serving() -> None:
    """Make the environment that separates: ONNX Runtime's CPU build and OpenVINO, no torch."""
    if _is_current("development") or _is_current("serving"):
        return
    started = time.monotonic()
    _make_venv()
    say("installing what stemwright needs (about 260 MB to download the first time)")
    _pip("--only-binary=:all:", "--require-hashes", "-r", BUILD_PINS, "-r", SERVING_PINS)
    _pip("--no-deps", "--no-build-isolation", "--editable", ".")
    _stamp("serving", started)


def set_up_development() -> None:
    """Make the environment that tests: the above, torch, the reference implementation and the checkers."""
    if _is_current("development"):
        return
    started = time.monotonic()
    _make_venv()
    say("installing what the tests need, torch among it (minutes the first time)")
    _pip("--only-binary=:all:", "--require-hashes", "-r", BUILD_PINS)
    _pip("--prefer-binary", "-c", DEVELOPMENT_PINS, *SOURCE_ONLY)
    _pip("--prefer-binary", "--no-build-isolation", "-c", DEVELOPMENT_PINS, "--editable", ".[dev]")
    _stamp("development", started)


def run(*command: str) -> None:
    """Run a command in the project's folder; end with its exit code if it fails."""
    code = subprocess.run(command, cwd=ROOT).returncode
    if code:
        raise SystemExit(code)


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{ROOT} {platform.python_version()} {platform.machine()}".encode())
    for name in ("pyproject.toml", BUILD_PINS, SERVING_PINS, DEVELOPMENT_PINS):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _stamp_path(kind: str) -> Path:
    return VENV / f"stemwright-{kind}.stamp"


def _is_current(kind: str) -> bool:
    path = _stamp_path(kind)
    return path.exists() and path.read_text() == _fingerprint() and Path(program("python")).exists()


def _stamp(kind: str, started: float) -> None:
    _stamp_path(kind).write_text(_fingerprint())
    say(f"{VENV.name} is ready for {kind} after {time.monotonic() - started:.0f} s")


def _make_venv() -> None:
    if sys.version_info < OLDEST_PYTHON:
        give_up(
            f"this is Python {platform.python_version()}, too old",
            "Start the script with Python 3.11 or newer, for example: python3.11 " + sys.argv[0],
        )
    known = (_stamp_path("serving"), _stamp_path("development"))
    if Path(program("python")).exists() and any(path.exists() for path in known):
        return  # made from other pins: pip brings it up to date
    say(f"making {VENV}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if made.returncode:
        give_up(
            "Python could not make a virtual environment",
            "On Debian and Ubuntu install it first: apt-get install python3-venv",
        )


def _pip(*arguments: str) -> None:
    line = [program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.run(line, cwd=ROOT).returncode:
        give_up(
            "pip could not install what is needed (its own message stands above)",
            "Check the network or the package index that pip is set to, then start the script again.",
        )
