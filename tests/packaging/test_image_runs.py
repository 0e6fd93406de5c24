"""What the CPU image does when it is built and started, done in an environment of the test's own.

Not covered, since no engine is at hand: the layers, the user, the volumes and the network of a container.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemwright.service.client import Client
from tests.packaging.test_serving_install import READY_MADE
from tests.service.recordings import recording
from tests.support import needs
from tests.support.dockerfile import environment, health_command, moved, stages, start_command
from tests.support.environments import build_wheel, make_environment, pins
from tests.support.paths import ROOT
from tests.support.servers import free_port
from tests.support.tiny_models import STEMS, install_tiny_model

IMAGE = "serve-cpu"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment that the image's pins make."""
    if READY_MADE in os.environ:
        return Path(os.environ[READY_MADE])
    needs.package_index()
    folder = tmp_path_factory.mktemp("image")
    wheel = build_wheel(folder)
    return make_environment(folder / "venv", pins("serve-cpu.txt"), ("--no-deps", wheel)).folder


def start_and_use(venv: Path, folder: Path) -> None:
    """Start the image's command with its variables and use the service; then end it as an engine does."""
    places = {
        "/opt/stemwright": str(venv),
        **{f"/{name}": str(folder / name) for name in ("models", "cache", "data")},
    }
    (folder / "tmp").mkdir()
    install_tiny_model(folder / "models")
    port = free_port()
    variables = {name: moved(value, places) for name, value in environment(IMAGE).items()}
    variables |= {
        "PATH": f"{venv / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder / "tmp"),
        "STEMWRIGHT_PORT": str(port),
        "STEMWRIGHT_DEFAULT_MODEL": "tiny",
        "STEMWRIGHT_DEVICE": "cpu",
    }
    place = folder / "tmp"

    def command(*words: str) -> list[str]:
        return [str(venv / "bin" / words[0]), *words[1:]]

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*words), env=variables, cwd=place, capture_output=True, text=True)

    refused = call(*start_command(IMAGE))
    assert refused.returncode == 2
    assert "there is no API key" in refused.stderr
    key = call("stemwright", "keys", "create", "me").stdout.strip()
    assert key
    assert call(*health_command(IMAGE)).returncode != 0
    with running(command(*start_command(IMAGE)), variables, folder) as process:
        until = time.monotonic() + 60
        while call(*health_command(IMAGE)).returncode:
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.3)
        with Client(f"http://127.0.0.1:{port}", key=key) as client:
            job = client.wait(client.submit(recording(folder / "song.wav"), model="tiny").id)
            assert job.status == "succeeded", job.error
            assert {path.stem for path in client.download(job, folder / "out")} == set(STEMS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (folder / "log").read_text()
    assert not [path for path in place.iterdir() if path.name != ".cache"]


@contextlib.contextmanager
def running(command: list[str], variables: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=variables, cwd=folder / "tmp", stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


@pytest.mark.slow
def test_image_starts_is_healthy_works_and_ends(installed: Path, tmp_path: Path) -> None:
    start_and_use(installed, tmp_path)


@pytest.mark.long
def test_steps_of_the_image_install_what_it_starts(tmp_path: Path) -> None:
    """The very RUN lines of the build, in other folders."""
    needs.package_index()
    places = {
        name: str(tmp_path / name.strip("/").replace("/", "-"))
        for name in ("/opt/build", "/opt/stemwright", "/wheels")
    }
    for stage in ("build", f"install-{IMAGE.removeprefix('serve-')}"):
        for line in stages()[stage].of("RUN"):
            done = subprocess.run(
                ["sh", "-eu", "-c", moved(line, places)], cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-3000:]
    (tmp_path / "run").mkdir()
    start_and_use(Path(places["/opt/stemwright"]), tmp_path / "run")
