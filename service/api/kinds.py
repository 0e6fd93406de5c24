"""The kinds of problem that the API itself finds: status, what is wrong, what to do. As data."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of problem that the API itself finds; those of the engine are core/errors.py's."""

    status: int
    detail: str
    remedy: str


KINDS = {
    "bad_request": Kind(status=400, detail="the request cannot be read", remedy="see the API's description"),
    "bad_message": Kind(
        status=400,
        detail="a message cannot be read",
        remedy='send samples as binary messages, then the text {"end": true}',
    ),
    "bad_multipart": Kind(
        status=400, detail="the multipart body cannot be read", remedy="send it as RFC 7578 says"
    ),
    "unauthenticated": Kind(
        status=401,
        detail="this needs an API key",
        remedy="send `Authorization: Bearer KEY`; `stemwright keys create` makes one",
    ),
    "bad_origin": Kind(
        status=403,
        detail="a page of another site sent this",
        remedy="call from the service's own page, or have its operator add the site to cors_origins",
    ),
    "bad_csrf_token": Kind(
        status=403,
        detail="the request lacks the session's CSRF token",
        remedy="send the token that the login gave as X-CSRF-Token",
    ),
    "bad_host": Kind(
        status=421,
        detail="this is not a host of that name",
        remedy="use the server's own name, or have its operator add this one to allowed_hosts",
    ),
    "not_found": Kind(status=404, detail="there is nothing of this address", remedy="see /openapi.json"),
    "stem_not_found": Kind(
        status=404, detail="the job has no such stem", remedy="its result lists the stems"
    ),
    "method_not_allowed": Kind(
        status=405, detail="this address has no such method", remedy="the Allow header names those it has"
    ),
    "slow_client": Kind(
        status=408,
        detail="the request's body stopped coming",
        remedy="send it again, or use POST /v1/uploads",
    ),
    "wrong_offset": Kind(
        status=409,
        detail="the upload goes on at another offset",
        remedy="HEAD the upload and go on at its Upload-Offset",
    ),
    "not_finished": Kind(
        status=409, detail="the job has no result yet", remedy="follow its events until it succeeds"
    ),
    "upload_in_use": Kind(
        status=409, detail="another request or a job uses the upload", remedy="wait for that to end"
    ),
    "upload_complete": Kind(status=409, detail="the upload is complete", remedy="make a job of it"),
    "length_required": Kind(status=411, detail="the length is missing", remedy="send Upload-Length"),
    "too_large": Kind(
        status=413, detail="the upload is larger than this service accepts", remedy="send a smaller file"
    ),
    "unsupported_media_type": Kind(
        status=415,
        detail="a body of this Content-Type is not taken",
        remedy="send multipart/form-data, or application/json with an upload_id",
    ),
    "range_not_satisfiable": Kind(
        status=416, detail="the range lies outside of the file", remedy="Content-Range tells its size"
    ),
    "invalid": Kind(status=422, detail="the request has fields that cannot be used", remedy="see `errors`"),
    "too_many_streams": Kind(
        status=429, detail="this key follows too many jobs at a time", remedy="close some event streams"
    ),
    "internal_error": Kind(
        status=500, detail="the service failed", remedy="report the request_id to its operator"
    ),
    "unavailable": Kind(
        status=503, detail="the service cannot take this now", remedy="try again after Retry-After seconds"
    ),
    "no_worker": Kind(
        status=503, detail="no worker took this in time", remedy="try again after Retry-After seconds"
    ),
}
