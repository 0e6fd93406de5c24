"""Outcomes of several tracks, and the one exit code they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stemwright.core.errors import (
    EXIT_FAILURE,
    EXIT_OK,
    EXIT_SOME_FAILED,
    EXIT_USAGE,
    DeviceError,
    ModelFileError,
    StemwrightError,
    UserError,
)

# What is wrong with one track because of these is wrong with every other track too.
FATAL_ERRORS = (DeviceError, ModelFileError)


def exit_code(errors: Sequence[StemwrightError | None]) -> int:
    """Return the exit code for tracks whose errors these are, None for a track that is done.

    0 all done; 3 some failed; if all failed, 2 where all are the user's mistakes, else 1.
    """
    failed = [error for error in errors if error is not None]
    if not failed:
        return EXIT_OK
    if len(failed) < len(errors):
        return EXIT_SOME_FAILED
    return EXIT_USAGE if all(isinstance(error, UserError) for error in failed) else EXIT_FAILURE


@dataclass(frozen=True, kw_only=True)
class ErrorFacts:
    """An error as data."""

    code: str
    message: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


def error_facts(error: StemwrightError) -> ErrorFacts:
    """Describe an error."""
    return ErrorFacts(code=error.code, message=error.message, remedy=error.remedy)
