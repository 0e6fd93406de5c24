"""Logging a browser in: EventSource and media elements cannot send a key, a cookie they can."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from stemwright.service.api.bodies import read_model
from stemwright.service.api.context import SESSION_COOKIE, CallerDep, ServiceDep, in_thread
from stemwright.service.api.describing import json_body
from stemwright.service.api.problems import ProblemError, documented
from stemwright.service.errors import BusyError

router = APIRouter(tags=["sessions"])


class Login(BaseModel):
    """What a login needs."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"key": "swk_..."}]}, hide_input_in_errors=True
    )

    key: str = Field(min_length=1, max_length=200, description="An API key.", repr=False)


class SessionView(BaseModel):
    """A browser's session."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"csrf_token": "pV0c...", "expires": 1790000000.0}]}
    )

    csrf_token: str = Field(description="Send it as X-CSRF-Token with every request that changes something.")
    expires: float = Field(description="Seconds since 1970.")


@router.post(
    "/v1/session",
    status_code=201,
    response_model=SessionView,
    responses={
        201: {
            "description": "The cookie is set.",
            "headers": {"Set-Cookie": {"schema": {"type": "string"}}},
        },
        **documented(
            "bad_request",
            "unauthenticated",
            "slow_client",
            "too_large",
            "unsupported_media_type",
            "invalid",
            BusyError,
        ),
    },
    openapi_extra=json_body(Login),
    summary="Log in",
)
async def log_in(request: Request, service: ServiceDep) -> Response:
    """Exchange an API key for a cookie that scripts cannot read, and the token that goes with it."""
    login = await read_model(request, service.settings.body_timeout_s, Login)
    key_id = await in_thread(service.keys.authenticate, login.key)
    if key_id is None:
        raise ProblemError("unauthenticated", "the API key is not valid", "it may have been revoked")
    ttl_s = service.settings.session_ttl_s
    session, secret = await in_thread(service.keys.log_in, key_id, ttl_s)
    view = SessionView(csrf_token=session.csrf, expires=session.expires_at)
    response = JSONResponse(view.model_dump(), 201)
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        max_age=int(ttl_s),
        path=request.scope.get("root_path") or "/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.get(
    "/v1/session",
    responses=documented("not_found", BusyError),
    summary="Ask for the session's token",
)
async def get_session(request: Request, service: ServiceDep) -> SessionView:
    """Return the token of the session that the cookie names, for a page that was loaded again."""
    secret = request.cookies.get(SESSION_COOKIE)
    session = await in_thread(service.keys.session, secret) if secret else None
    if session is None:
        raise ProblemError("not_found", "there is no session", "log in: POST /v1/session")
    return SessionView(csrf_token=session.csrf, expires=session.expires_at)


@router.delete(
    "/v1/session",
    status_code=204,
    responses={204: {"description": "The session is over."}, **documented("bad_csrf_token", BusyError)},
    response_class=Response,
    summary="Log out",
)
async def log_out(request: Request, service: ServiceDep, _: CallerDep) -> Response:
    """End the session of the cookie."""
    if secret := request.cookies.get(SESSION_COOKIE):
        await in_thread(service.keys.log_out, secret)
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, path=request.scope.get("root_path") or "/")
    return response
