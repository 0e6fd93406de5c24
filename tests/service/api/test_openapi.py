"""The API's description: whole, true, and every error in it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stemwright.core import errors as core_errors
from stemwright.core.errors import StemwrightError
from stemwright.service import errors as service_errors
from stemwright.service.api.kinds import KINDS
from stemwright.service.api.problems import documented
from stemwright.service.api.routes.separate import _STATUS_OF
from tests.service.api.site import Site


@pytest.fixture(scope="module")
def document(site: Site) -> dict[str, Any]:
    answer = httpx.get(f"{site.url}/openapi.json")
    document: dict[str, Any] = answer.json()
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def test_it_is_openapi_3_1_and_has_every_route(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/cancel",
        "/v1/jobs/{job_id}/retry",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/stems/{name}",
        "/v1/jobs/{job_id}/archive.zip",
        "/v1/jobs/{job_id}/peaks/{name}",
        "/v1/jobs/{job_id}/preview/{name}",
        "/v1/jobs/{job_id}/preview/{name}/{segment}",
        "/v1/uploads",
        "/v1/uploads/{upload_id}",
        "/v1/separate",
        "/v1/detect",
        "/v1/models",
        "/v1/labels",
        "/v1/session",
        "/health/live",
        "/health/ready",
        "/metrics",
    }


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    for reference in walk(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_every_error_is_a_problem_with_an_example(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        where = f"{method} {path}"
        assert {"400", "401", "500"} <= set(operation["responses"]), where
        for status, described in operation["responses"].items():
            if not status.startswith(("4", "5")):
                continue
            (kind,) = described["content"]
            assert kind == "application/problem+json", f"{where} {status}"
            content = described["content"][kind]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for code, example in content["examples"].items():
                assert example["value"]["code"] == code
                assert example["value"]["status"] == int(status)


def test_every_answer_is_described_with_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for path, method, operation in _operations(document):
        assert operation["summary"] and operation["description"], path
        good = [status for status in operation["responses"] if status.startswith("2")]
        assert good, f"{method} {path}"
        for status in good:
            for kind, content in operation["responses"][status].get("content", {}).items():
                schema = content["schema"]
                assert schema, f"{method} {path} {kind}"
                if "$ref" in schema:
                    assert _exemplified(schema["$ref"].rpartition("/")[2], schemas), schema


def _exemplified(name: str, schemas: dict[str, Any]) -> bool:
    """Whether a schema has an example, or is a list of what has one."""
    return "examples" in schemas[name] or name in ("ModelList", "LabelList", "Page", "JobView")


def test_every_kind_of_problem_can_be_described() -> None:
    for code, kind in KINDS.items():
        (status,) = documented(code)
        assert status == kind.status
        assert kind.detail and kind.remedy


def test_every_error_of_ours_has_one_status() -> None:
    for module in (core_errors, service_errors):
        for error in vars(module).values():
            if isinstance(error, type) and issubclass(error, StemwrightError):
                assert 400 <= error.http_status < 600
                if error.code in KINDS:  # the same word for the same thing
                    assert KINDS[error.code].status == error.http_status or error.http_status == 422
                assert error.code in _STATUS_OF
                json.dumps(documented(error))
