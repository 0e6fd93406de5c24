"""The documented CPU install, in an environment of its own: complete, of one runtime, without torch."""

import json
import os
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.environments import Environment, build_wheel, make_environment, pins
from tests.support.paths import EXAMPLES, ROOT
from tests.support.tiny_models import STEMS, install_tiny_model

pytestmark = pytest.mark.slow

READY_MADE = "STEMWRIGHT_TEST_SERVING"
"""Names an environment that was already made with the same two commands (.ci/run does)."""

SEPARATE_AND_TELL = """
import json, sys
from stemwright.service.cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    if READY_MADE in os.environ:
        return Environment(folder=Path(os.environ[READY_MADE]))
    needs.package_index()
    folder = tmp_path_factory.mktemp("serving")
    wheel = build_wheel(folder)
    return make_environment(folder / "venv", pins("serve-cpu.txt"), ("--no-deps", wheel))


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    install_tiny_model(tmp_path / "models")
    return {"STEMWRIGHT_MODELS": str(tmp_path / "models"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_cpu_build_of_onnx_runtime_alone(serving: Environment) -> None:
    installed = serving.distributions()
    assert "onnxruntime" in installed
    assert "onnxruntime-gpu" not in installed
    assert "CPUExecutionProvider" in serving.providers()
    assert "CUDAExecutionProvider" not in serving.providers()


def test_no_torch(serving: Environment) -> None:
    assert not {"torch", "torchaudio", "demucs"} & serving.distributions().keys()
    assert serving.ask("__import__('importlib.util').util.find_spec('torch') is None") is True


def test_dependencies_are_complete_and_agree(serving: Environment) -> None:
    serving.check("python", "-m", "pip", "check")


def test_wheel_holds_the_sources_and_nothing_else(serving: Environment) -> None:
    installed = serving.site_packages() / "stemwright"
    found = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}
    expected = {
        path.relative_to(ROOT)
        for part in ("core", "models", "eval", "training", "service")
        for path in (ROOT / part).rglob("*")
        if path.is_file()
    }
    assert {p for p in found if "__pycache__" not in p.parts} == {
        p for p in expected if "__pycache__" not in p.parts
    }


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("models", "list"), ("doctor",)])
def test_commands_run(serving: Environment, models: dict[str, str], arguments: tuple[str, ...]) -> None:
    assert serving.check("stemwright", *arguments, env=models)


def test_separates_without_torch(serving: Environment, models: dict[str, str], tmp_path: Path) -> None:
    arguments = (
        "separate",
        EXAMPLES / "excerpt.opus",
        "-o",
        tmp_path / "out",
        "-m",
        "tiny",
        "--device",
        "cpu",
    )
    printed = serving.check("python", "-c", SEPARATE_AND_TELL, *arguments, env=models)
    code, loaded = json.loads(printed.splitlines()[-1])
    assert code == 0
    assert not {"torch", "torchaudio", "demucs"} & set(loaded)
    assert {"numpy", "onnxruntime", "stemwright"} <= set(loaded)
    assert {path.stem for path in (tmp_path / "out" / "excerpt").glob("*.wav")} == set(STEMS)
