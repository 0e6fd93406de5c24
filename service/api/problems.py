"""Every error of the API as an RFC 9457 problem: a stable `code`, what is wrong, what to do about it.

References
----------
RFC 9457, Problem Details for HTTP APIs.
"""

import http
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match

from stemwright.core.errors import StemwrightError
from stemwright.service.api.kinds import KINDS, Kind
from stemwright.service.errors import BusyError, TooManyError
from stemwright.service.logs import request_id

MEDIA_TYPE = "application/problem+json"

_LOG = logging.getLogger(__name__)
_MAX_SHOWN = 200
# What pydantic says of where a field is, and its sender does not know.
_PLACES = ("body", "query", "path", "header", "detect", "score")


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"field": "stems", "message": "no such stem"}]})

    field: str = Field(description="Name of the field, header or parameter, as it was sent.")
    message: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:stemwright:problem:bad_option",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "the model htdemucs has no stem 'piano'",
                    "code": "bad_option",
                    "remedy": "use some of drums, bass, other, vocals",
                    "request_id": "0d2f6c1e9a3b4f57",
                    "errors": [],
                }
            ]
        }
    )

    type: str = Field(description="URI of the kind of problem: `urn:stemwright:problem:` and the code.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, in one line.")
    code: str = Field(description="Stable name of the kind of problem, for programs.")
    remedy: str = Field(description="What can be done about it, in one line; may be empty.")
    request_id: str = Field(description="Identifies the request in the server's log.")
    errors: list[FieldProblem] = Field(default_factory=list, description="The fields at fault, if any.")


class ProblemError(Exception):
    """A problem of one of `KINDS`, raised where it is found.

    Parameters
    ----------
    code
        Key of KINDS.
    detail, remedy
        In place of the kind's own.
    fields
        Names of fields and what is wrong with them.
    headers
        Sent with the answer.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        remedy: str = "",
        *,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        kind = KINDS[code]
        super().__init__(detail or kind.detail)
        self.code = code
        self.status = kind.status
        self.detail = detail or kind.detail
        self.remedy = remedy or kind.remedy
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})


def retry_after(code: str, seconds: float, detail: str = "", remedy: str = "") -> ProblemError:
    """Return a problem that passes by itself, with the time after which to try again."""
    return ProblemError(code, detail, remedy, headers={"Retry-After": str(max(1, round(seconds)))})


def problem_of(
    status: int, code: str, detail: str, remedy: str, *, fields: Mapping[str, str] | None = None
) -> Problem:
    """Return a problem of the request in work."""
    return Problem(
        type=f"urn:stemwright:problem:{code}",
        title=http.HTTPStatus(status).phrase,
        status=status,
        detail=shown(detail),
        code=code,
        remedy=shown(remedy),
        request_id=request_id(),
        errors=[
            FieldProblem(field=shown(name), message=shown(text)) for name, text in (fields or {}).items()
        ],
    )


def problem_response(
    status: int,
    code: str,
    detail: str,
    remedy: str,
    *,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the response of a problem."""
    problem = problem_of(status, code, detail, remedy, fields=fields)
    sent = dict(headers or {})
    if status == http.HTTPStatus.UNAUTHORIZED:
        sent.setdefault("WWW-Authenticate", 'Bearer realm="stemwright"')
    if status in (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE):
        sent.setdefault("Retry-After", "5")
    return JSONResponse(problem.model_dump(), status, sent, MEDIA_TYPE)


def shown(text: str) -> str:
    """Return a text for one line of an answer: nothing that is no Unicode, no control characters."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= _MAX_SHOWN * 4 else clean[: _MAX_SHOWN * 4] + "…"


def documented(*codes: str | type[StemwrightError]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of these problems, in the form of a route's `responses`."""
    examples: dict[int, dict[str, Any]] = {}
    for code in codes:
        name, kind = _kind(code)
        examples.setdefault(kind.status, {})[name] = {
            "summary": kind.detail,
            "value": {
                "type": f"urn:stemwright:problem:{name}",
                "title": http.HTTPStatus(kind.status).phrase,
                "status": kind.status,
                "detail": kind.detail,
                "code": name,
                "remedy": kind.remedy,
                "request_id": "0d2f6c1e9a3b4f57",
                "errors": [],
            },
        }
    return {status: _description(status, found) for status, found in sorted(examples.items())}


def _kind(code: str | type[StemwrightError]) -> tuple[str, Kind]:
    if isinstance(code, str):
        return code, KINDS[code]
    detail = (code.__doc__ or code.code).partition("\n")[0].rstrip(".")
    return code.code, Kind(status=code.http_status, detail=detail, remedy="see `detail` and `remedy`")


def _description(status: int, examples: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": ", ".join(f"`{code}`" for code in examples),
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples},
        },
    }
    if status in (429, 503):
        described["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        }
    return described


def install_handlers(app: FastAPI) -> None:
    """Answer every error of the application by a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(StemwrightError, _on_stemwright_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # registered for nothing else
    return problem_response(
        error.status, error.code, error.detail, error.remedy, fields=error.fields, headers=error.headers
    )


async def _on_stemwright_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StemwrightError)  # registered for nothing else
    headers = {}
    if isinstance(error, TooManyError | BusyError):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if error.http_status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        _LOG.error("%s: %s", error.code, error.message, exc_info=error)
        if error.http_status == http.HTTPStatus.INTERNAL_SERVER_ERROR:
            return unexpected()
    return problem_response(error.http_status, error.code, error.message, error.remedy, headers=headers)


async def _on_validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # registered for nothing else
    return invalid(error.errors())


def invalid(errors: Sequence[Any]) -> Response:
    """Return the answer to fields that pydantic refused."""
    kind = KINDS["invalid"]
    fields = field_messages(errors)
    name, message = next(iter(fields.items()), ("request", ""))
    detail = f"{name}: {message}" if len(fields) == 1 else kind.detail
    return problem_response(kind.status, "invalid", detail, kind.remedy, fields=fields)


def field_messages(errors: Sequence[Any]) -> dict[str, str]:
    """Return name and message of each field that pydantic refused, as pydantic lists them."""
    fields = {}
    for error in errors:
        place = [str(part) for part in error["loc"] if part not in _PLACES]
        fields[".".join(place) or str(error["loc"][0] if error["loc"] else "request")] = error["msg"]
    return fields


def invalid_fields(error: ValidationError) -> ProblemError:
    """Return the problem of what pydantic refused; never the values themselves."""
    fields = field_messages(error.errors(include_url=False, include_input=False, include_context=False))
    name, message = next(iter(fields.items()))
    return ProblemError("invalid", f"{name}: {message}", fields=fields)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for nothing else
    headers = dict(error.headers or {})
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(
        error.status_code, "bad_request"
    )
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    kind = KINDS[code]
    return problem_response(error.status_code, code, kind.detail, kind.remedy, headers=headers)


def _methods(request: Request) -> set[str]:
    """Methods of all routes of the request's path; a route by itself knows its own only."""
    found: set[str] = set()
    pending: list[BaseRoute] = list(request.app.router.routes)
    while pending:
        route = pending.pop()
        included = getattr(route, "original_router", None)
        if included is not None:
            pending += included.routes
        elif route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the status is for the log


def unexpected() -> Response:
    """Return the answer to a fault of ours: nothing of the inside, the id under which it was logged."""
    kind = KINDS["internal_error"]
    return problem_response(kind.status, "internal_error", kind.detail, kind.remedy)
