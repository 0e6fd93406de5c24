"""Uploads in several requests, resumable by offset."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from stemwright.core.errors import ResourceError
from stemwright.service.api.bodies import blocks, declared_length, media_type, read_model
from stemwright.service.api.context import CallerDep, ServiceDep
from stemwright.service.api.describing import UPLOAD_BODY, UPLOAD_LINKS, json_body
from stemwright.service.api.problems import ProblemError, documented
from stemwright.service.api.uploads import Upload
from stemwright.service.errors import BusyError, NotFoundError

router = APIRouter(tags=["uploads"])

UploadId = Annotated[
    str,
    Path(
        description="Id of the upload.",
        max_length=64,
        pattern=r"^[A-Za-z0-9_-]+$",
        examples=["nEcQZr5iQ6C3yR7XyT3q0w"],
    ),
]
_OFFSET_HEADER = {
    "Upload-Offset": {"description": "Bytes that were received.", "schema": {"type": "integer", "minimum": 0}}
}
_EXAMPLE: dict[str, JsonValue] = {
    "id": "nEcQZr5iQ6C3yR7XyT3q0w",
    "filename": "song.flac",
    "size": 31457280,
    "received": 8388608,
    "complete": False,
    "expires": 1790000000.0,
}


class UploadView(BaseModel):
    """An upload."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str = Field(description="The `upload_id` of a job.")
    filename: str
    size: int | None = Field(description="Bytes that were announced.")
    received: int = Field(description="Bytes that are here: the offset to go on at.")
    complete: bool = Field(description="Whether a job can be made of it.")
    expires: float = Field(description="When it is removed if no job uses it, seconds since 1970.")


class NewUpload(BaseModel):
    """What is known of a file that will come."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"filename": "song.flac", "size": 31457280}]}
    )

    filename: Annotated[str, Field(max_length=1000)] = Field(
        default="upload", description="Shown, and used for the results' names; never a path."
    )
    size: int = Field(ge=1, description="Bytes of the whole file.")


def _answer(upload: Upload, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    view = UploadView(
        id=upload.id,
        filename=upload.filename,
        size=upload.size,
        received=upload.received,
        complete=upload.complete,
        expires=upload.expires_at,
    )
    sent = {"Upload-Offset": str(upload.received), **(headers or {})}
    return JSONResponse(view.model_dump(), status, sent)


@router.post(
    "/v1/uploads",
    status_code=201,
    response_model=UploadView,
    responses={
        201: {
            "description": "Go on with PATCH at the Location.",
            "links": UPLOAD_LINKS,
            "headers": {
                "Location": {"description": "The upload's address.", "schema": {"type": "string"}},
                **_OFFSET_HEADER,
            },
        },
        **documented(
            "bad_request",
            "slow_client",
            "too_large",
            "unsupported_media_type",
            "invalid",
            BusyError,
            ResourceError,
        ),
    },
    openapi_extra=json_body(NewUpload),
    summary="Begin an upload",
)
async def begin_upload(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Announce a file; its bytes come by PATCH, in as many requests as you like."""
    new = await read_model(request, service.settings.body_timeout_s, NewUpload)
    upload = await service.uploads.create(caller.owner, new.filename, new.size)
    location = f"{request.scope.get('root_path', '')}/v1/uploads/{upload.id}"
    return _answer(upload, 201, {"Location": location})


@router.get(
    "/v1/uploads/{upload_id}",
    response_model=UploadView,
    responses={
        200: {"description": "The upload.", "headers": _OFFSET_HEADER},
        **documented(NotFoundError, "invalid", BusyError),
    },
    summary="Look at an upload",
)
async def get_upload(upload_id: UploadId, service: ServiceDep, caller: CallerDep) -> Response:
    """Return the upload; its `received` is the offset to go on at."""
    return _answer(await service.uploads.get(upload_id, caller.owner))


@router.head(
    "/v1/uploads/{upload_id}",
    responses={
        200: {"description": "The offset to go on at.", "headers": _OFFSET_HEADER, "content": {}},
        **documented(NotFoundError, "invalid", BusyError),
    },
    response_class=Response,
    summary="Ask for an upload's offset",
)
async def get_offset(upload_id: UploadId, service: ServiceDep, caller: CallerDep) -> Response:
    """Return the offset to go on at, as a header."""
    upload = await service.uploads.get(upload_id, caller.owner)
    return Response(headers={"Upload-Offset": str(upload.received), "Upload-Length": str(upload.size or "")})


@router.patch(
    "/v1/uploads/{upload_id}",
    response_model=UploadView,
    responses={
        200: {"description": "The bytes are here.", "headers": _OFFSET_HEADER},
        **documented(
            NotFoundError, "slow_client", "wrong_offset", "upload_in_use", "upload_complete", "too_large",
            "unsupported_media_type", "invalid", BusyError, ResourceError,
        ),
    },
    openapi_extra=UPLOAD_BODY,
    summary="Send bytes of an upload",
)  # fmt: skip
async def append_bytes(
    request: Request,
    upload_id: UploadId,
    service: ServiceDep,
    caller: CallerDep,
    upload_offset: Annotated[
        str,
        Header(description="Where these bytes belong: what was received so far.", pattern=r"^[0-9]{1,15}$"),
    ],
) -> Response:
    """Append bytes at `Upload-Offset`; what came before a broken connection is kept.

    At another offset the answer is 409, and its `Upload-Offset` is the right one.
    """
    if media_type(request)[0] not in ("application/octet-stream", "application/offset+octet-stream"):
        raise ProblemError("unsupported_media_type", remedy="send the bytes as application/octet-stream")
    upload = await service.uploads.append(
        upload_id,
        caller.owner,
        int(upload_offset),
        blocks(request, service.settings.body_timeout_s),
        declared_length(request),
    )
    return _answer(upload)


@router.delete(
    "/v1/uploads/{upload_id}",
    status_code=204,
    responses={
        204: {"description": "It is gone."},
        **documented(NotFoundError, "upload_in_use", "invalid", BusyError),
    },
    response_class=Response,
    summary="Delete an upload",
)
async def delete_upload(upload_id: UploadId, service: ServiceDep, caller: CallerDep) -> Response:
    """Remove an upload that no job needs."""
    await service.uploads.delete(upload_id, caller.owner)
    return Response(status_code=204)
