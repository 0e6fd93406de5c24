"""What the routes share: the open connections of one API process, and who is calling."""

import asyncio
import hmac
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ParamSpec, TypeVar

from anyio import to_thread
from fastapi import Depends
from starlette.requests import HTTPConnection

from stemwright.service.api.catalogue import ModelCatalogue
from stemwright.service.api.metrics import Metrics
from stemwright.service.api.problems import ProblemError
from stemwright.service.api.side import SideProcess
from stemwright.service.api.uploads import Uploads
from stemwright.service.jobs.board import LOCAL_OWNER, JobBoard
from stemwright.service.jobs.database import Database
from stemwright.service.keys import KeyStore
from stemwright.service.settings import Settings
from stemwright.service.storage import Storage

SESSION_COOKIE = "stemwright_session"
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Service:
    """What one API process has open.

    Parameters
    ----------
    closing
        Set when the process is to end, so that streams that would last end too.
    streams
        Event streams that are open, by owner.
    live
        Streams of samples that are open, by owner.
    """

    settings: Settings
    database: Database
    board: JobBoard
    storage: Storage
    keys: KeyStore
    uploads: Uploads
    catalogue: ModelCatalogue
    metrics: Metrics
    side: SideProcess
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    streams: Counter[str] = field(default_factory=Counter)
    live: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls.

    Parameters
    ----------
    owner
        Whose jobs and uploads are seen.
    key_id
        The API key, None where none was needed and none given.
    by_session
        Whether a browser's session stands for the key.
    """

    owner: str
    key_id: str | None = None
    by_session: bool = False


async def in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call what blocks in a thread."""
    return await to_thread.run_sync(lambda: function(*args, **kwargs))


def current_service(request: HTTPConnection) -> Service:
    """Return what the process has open."""
    service = request.app.state.service
    assert isinstance(service, Service)  # set by the lifespan, before any request
    return service


ServiceDep = Annotated[Service, Depends(current_service)]


def given_key(request: HTTPConnection) -> str | None:
    """Return the API key of a request, from either header.

    Raises
    ------
    ProblemError
        An Authorization that is no Bearer.
    """
    header = request.headers.get("authorization")
    if header is None:
        return request.headers.get("x-api-key")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ProblemError("unauthenticated", "the Authorization header is no `Bearer KEY`")
    return token.strip()


async def identify(request: HTTPConnection, service: ServiceDep) -> Caller:
    """Find out who calls.

    Raises
    ------
    ProblemError
        A key or session that is needed is missing or not valid, or a session's CSRF token is.
    """
    key = given_key(request)
    if key is not None:
        key_id = await in_thread(service.keys.authenticate, key)
        if key_id is None:
            raise ProblemError("unauthenticated", "the API key is not valid", "it may have been revoked")
        caller = Caller(owner=key_id, key_id=key_id)
    else:
        caller = await _by_cookie(request, service)
    request.state.key_id = caller.key_id
    return caller


async def _by_cookie(request: HTTPConnection, service: Service) -> Caller:
    secret = request.cookies.get(SESSION_COOKIE)
    session = await in_thread(service.keys.session, secret) if secret else None
    if session is None:
        if service.settings.keys_required:
            raise ProblemError("unauthenticated")
        return Caller(owner=LOCAL_OWNER)
    # A socket has no method, and its Origin is checked instead.
    method = request.scope.get("method", "GET")
    if method not in SAFE_METHODS and not _same(request.headers.get(CSRF_HEADER, ""), session.csrf):
        raise ProblemError("bad_csrf_token")
    return Caller(owner=session.key_id, key_id=session.key_id, by_session=True)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


CallerDep = Annotated[Caller, Depends(identify)]
