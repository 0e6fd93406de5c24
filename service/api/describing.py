"""What the OpenAPI document says beyond what FastAPI finds in signatures: bodies that are read as streams."""

import copy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from stemwright.service.api.problems import MEDIA_TYPE, FieldProblem, Problem, documented
from stemwright.service.jobs.model import DetectWish, JobSpec, ProgressEvent, ScoreWish
from stemwright.service.settings import Settings

TAGS = [
    {"name": "jobs", "description": "Separating recordings, durably."},
    {"name": "uploads", "description": "Big files, resumable."},
    {"name": "results", "description": "What a job that succeeded made."},
    {"name": "catalogue", "description": "What can be asked for."},
    {"name": "sessions", "description": "Logging a browser in."},
    {"name": "operation", "description": "For operators and their tools."},
]
_UPLOAD_ID = {
    "type": "string",
    "minLength": 1,
    "maxLength": 64,
    "pattern": "^[A-Za-z0-9_-]+$",
    "description": "A complete upload, in place of a file.",
}
_FILE = {"type": "string", "format": "binary", "minLength": 1}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A key of your own, such as a UUID: the same key and request make one job.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


_OTHER_WAYS = ("detect", "score")
"""What other operations ask of a job."""
_JSON_ONLY = ("references",)
"""Options that forms cannot say."""


def _options() -> dict[str, Any]:
    """Properties of a job's options."""
    schema = JobSpec.model_json_schema()
    return {name: field for name, field in schema["properties"].items() if name not in _OTHER_WAYS}


def _for_forms(properties: dict[str, Any]) -> dict[str, Any]:
    """Drop what forms and parameters cannot say: null."""
    plain: dict[str, Any] = {}
    for name, schema in copy.deepcopy(properties).items():
        choices = [choice for choice in schema.pop("anyOf", ()) if choice.get("type") != "null"]
        plain[name] = {**schema, **(choices[0] if choices else {})}
        if plain[name].get("default", 0) is None:
            del plain[name]["default"]
    return plain


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _job_body() -> dict[str, Any]:
    form = _for_forms({name: field for name, field in _options().items() if name not in _JSON_ONLY})
    with_file = {
        "file": {**_FILE, "description": "The recording."},
        **form,
        "query_audio": {**_FILE, "description": "An example of the sound, as a file."},
    }
    return {
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": _object(with_file, ["file"]),
                    "examples": {"vocals": {"value": {"file": "(binary)", "two_stems": "vocals"}}},
                },
                "application/json": {
                    "schema": _object({"upload_id": _UPLOAD_ID, **_options()}, ["upload_id"]),
                    "examples": {
                        "upload": {"value": {"upload_id": "nEcQZr5iQ6C3yR7XyT3q0w", "format": "flac"}},
                        "evaluated": {
                            "value": {
                                "upload_id": "nEcQZr5iQ6C3yR7XyT3q0w",
                                "evaluate": True,
                                "references": {"vocals": "T4mEj2WqQ5u0pC9sLx8b1g"},
                                "metrics": ["bsseval", "si-sdr"],
                            }
                        },
                    },
                },
                "application/x-www-form-urlencoded": {
                    "schema": _object({"upload_id": _UPLOAD_ID, **form}, ["upload_id"]),
                },
            },
        },
    }


JOB_BODY = _job_body()
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": JOB_BODY["requestBody"]["content"]["multipart/form-data"]},
    },
}


def _detect_body() -> dict[str, Any]:
    options = DetectWish.model_json_schema()["properties"]
    options |= {
        name: field for name, field in _options().items() if name in ("name", "priority", "webhook_url")
    }
    form = _for_forms(options)
    upload = {"upload_id": _UPLOAD_ID}
    return {
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _object({"file": _FILE, **form}, ["file"])},
                "application/json": {"schema": _object({**upload, **options}, ["upload_id"])},
                "application/x-www-form-urlencoded": {"schema": _object({**upload, **form}, ["upload_id"])},
            },
        },
    }


DETECT_BODY = _detect_body()
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


_BODIES: dict[str, type[BaseModel]] = {}
"""Models that only bodies have, which FastAPI does not see; filled while the routes are defined."""


