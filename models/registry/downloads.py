"""Downloading one file so that a broken line costs nothing and a wrong file is never kept.

A download grows in `NAME.part`, with `NAME.part.json` beside it that says which representation of the
file it belongs to (address and ETag). It is renamed to its own name only when it is whole and right.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Protocol

import httpx

from stemwright.core.errors import ModelFileError, ResourceError, SourceUnavailableError
from stemwright.models.registry.staging import storage_error

_LOG = logging.getLogger(__name__)
# An attempt that brought this much new data does not count as a failed one: long downloads over bad lines
# must be able to end. The number of attempts stays bounded, since the mark only ever rises.
_REAL_PROGRESS = 1 << 20
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE_MATCH = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_HEX_DIGEST = re.compile(r'"?([0-9a-f]{64})"?')


@dataclass(frozen=True, kw_only=True)
class Progress:
    """State of a transfer: bytes so far, and in all where the source tells."""

    done: int
    total: int | None


class ProgressCallback(Protocol):
    """Called with each step of a transfer."""

    def __call__(self, progress: Progress, /) -> None:
        """Take note of a step."""


def ignore_progress(progress: Progress) -> None:
    """Take no notice of progress."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a downloaded file has to be.

    Attributes
    ----------
    sha256
        SHA-256 in hexadecimal, whole or its first digits; empty if none is known.
    max_bytes
        The download is given up beyond this size.
    """

    sha256: str = ""
    max_bytes: int = 1 << 31


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When to give up.

    Attributes
    ----------
    attempts
        Attempts in a row that may fail.
    backoff_s
        Wait before the second attempt; doubles with each further one.
    max_wait_s
        Upper limit of a wait, also of one that the server asks for.
    connect_s, read_s
        Longest time for a connection, and between two pieces of data.
    """

    attempts: int = 4
    backoff_s: float = 1.0
    max_wait_s: float = 30.0
    connect_s: float = 15.0
    read_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """A file that was downloaded whole.

    Attributes
    ----------
    sha256
        Its SHA-256.
    announced_sha256
        The SHA-256 that its host announced with it (`X-Linked-ETag`, as the Hugging Face hub does for
        files in large-file storage), empty if it announced none.
    """

    path: Path
    sha256: str
    size: int
    announced_sha256: str = ""


@dataclass(kw_only=True)
class _Part:
    """The growing file and the running hash over it."""

    path: Path
    url: str
    etag: str = ""
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def notes(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def load(self) -> None:
        """Go on from what an earlier run left, if it is known to belong to the same address."""
        try:
            notes = json.loads(self.notes.read_text())
            etag = str(notes["etag"]) if notes["url"] == self.url else ""
        except (OSError, ValueError, KeyError, TypeError):
            etag = ""
        if not etag or not self.path.is_file():
            self.restart("")
            return
        self.etag = etag
        with self.path.open("rb") as stream:
            self.digest = hashlib.file_digest(stream, "sha256")
        self.size = self.path.stat().st_size

    def restart(self, etag: str) -> None:
        """Forget what is there; the next bytes are the first."""
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)
        self.size, self.digest, self.etag = 0, hashlib.sha256(), etag
        if etag:
            self.notes.write_text(json.dumps({"url": self.url, "etag": etag}))

    def append(self, stream: BinaryIO, data: bytes) -> None:
        stream.write(data)
        self.digest.update(data)
        self.size += len(data)


