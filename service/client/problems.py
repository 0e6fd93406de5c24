"""From problem documents (RFC 9457) back to errors."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from stemwright.core.errors import StemwrightError, UserError
from stemwright.service import errors as service_errors

# Imported for its subclasses of StemwrightError, which `error_of` finds by their codes.
__all__ = ["error_of", "problem_of", "service_errors"]


def error_of(code: str, message: str, remedy: str, *, status: int) -> StemwrightError:
    """Return the error of a code, of the class that has it; of an unknown code one made by its status."""
    for kind in _kinds(StemwrightError):
        if kind.code == code:
            return kind(message, remedy)
    base = UserError if status < 500 else StemwrightError
    made: type[StemwrightError] = type(
        "ServiceProblemError", (base,), {"code": code, "http_status": status, "__module__": __name__}
    )
    return made(message, remedy)


def problem_of(response: httpx.Response, body: bytes) -> StemwrightError:
    """Return the error that an answer tells."""
    status = response.status_code
    try:
        problem: Mapping[str, Any] = json.loads(body)
        code, detail, remedy = str(problem["code"]), str(problem["detail"]), str(problem.get("remedy", ""))
    except (ValueError, KeyError, TypeError):
        return error_of(
            f"http_{status}",
            f"{response.request.url} answers {status} {response.reason_phrase}",
            "check the address; something between here and the service may have answered",
            status=status,
        )
    for entry in problem.get("errors") or ():
        field, message = str(entry.get("field", "")), str(entry.get("message", ""))
        if message and message not in detail:
            detail += f"; {field}: {message}"
    return error_of(code, detail, remedy, status=status)


def _kinds(kind: type[StemwrightError]) -> Iterator[type[StemwrightError]]:
    for child in kind.__subclasses__():
        if child.__module__ != __name__:  # made here, for a code that nobody knew
            yield child
            yield from _kinds(child)
