"""The set-up scripts: nothing but the standard library, quick the second time, clear when they cannot."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import av
import pytest

from tests.support.paths import EXAMPLES, ROOT

SCRIPTS = ("environment.py", "example.py", "test.py", "check.py", "lock.py")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module scripts/environment.py, set on a project of its own in `tmp_path`."""
    spec = importlib.util.spec_from_file_location("environment_under_test", ROOT / "scripts/environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "requirements").mkdir()
    for name in ("pyproject.toml", *(f"requirements/{lock}.txt" for lock in ("build", "serve-cpu", "dev"))):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    return module


@pytest.fixture
def installs(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What pip was asked for; nothing is really made."""
    asked: list[tuple[str, ...]] = []

    def make_venv() -> None:
        python = Path(environment.program("python"))
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()

    monkeypatch.setattr(environment, "_make_venv", make_venv)
    monkeypatch.setattr(environment, "_pip", lambda *arguments: asked.append(arguments))
    return asked


@pytest.mark.parametrize("name", SCRIPTS)
def test_imports_the_standard_library_alone(name: str) -> None:
    tree = ast.parse((ROOT / "scripts" / name).read_text())
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names | {"environment"}


def test_second_set_up_installs_nothing(environment: ModuleType, installs: list[tuple[str, ...]]) -> None:
    environment.set_up_serving()
    first = len(installs)
    environment.set_up_serving()
    assert len(installs) == first > 0


def test_development_environment_serves_too(environment: ModuleType, installs: list[tuple[str, ...]]) -> None:
    environment.set_up_development()
    first = len(installs)
    environment.set_up_serving()
    environment.set_up_development()
    assert len(installs) == first > 0


def test_changed_pins_are_installed(environment: ModuleType, installs: list[tuple[str, ...]]) -> None:
    environment.set_up_serving()
    first = len(installs)
    (environment.ROOT / environment.SERVING_PINS).write_text("other")
    environment.set_up_serving()
    assert len(installs) == 2 * first


def test_lost_environment_is_made_again(environment: ModuleType, installs: list[tuple[str, ...]]) -> None:
    environment.set_up_serving()
    first = len(installs)
    Path(environment.program("python")).unlink()
    environment.set_up_serving()
    assert len(installs) == 2 * first


def test_serving_set_up_takes_hashed_wheels_only(
    environment: ModuleType, installs: list[tuple[str, ...]]
) -> None:
    environment.set_up_serving()
    assert {"--require-hashes", "--only-binary=:all:", environment.SERVING_PINS} <= set(installs[0])
    assert installs[-1] == ("--no-deps", "--no-build-isolation", "--editable", ".")


def test_old_python_is_told_what_to_do(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit) as stopped:
        environment.set_up_serving()
    assert stopped.value.code == 1
    assert "3.11 or newer" in capsys.readouterr().err
    assert not environment.VENV.exists()


def test_failed_install_is_not_taken_for_done(
    environment: ModuleType, installs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: str) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(environment, "_pip", fail)
    with pytest.raises(SystemExit):
        environment.set_up_serving()
    monkeypatch.setattr(environment, "_pip", lambda *arguments: installs.append(arguments))
    environment.set_up_serving()
    assert installs


def test_excerpt_is_what_its_note_says() -> None:
    path = EXAMPLES / "excerpt.opus"
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name in {"opus", "libopus"}
        assert stream.codec_context.channels == 2
        assert sum(frame.samples for frame in container.decode(audio=0)) == 15 * 48000
    assert path.stat().st_size < 500_000
    assert re.search(r"excerpt\.opus.*15\.000 s.*CC0", (EXAMPLES / "README.md").read_text())