def evaluation_body(result: type[BaseModel]) -> dict[str, Any]:
    """Describe the body of `POST /v1/evaluations`, and what such a job results in."""
    _BODIES[result.__name__] = result
    wish = ScoreWish.model_json_schema()["properties"]
    job = {name: field for name, field in _options().items() if name in ("name", "priority", "webhook_url")}
    one = {"vocals": "T4mEj2WqQ5u0pC9sLx8b1g"}
    return {
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _object({**wish, **job}, []),
                    "examples": {
                        "uploads": {
                            "value": {"references": one, "estimates": {"vocals": "nEcQZr5iQ6C3yR7XyT3q0w"}}
                        },
                        "job": {"value": {"references": one, "job_id": "5f0c1f0e6c9b4a0c8f5b3a2d1e0f9a8b"}},
                    },
                }
            },
        },
    }


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that is a JSON object."""
    _BODIES[model.__name__] = model
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


# What can be done with the job of an answer.
_JOB_LINKS = {
    name: {"operationId": name, "parameters": {"job_id": "$response.body#/id"}}
    for name in ("get_job", "follow_job", "cancel_job", "retry_job", "delete_job", "get_archive")
} | {
    name: {"operationId": name, "parameters": {"job_id": "$response.body#/id", "name": "vocals"}}
    for name in ("get_stem", "get_peaks", "get_preview")
}
UPLOAD_LINKS = {
    name: {"operationId": name, "parameters": {"upload_id": "$response.body#/id"}}
    for name in ("get_upload", "append_bytes", "delete_upload")
}


def job_headers(description: str) -> dict[str, Any]:
    """Describe an answer that carries a job, its address, and what can be done with it."""
    return {
        "description": description,
        "links": _JOB_LINKS,
        "headers": {
            "Location": {"description": "The job's address.", "schema": {"type": "string"}},
            "Idempotent-Replayed": {
                "description": "`true` where the request had been taken before.",
                "schema": {"type": "string", "enum": ["true"]},
            },
        },
    }


def binary(description: str, *media_types: str, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe an answer of bytes."""
    return {
        "description": description,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media_types},
        "headers": {name: {"schema": {"type": "string"}} for name in headers},
    }


EVENT_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": ["progress", "final", "gone"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/ProgressEvent"},
        },
        "retry": {"type": "integer"},
    },
}
"""One event of a stream."""


def install_openapi(app: FastAPI, settings: Settings) -> None:
    """Make the application tell the whole document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=TAGS,
                servers=app.servers or None,
            )
            schemas = document["components"]["schemas"]
            for name, model in _BODIES.items():
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= {**schema.pop("$defs", {}), name: schema}
            schemas["NewUpload"]["properties"]["size"]["maximum"] = settings.max_upload_bytes
            app.openapi_schema = _completed(document, keys_required=settings.keys_required)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to extend it


def _completed(document: dict[str, Any], *, keys_required: bool) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    template = "#/components/schemas/{model}"
    problem = Problem.model_json_schema(ref_template=template)
    problem.pop("$defs", None)
    schemas["Problem"] = problem
    schemas["ProgressEvent"] = ProgressEvent.model_json_schema(ref_template=template)
    for name, schema in schemas["ProgressEvent"].pop("$defs", {}).items():
        schemas.setdefault(name, schema)
    schemas["FieldProblem"] = FieldProblem.model_json_schema(ref_template=template)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "session": {"type": "apiKey", "in": "cookie", "name": "stemwright_session"},
    }
    secured: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {"session": []}]
    everywhere = documented("bad_request", "unauthenticated", "bad_origin", "bad_host", "internal_error")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, everywhere)
            if path.startswith("/v1/"):
                operation["security"] = secured if keys_required else [{}, *secured]
    return document


def _complete(operation: dict[str, Any], everywhere: dict[int | str, dict[str, Any]]) -> None:
    """Add to an operation what every one may answer, and the request's id."""
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _for_forms({"it": parameter["schema"]})["it"]
    responses = operation["responses"]
    for status, described in everywhere.items():
        if str(status) in responses:
            known = responses[str(status)].get("content", {}).get(MEDIA_TYPE)
            if known is not None:
                known["examples"] = {**described["content"][MEDIA_TYPE]["examples"], **known["examples"]}
        else:
            responses[str(status)] = copy.deepcopy(described)
    for status, described in responses.items():
        if status.startswith(("4", "5")) and MEDIA_TYPE in described.get("content", {}):
            described["content"] = {MEDIA_TYPE: described["content"][MEDIA_TYPE]}
        described.setdefault("headers", {})["X-Request-ID"] = {
            "description": "Identifies the request in the server's log.",
            "schema": {"type": "string"},
        }
    operation["responses"] = dict(sorted(responses.items()))
