"""Every documented install ends with one ONNX Runtime, the right one. Downloads gigabytes: by hand.

.venv/bin/pytest -m long tests/packaging/test_runtimes.py
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import needs
from tests.support.environments import Environment, build_wheel, make_environment, pins
from tests.support.tiny_models import install_tiny_model

LOAD_BOTH_AND_TELL = """
import ctypes, json, pathlib, re
import onnxruntime
onnxruntime.preload_dlls(directory="")
import ctranslate2
ctypes.CDLL("libcublas.so.12")  # what CTranslate2 does at its first use of a GPU
maps = pathlib.Path("/proc/self/maps").read_text()
print(json.dumps(sorted(set(re.findall(r"\\S*/libcublas\\.so\\.\\d+", maps)))))
"""

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.package_index()
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def installs(wheel: Path, kind: str) -> Sequence[Sequence[str | Path]]:
    """Arguments of the `pip install` lines that docs/installation.md gives for `kind`."""
    project = ("--no-deps", wheel)
    return {
        "cpu": ((f"{wheel}[cpu]",),),
        "cpu-openvino": ((f"{wheel}[cpu,openvino]",),),
        "cpu-lyrics": ((f"{wheel}[cpu,lyrics]",),),
        "gpu": ((f"{wheel}[gpu]",),),
        "gpu-pinned": (pins("serve-gpu.txt"), project),
        "gpu-lyrics-pinned": (("--no-deps", *pins("serve-gpu-lyrics.txt")), project),
    }[kind]


def cuda_libraries(path: Path) -> set[str]:
    """Names of the CUDA libraries that a shared object links (DT_NEEDED) or loads by name."""
    return {
        name.decode() for name in re.findall(rb"lib(?:cublas|cudart|cublasLt)\.so\.\d+", path.read_bytes())
    }


def assert_separates(environment: Environment, folder: Path) -> None:
    install_tiny_model(folder / "models")
    env = {"STEMWRIGHT_MODELS": str(folder / "models"), "XDG_CACHE_HOME": str(folder / "cache")}
    recording = folder / "tone.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (44100, 2))
    soundfile.write(recording, noise, 44100)
    arguments = ("separate", recording, "-o", folder / "out", "-m", "tiny", "--device", "cpu")
    environment.check("stemwright", *arguments, env=env)


@pytest.mark.parametrize("kind", ["cpu", "cpu-openvino", "cpu-lyrics"])
def test_cpu_installs_end_with_the_cpu_build(wheel: Path, tmp_path: Path, kind: str) -> None:
    environment = make_environment(tmp_path / "venv", *installs(wheel, kind))
    installed = environment.distributions()
    assert "onnxruntime" in installed
    assert "onnxruntime-gpu" not in installed
    assert "CUDAExecutionProvider" not in environment.providers()
    environment.check("python", "-m", "pip", "check")
    assert_separates(environment, tmp_path)


@pytest.mark.parametrize("kind", ["gpu", "gpu-pinned", "gpu-lyrics-pinned"])
def test_gpu_installs_end_with_the_gpu_build_for_cuda_12(wheel: Path, tmp_path: Path, kind: str) -> None:
    environment = make_environment(tmp_path / "venv", *installs(wheel, kind))
    installed = environment.distributions()
    assert "onnxruntime-gpu" in installed
    assert "onnxruntime" not in installed
    assert "CUDAExecutionProvider" in environment.providers()
    packages = environment.site_packages()
    provider = packages / "onnxruntime/capi/libonnxruntime_providers_cuda.so"
    assert cuda_libraries(provider) == {"libcublas.so.12", "libcublasLt.so.12", "libcudart.so.12"}
    assert {path.name for path in packages.rglob("libcublas.so.*")} == {"libcublas.so.12"}
    if "lyrics" in kind:
        (recogniser,) = packages.glob("ctranslate2.libs/libctranslate2-*.so*")
        assert cuda_libraries(recogniser) == {"libcublas.so.12"}
        assert environment.ask("__import__('faster_whisper').__version__")
        (loaded,) = json.loads(environment.check("python", "-c", LOAD_BOTH_AND_TELL).splitlines()[-1])
        assert Path(loaded).is_relative_to(packages)
    assert_separates(environment, tmp_path)


def test_extra_lyrics_beside_gpu_is_the_mix_that_doctor_reports(wheel: Path, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "venv", (f"{wheel}[gpu,lyrics]",))
    assert {"onnxruntime", "onnxruntime-gpu"} <= environment.distributions().keys()
    report = environment.run("stemwright", "doctor", env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert "onnxruntime-gpu" in report.stdout + report.stderr
    assert report.returncode != 0
