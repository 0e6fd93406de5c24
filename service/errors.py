"""Errors that only a service has: of requests that meet others', of limits, of what is unknown.

StemwrightError
├── UserError
│   ├── NotFoundError         no job, upload or stem of that id that the caller may see: HTTP 404
│   ├── ConflictError         the state of things does not allow it: HTTP 409
│   │   └── ReplayError       an idempotency key that came with another request before: HTTP 409
│   ├── GoneError             it was there, and has expired: HTTP 410
│   └── TooManyError          the key's own limits: HTTP 429, with the time after which to try again
└── BusyError                 the service's limits: HTTP 503, with the time after which to try again
"""

from stemwright.core.errors import StemwrightError, UserError


class NotFoundError(UserError):
    """Nothing of that id is there, or it is somebody else's."""

    code = "not_found"
    http_status = 404


class ConflictError(UserError):
    """What was asked for does not go with the state of things."""

    code = "conflict"
    http_status = 409


class ReplayError(ConflictError):
    """An idempotency key that came with another request before."""

    code = "idempotency_key_reused"


class GoneError(UserError):
    """What was asked for has expired."""

    code = "gone"
    http_status = 410


class TooManyError(UserError):
    """The caller's own limits are reached.

    Parameters
    ----------
    retry_after_s
        When it is worth trying again.
    """

    code = "too_many"
    http_status = 429

    def __init__(self, message: str, remedy: str = "", *, retry_after_s: float = 30.0) -> None:
        super().__init__(message, remedy)
        self.retry_after_s = retry_after_s


class BusyError(StemwrightError):
    """The service cannot take it now; it may later.

    Parameters
    ----------
    retry_after_s
        When it is worth trying again.
    """

    code = "busy"
    http_status = 503

    def __init__(self, message: str, remedy: str = "", *, retry_after_s: float = 30.0) -> None:
        super().__init__(message, remedy)
        self.retry_after_s = retry_after_s
