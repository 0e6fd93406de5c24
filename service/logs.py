"""Logs of the service: one JSON object a line, with the ids of request and job, and never a secret."""

import contextvars
import json
import logging
import re
import sys
import time
import traceback
from typing import Any, Literal

_REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
_JOB: contextvars.ContextVar[str] = contextvars.ContextVar("job_id", default="")
# Libraries whose chatter at INFO says nothing to an operator.
_QUIET = (
    "dbos",
    "uvicorn",
    "uvicorn.error",
    "httpx",
    "httpcore",
    "botocore",
    "aiobotocore",
    "s3fs",
    "urllib3",
    "multipart",
    "python_multipart",
)
_SECRETS = re.compile(
    r"""swk_[A-Za-z0-9_-]+|(?i:bearer)\s+[^\s"']+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|(?<=stemwright_session=)[^;\s]+"""
)
_FIELDS = ("method", "path", "status", "seconds", "bytes_in", "bytes_out", "client", "key_id")


def request_id() -> str:
    """Return the id of the request in work, empty outside of one."""
    return _REQUEST.get()


def set_request_id(value: str) -> None:
    """Set the id of the request in work; every line logged from here on carries it."""
    _REQUEST.set(value)


def set_job_id(value: str) -> None:
    """Set the id of the job in work; every line logged from here on carries it."""
    _JOB.set(value)


def redacted(text: str) -> str:
    """Return a text with keys, passwords in URLs and session cookies replaced."""
    return _SECRETS.sub("***", text)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        line |= context(record)
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = redacted("".join(traceback.format_exception(*record.exc_info)))
        return json.dumps(line, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()


class TextFormatter(logging.Formatter):
    """A record as text for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback below it."""
        extra = " ".join(f"{name}={value}" for name, value in context(record).items())
        head = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7}"
        line = f"{head} {record.getMessage()} {extra}"
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info))
        return redacted(line.rstrip()).encode(errors="backslashreplace").decode()


def context(record: logging.LogRecord) -> dict[str, Any]:
    """Return the ids and fields of a record."""
    found: dict[str, Any] = {}
    if request := getattr(record, "request_id", "") or _REQUEST.get():
        found["request_id"] = request
    if job := getattr(record, "job_id", "") or _JOB.get():
        found["job_id"] = job
    found |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
    return found


def configure_logs(level: str, style: Literal["json", "text"]) -> None:
    """Send every log line of this process to standard error in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("stemwright").setLevel(root.level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos"):
        adopted_logger(name)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def adopted_logger(name: str) -> logging.Logger:
    """Return the logger of a library that has given it a form of its own, which it loses."""
    logger = logging.getLogger(name)
    logger.handlers[:] = []
    logger.propagate = True
    return logger
