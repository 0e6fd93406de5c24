"""requirements/ covers pyproject.toml, completely, with hashes, and with one ONNX Runtime at most."""

import re
import tomllib
from dataclasses import dataclass

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.paths import ROOT

CPU_RUNTIME = "onnxruntime"
GPU_RUNTIME = "onnxruntime-gpu"
EXTRAS_OF = {
    "serve-cpu.txt": ("cpu", "openvino"),
    "serve-cpu-lyrics.txt": ("cpu", "openvino", "lyrics"),
    "serve-gpu.txt": ("gpu",),
    "serve-gpu-lyrics.txt": ("gpu", "lyrics"),
    "dev.txt": ("dev", "cpu", "openvino"),
}
HASHED = (*(name for name in EXTRAS_OF if name.startswith("serve-")), "build.txt")


@dataclass(frozen=True, kw_only=True)
class Pin:
    version: Version
    hashes: int


def project() -> dict[str, list[str]]:
    """Map each extra to its requirements, "" to those of the base."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def pins(name: str) -> dict[str, Pin]:
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    entries = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)(.*)$", text, re.MULTILINE)
    return {
        canonicalize_name(package): Pin(version=Version(version), hashes=rest.count("--hash=sha256:"))
        for package, version, rest in entries
    }


@pytest.mark.parametrize("name", EXTRAS_OF)
def test_every_dependency_of_the_project_is_pinned_to_a_release_it_allows(name: str) -> None:
    pinned = pins(name)
    for line in (line for extra in ("", *EXTRAS_OF[name]) for line in project()[extra]):
        requirement = Requirement(line)
        if requirement.name != "stemwright":
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)].version), line


@pytest.mark.parametrize("name", HASHED)
def test_every_line_is_a_pin_with_hashes(name: str) -> None:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    starts = [line for line in lines if line and line[0] not in "# "]
    assert len(starts) == len(pins(name)) > 5
    assert all(pin.hashes for pin in pins(name).values())


@pytest.mark.parametrize("name", [*EXTRAS_OF, "build.txt"])
def test_no_file_names_a_host(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize("name", EXTRAS_OF)
def test_exactly_one_onnx_runtime(name: str) -> None:
    expected = {GPU_RUNTIME} if "gpu" in name else {CPU_RUNTIME}
    assert {CPU_RUNTIME, GPU_RUNTIME} & pins(name).keys() == expected


def test_base_install_brings_no_onnx_runtime() -> None:
    names = {Requirement(line).name for line in project()[""]}
    assert not names & {CPU_RUNTIME, GPU_RUNTIME, "torch", "openvino", "faster-whisper"}


@pytest.mark.parametrize("name", [name for name in EXTRAS_OF if name.startswith("serve-")])
def test_serving_installs_pin_no_torch(name: str) -> None:
    assert not {"torch", "torchaudio", "demucs"} & pins(name).keys()


@pytest.mark.parametrize("name", ["serve-gpu.txt", "serve-gpu-lyrics.txt"])
def test_gpu_installs_hold_to_cuda_12(name: str) -> None:
    """1.27 is the first release for CUDA 13; CTranslate2 loads libcublas.so.12 (test_gpu_install.py)."""
    pinned = pins(name)
    assert pinned[GPU_RUNTIME].version < Version("1.27")
    nvidia = {package for package in pinned if package.startswith("nvidia-")}
    assert {"nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cuda-runtime-cu12"} <= nvidia
    assert all(package.endswith("-cu12") for package in nvidia)


def test_all_files_agree_on_common_packages() -> None:
    seen: dict[str, Version] = {}
    for name in EXTRAS_OF:
        for package, pin in pins(name).items():
            assert seen.setdefault(package, pin.version) == pin.version, (name, package)
