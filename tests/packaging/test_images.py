"""Dockerfile and docker-compose.yml, as far as they can be checked without an engine."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from stemwright.service.settings import load_settings
from tests.support import needs
from tests.support.dockerfile import chain, environment, health_command, last, stages, start_command
from tests.support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("api", "worker-cpu", "worker-gpu", "setup", "cpu", "gpu")


def test_dockerfile_passes_hadolint() -> None:
    hadolint = needs.program("hadolint")
    run = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_compose_file_fits_the_compose_specification() -> None:
    needs.module("check_jsonschema", "check-jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_all_images_stand_on_the_same_slim_base() -> None:
    for image in ("serve-cpu", "serve-gpu", "train"):
        names = [stage.name for stage in chain(image)]
        assert "serve" in names
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", chain(image)[0].parent)


def test_only_the_training_image_has_torch() -> None:
    for image in ("serve-cpu", "serve-gpu"):
        copied = [text for stage in chain(image) for text in stage.of("COPY")]
        assert copied == [f"--from=install-{image.removeprefix('serve-')} /opt/stemwright /opt/stemwright"]
    assert "train" in " ".join(stages()["install-train"].of("RUN"))


def test_cuda_libraries_come_once() -> None:
    """From NVIDIA's wheels (requirements/serve-gpu.txt), hence not from the base image as well."""
    assert not re.search(r"^FROM \S*(cuda|nvidia)", DOCKERFILE, re.MULTILINE)
    assert "nvidia-cudnn-cu12==" in (ROOT / "requirements/serve-gpu.txt").read_text()


def test_image_runs_unprivileged_and_checks_its_health() -> None:
    for image in ("serve-cpu", "serve-gpu"):
        assert last(image, "USER") == "10001:10001"
        assert start_command(image) == ["stemwright", "serve"]
        assert "/health/live" in health_command(image)[-1]
        volumes = set(json.loads(last(image, "VOLUME")))
        written = {"STEMWRIGHT_MODELS", "STEMWRIGHT_DATA_DIR", "XDG_CACHE_HOME"}
        assert {environment(image)[name] for name in written} == volumes


def test_build_context_holds_sources_only() -> None:
    """Everything is shut out, then named pieces let in: no weights, no audio, no environment."""
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in let_in)
    sources = {"core", "models", "eval", "training", "service"}
    assert let_in == sources | {"requirements", "pyproject.toml", "README.md", "LICENSE"}


@pytest.mark.parametrize("name", OURS)
def test_compose_services_build_their_image_and_stay_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["build"]["target"] in stages()
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        (set(), {"api", "setup", "postgres", "s3"}),
        ({"cpu"}, {"api", "setup", "postgres", "s3", "worker-cpu"}),
        ({"gpu", "metrics"}, {"api", "setup", "postgres", "s3", "worker-gpu", "prometheus"}),
    ],
)
def test_compose_profiles_start_what_they_should(profiles: set[str], expected: set[str]) -> None:
    started = {
        name
        for name, service in SERVICES.items()
        if not service.get("profiles") or profiles & set(service["profiles"])
    }
    assert started == expected


def test_compose_reserves_a_gpu_where_one_is_needed_and_nowhere_else() -> None:
    reserving = {name for name in SERVICES if "deploy" in SERVICES[name]}
    assert reserving == {"worker-gpu", "gpu"}
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["api", "worker-cpu", "worker-gpu", "setup"])
def test_compose_settings_are_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service itself reads them, with defaults in the place of the shell's variables."""
    for variable in [variable for variable in os.environ if variable.startswith("STEMWRIGHT_")]:
        monkeypatch.delenv(variable)
    image = SERVICES[name]["build"]["target"]
    for variable, value in {**environment(image), **SERVICES[name]["environment"]}.items():
        if variable.startswith("STEMWRIGHT_"):
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
    settings = load_settings()
    assert settings.database == "postgresql://stemwright:stemwright@postgres/stemwright"
    assert settings.storage_options["client_kwargs"]["endpoint_url"] == "http://s3:8333"
    assert settings.storage_options["secret"] == "stemwright"
    assert settings.listens_beyond_loopback
    assert str(settings.models_dir) == "/models"


def test_compose_set_up_script_is_shell() -> None:
    script = SERVICES["setup"]["command"][0].replace("$$", "$")
    run = subprocess.run(["sh", "-n", "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", COMPOSE["configs"])
def test_compose_configurations_are_well_formed(name: str) -> None:
    content = yaml.safe_load(COMPOSE["configs"][name]["content"])
    assert set(content) == {"s3": {"identities"}, "prometheus": {"global", "scrape_configs"}}[name]
