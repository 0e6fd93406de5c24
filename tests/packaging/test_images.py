"""Dockerfile and docker-compose.yml, as far as they can be checked without an engine."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.support import needs
from tests.support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def stages() -> dict[str, str]:
    """Map the name of each stage to the name of what it stands on."""
    found = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    return {name: parent for parent, name in found}


def test_dockerfile_passes_hadolint() -> None:
    hadolint = needs.program("hadolint")
    run = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_compose_file_fits_the_compose_specification() -> None:
    needs.module("check_jsonschema", "check-jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_both_images_stand_on_the_same_slim_base() -> None:
    parents = stages()
    for image in ("serve-cpu", "serve-gpu"):
        chain = [image]
        while chain[-1] in parents:
            chain.append(parents[chain[-1]])
        assert "serve" in chain
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", chain[-1])


def test_cuda_libraries_come_once() -> None:
    """From NVIDIA's wheels (requirements/serve-gpu.txt), hence not from the base image as well."""
    assert not re.search(r"^FROM \S*(cuda|nvidia)", DOCKERFILE, re.MULTILINE)
    assert "nvidia-cudnn-cu12==" in (ROOT / "requirements/serve-gpu.txt").read_text()


def test_image_runs_unprivileged_and_checks_its_health() -> None:
    serve = DOCKERFILE.split("AS serve\n")[1].split("\nFROM ")[0]
    assert re.search(r"^USER 10001:10001$", serve, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", serve, re.MULTILINE)
    assert 'VOLUME ["/models", "/cache"]' in serve


def test_build_context_holds_sources_only() -> None:
    """Everything is shut out, then named pieces let in: no weights, no audio, no environment."""
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in let_in)
    sources = {"core", "models", "eval", "training", "service"}
    assert let_in == sources | {"requirements", "pyproject.toml", "README.md", "LICENSE"}


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_compose_services_build_their_image_and_stay_read_only(profile: str) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][profile]
    assert service["profiles"] == [profile]
    assert service["build"]["target"] in stages()
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_compose_reserves_a_gpu() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gpu"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