class _TransientError(Exception):
    """A failure that another attempt may overcome."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def download(
    url: str,
    target: Path,
    expected: Expected | None = None,
    *,
    patience: Patience | None = None,
    progress: ProgressCallback = ignore_progress,
    sleep: Callable[[float], None] = time.sleep,
) -> Downloaded:
    """Download a file, going on where an earlier attempt or an earlier run broke off.

    Only one caller at a time may download to a target.

    Parameters
    ----------
    url
        Address, http or https. A redirect from https to http is not followed through.
    target
        Where the file goes; its folder is made. Its name appears only when the file is whole and right.
    expected
        Hash and size limit.
    patience
        Time-outs and attempts.
    progress
        Called after each piece.
    sleep
        Waits between attempts.

    Raises
    ------
    SourceUnavailableError
        The source does not answer, refuses, or breaks off again and again.
    ModelFileError
        The file is not the expected one, or larger than the limit.
    ResourceError, OutputError
        The disk is full or cannot be written.
    """
    expected = expected or Expected()
    patience = patience or Patience()
    part = _Part(path=target.with_name(target.name + ".part"), url=url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.load()
        with _client(patience) as client:
            announced = _persist(client, part, expected, patience, progress, sleep)
        return _finish(part, target, expected, announced)
    except OSError as error:
        raise storage_error(target, error) from error


def _client(patience: Patience) -> httpx.Client:
    try:
        # Only the file's own bytes count and can be resumed: no transfer compression.
        return httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(patience.read_s, connect=patience.connect_s),
            headers={"User-Agent": "stemwright", "Accept-Encoding": "identity"},
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:  # of the environment's proxy settings
        raise SourceUnavailableError(
            f"the proxy of the environment cannot be used: {error}", "mend HTTPS_PROXY, ALL_PROXY or NO_PROXY"
        ) from error


def _persist(
    client: httpx.Client,
    part: _Part,
    expected: Expected,
    patience: Patience,
    progress: ProgressCallback,
    sleep: Callable[[float], None],
) -> str:
    """Attempt the transfer until it ends; return the announced hash."""
    failures, mark = 0, part.size
    while True:
        try:
            return _transfer(client, part, expected, progress)
        except _TransientError as error:
            if part.size >= mark + _REAL_PROGRESS:
                failures, mark = 0, part.size
            failures += 1
            if failures >= patience.attempts:
                raise SourceUnavailableError(str(error), "try again later: it goes on from here") from error
            wait_s = patience.backoff_s * 2 ** (failures - 1) if error.wait_s is None else error.wait_s
            _LOG.info("%s; trying again in %.1f s", error, min(wait_s, patience.max_wait_s))
            sleep(min(wait_s, patience.max_wait_s))


def _transfer(client: httpx.Client, part: _Part, expected: Expected, progress: ProgressCallback) -> str:
    """Make one attempt."""
    headers = {"Range": f"bytes={part.size}-", "If-Range": part.etag} if part.size and part.etag else {}
    with _one_edge(part), client.stream("GET", part.url, headers=headers) as response:
        _check_status(response, part)
        total = _begin(response, part, resumed=response.status_code == HTTPStatus.PARTIAL_CONTENT)
        _check_room(part, total, expected)
        progress(Progress(done=part.size, total=total))
        with part.path.open("ab") as stream:
            for data in response.iter_raw():
                part.append(stream, data)
                if part.size > expected.max_bytes:
                    raise _too_large(part, expected)
                progress(Progress(done=part.size, total=total))
        if total is not None and part.size != total:
            raise _TransientError(f"{part.url} broke off at {part.size} of {total} bytes")
        return _announced_sha256(response)


@contextmanager
def _one_edge(part: _Part) -> Iterator[None]:
    """Translate httpx's errors: what may pass becomes transient, the rest is final.

    A host that cannot be reached at all before anything came from it is given up at once: there are other
    sources.
    """
    url = part.url
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        raise SourceUnavailableError(f"{url}: {error}", "check the address") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        message = f"{url} cannot be reached: {str(error) or 'no answer in time'}"
        if part.size:
            raise _TransientError(message) from error
        raise SourceUnavailableError(message, "check the network and the address") from error
    except httpx.TimeoutException as error:
        raise _TransientError(f"{url} does not answer in time") from error
    except httpx.TransportError as error:
        raise _TransientError(f"{url}: {str(error) or type(error).__name__}") from error


def _check_status(response: httpx.Response, part: _Part) -> None:
    """Let only usable answers pass."""
    status = response.status_code
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
        part.restart("")  # what is there is longer than the file: it was another one
        raise _TransientError(f"{part.url} changed while it was downloaded", 0.0)
    if status in _TRANSIENT:
        retry_after = response.headers.get("Retry-After", "")
        wait_s = float(retry_after) if retry_after.isdecimal() else None
        raise _TransientError(f"{part.url} answered {status} {response.reason_phrase}", wait_s)
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise SourceUnavailableError(
            f"{part.url} answered {status} {response.reason_phrase}", "check the address"
        )
    if part.url.startswith("https:") and response.url.scheme != "https":
        raise SourceUnavailableError(f"{part.url} leads to an unprotected address", "check the address")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceUnavailableError(f"{part.url} sends the file compressed", "use another source")


def _begin(response: httpx.Response, part: _Part, *, resumed: bool) -> int | None:
    """Line the part up with what the server sends; return the file's size if it is told."""
    etag = response.headers.get("ETag", "")
    etag = "" if etag.startswith("W/") else etag  # a weak one does not promise the same bytes
    if resumed:
        match = _RANGE_MATCH.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != part.size:
            part.restart("")
            raise _TransientError(f"{part.url} sent another range than the one asked for", 0.0)
        return None if match[2] == "*" else int(match[2])
    part.restart(etag)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _check_room(part: _Part, total: int | None, expected: Expected) -> None:
    """Give up before the first byte where it is clear that the file is too large or does not fit."""
    if total is None:
        return
    if total > expected.max_bytes:
        raise _too_large(part, expected)
    missing, free = total - part.size, shutil.disk_usage(part.path.parent).free
    if missing > free:
        raise ResourceError(
            f"{part.path.parent} has {free / 1e6:.0f} MB free, the download needs {missing / 1e6:.0f} MB",
            "free some space or set STEMWRIGHT_MODELS",
        )


def _too_large(part: _Part, expected: Expected) -> ModelFileError:
    part.restart("")
    return ModelFileError(
        f"{part.url} is larger than {expected.max_bytes / 1e6:.0f} MB", "it is not the expected file"
    )


def _announced_sha256(response: httpx.Response) -> str:
    """Read the hub's header, which stands in the answer that redirects to the storage."""
    for answer in (*response.history, response):
        if match := _HEX_DIGEST.fullmatch(answer.headers.get("X-Linked-ETag", "")):
            return match[1]
    return ""


def _finish(part: _Part, target: Path, expected: Expected, announced: str) -> Downloaded:
    """Check the hash and give the file its name."""
    sha256, size = part.digest.hexdigest(), part.size
    wrong = [wanted for wanted in (expected.sha256, announced) if not sha256.startswith(wanted)]
    if wrong:
        part.restart("")
        raise ModelFileError(
            f"{part.url} is not the expected file: its SHA-256 is {sha256[:16]}…, not {wrong[0][:16]}…",
            "use another source",
        )
    if not part.path.exists():  # an empty file brings no data that would have made it
        part.path.touch()
    os.replace(part.path, target)
    part.notes.unlink(missing_ok=True)
    return Downloaded(path=target, sha256=sha256, size=size, announced_sha256=announced)
