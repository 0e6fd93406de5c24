"""What a service tells, as far as a client needs it. Fields of newer services are passed over."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from stemwright.core.errors import InternalError, StemwrightError
from stemwright.service.client.problems import error_of

FINAL = ("succeeded", "failed", "cancelled")
_SAFE_FILE = re.compile(r"[^/\\\0]{1,255}")


@dataclass(frozen=True, kw_only=True)
class Stem:
    """A file of a finished job.

    Parameters
    ----------
    name
        Of the stem, joined by `+` where the file holds several.
    stems
        The stems in it.
    file
        Its file name.
    size, sha256
        Of its bytes.
    """

    name: str
    stems: tuple[str, ...]
    file: str
    size: int
    sha256: str

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read it from an answer; a file name that is a path is none."""
        file = str(data["file"])
        if not _SAFE_FILE.fullmatch(file) or file in (".", ".."):
            raise ValueError(f"{file!r} is no file name")
        return cls(
            name=str(data["name"]),
            stems=tuple(map(str, data["stems"])),
            file=file,
            size=int(data["size"]),
            sha256=str(data["etag"]),
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job.

    Parameters
    ----------
    status
        `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    stage, fraction, attempt
        How far it is.
    duration_s
        Length of the recording, once it is known.
    stems, result
        Of a job that has succeeded; the result as in `result.json`.
    error
        Of a job that has failed.
    """

    id: str
    name: str
    status: str
    stage: str | None
    fraction: float
    attempt: int
    duration_s: float | None
    model: str
    stems: tuple[Stem, ...]
    result: Mapping[str, Any] | None
    error: StemwrightError | None

    @property
    def final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.status in FINAL

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read it from an answer."""
        return cls(
            id=str(data["id"]),
            name=str(data["name"]),
            status=str(data["status"]),
            stage=data.get("stage"),
            fraction=float(data.get("fraction") or 0.0),
            attempt=int(data.get("attempt") or 0),
            duration_s=data.get("duration_s"),
            model=str(data.get("model", "")),
            stems=tuple(Stem.read(stem) for stem in data.get("stems") or ()),
            result=data.get("result"),
            error=_error(data),
        )


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a job tells on its way; the last one has `final`."""

    id: str
    status: str
    stage: str | None
    fraction: float
    attempt: int
    final: bool
    error: StemwrightError | None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read it from an answer."""
        return cls(
            id=str(data["id"]),
            status=str(data["status"]),
            stage=data.get("stage"),
            fraction=float(data.get("fraction") or 0.0),
            attempt=int(data.get("attempt") or 0),
            final=bool(data.get("final")),
            error=_error(data),
        )

    @classmethod
    def of(cls, job: Job) -> Self:
        """Tell how a job stands, where no events are to be had."""
        return cls(
            id="",
            status=job.status,
            stage=job.stage,
            fraction=job.fraction,
            attempt=job.attempt,
            final=job.final,
            error=job.error,
        )


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model of the service."""

    name: str
    stems: tuple[str, ...]
    sha256: str
    version: str

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read it from an answer."""
        return cls(
            name=str(data["name"]),
            stems=tuple(map(str, data.get("stems") or ())),
            sha256=str(data.get("sha256") or ""),
            version=str(data.get("version") or ""),
        )


def strange(what: str, error: Exception) -> InternalError:
    """Return the error for an answer that is not as the API has it."""
    return InternalError(
        f"the service answers {what} in a way that is not understood ({type(error).__name__}: {error})",
        "check the address, and that client and service are of the same version",
    )


def _error(data: Mapping[str, Any]) -> StemwrightError | None:
    told = data.get("error")
    if not told:
        return None
    return error_of(
        str(told.get("code")), str(told.get("message")), str(told.get("remedy") or ""), status=422
    )
