"""One hierarchy of errors: each tells the cause in one line and the remedy in one.

StemwrightError
├── UserError                 the user's mistake: exit code 2, HTTP 4xx
│   ├── InputError            an input file or stream that cannot be used as audio
│   ├── OutputError           a place, format or name that cannot be written
│   ├── OptionError           options that contradict each other or the model
│   ├── ModelNotFoundError    no model of that name (nearest names in the remedy)
│   ├── ModelFileError        a model file, checkpoint or manifest that is damaged, hostile or too new
│   ├── LicenceError          the terms of a model's weights were not accepted
│   └── DeviceError           the device or precision asked for is not to be had
├── SourceUnavailableError    no source of weights answered: exit code 1, HTTP 503
├── ResourceError             memory or disk ran out: exit code 1, HTTP 507
│   └── OutOfMemoryError      one call of a network did not fit: a smaller batch may
├── CancelledError            the caller cancelled: exit code 130
└── InternalError             a fault of ours: exit code 1, HTTP 500

`exit_code` and `http_status` are the one mapping; nothing else translates errors.
"""

import errno
from pathlib import Path
from typing import ClassVar

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130


class StemwrightError(Exception):
    """Base of all errors that stemwright raises on purpose.

    Parameters
    ----------
    message
        One line: what is wrong, with the name of the thing it is wrong with. No full stop.
    remedy
        One line: what the reader can do about it. Empty only where nothing can be done.
    """

    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = EXIT_FAILURE
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UserError(StemwrightError):
    """The request cannot be met as it was made."""

    code = "bad_request"
    exit_code = EXIT_USAGE
    http_status = 422


class InputError(UserError):
    """An input that cannot be read as audio, in whole or in part."""

    code = "unusable_input"


class OutputError(UserError):
    """A target that cannot be written: place, name or format."""

    code = "unusable_output"


class OptionError(UserError):
    """Options that contradict each other, or ask of a model what it does not have."""

    code = "bad_option"


class ModelNotFoundError(UserError):
    """No model of that name is known or installed."""

    code = "model_not_found"
    http_status = 404


class ModelFileError(UserError):
    """A model file that is damaged, hostile, of an unknown kind, or from a newer version."""

    code = "bad_model_file"


class LicenceError(UserError):
    """The terms of a model's weights have to be accepted first."""

    code = "licence_not_accepted"
    http_status = 403


class DeviceError(UserError):
    """A device, provider or precision that was asked for and cannot be had."""

    code = "device_unavailable"


class SourceUnavailableError(StemwrightError):
    """No source of weights answered."""

    code = "source_unavailable"
    http_status = 503


class ResourceError(StemwrightError):
    """Memory or disk ran out."""

    code = "out_of_resources"
    http_status = 507


class OutOfMemoryError(ResourceError):
    """One call of a network did not fit into memory; a smaller batch may fit."""

    code = "out_of_memory"


class CancelledError(StemwrightError):
    """The caller cancelled the work."""

    code = "cancelled"
    exit_code = EXIT_INTERRUPTED
    http_status = 409


class InternalError(StemwrightError):
    """A fault of stemwright's own."""

    code = "internal_error"


def output_error(path: Path, error: OSError) -> StemwrightError:
    """Translate a failure to write output."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceError(f"no space left on the disk of {path}", "free some space or choose another -o")
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"cannot write {path}: {reason}", "choose an output folder you can write with -o")


def unforeseen(error: Exception) -> InternalError:
    """Wrap an exception that nobody foresaw, so that it fails one track and not the run."""
    cause = " ".join(str(error).split())
    message = f"unexpected {type(error).__name__}" + (f": {cause}" if cause else "")
    wrapped = InternalError(message, "run it with --verbose for the traceback")
    wrapped.__cause__ = error
    return wrapped
