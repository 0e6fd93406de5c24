"""From a request's body to a job: multipart with the file in it, or a form or JSON that names an upload."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from stemwright.core.errors import OptionError
from stemwright.service.api.bodies import (
    Form,
    media_type,
    read_json,
    read_urlencoded,
    split_once,
)
from stemwright.service.api.context import Caller, Service, in_thread
from stemwright.service.api.multipart import Target, read_multipart
from stemwright.service.api.problems import ProblemError, invalid_fields
from stemwright.service.api.uploads import Receiver
from stemwright.service.jobs.model import JobSpec, Submitted

FILE_FIELDS = ("file", "query_audio")
_LISTS = ("stems", "query", "metrics")
_OTHER_WAYS = {"detect": "/v1/detect", "score": "/v1/evaluations"}
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


@dataclass(kw_only=True)
class _Wanted:
    """What a body asked for."""

    values: dict[str, Any]
    received: dict[str, Receiver] = field(default_factory=dict)


Meaning = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the fields of a request into those of a job."""


async def submit(
    request: Request, service: Service, caller: Caller, *, meant: Meaning | None = None
) -> Submitted:
    """Take the job that a request describes.

    Whatever fails, the files of the request are removed again.

    Parameters
    ----------
    request, service, caller
        The request, what answers it, and who sent it.
    meant
        What the fields mean; None where they are a job's.

    Raises
    ------
    ProblemError, StemwrightError
        The request cannot be met.
    """
    key = _idempotency_key(request)
    wanted = await _read(request, service, caller)
    taken = False
    try:
        wanted.values = (meant or _as_job)(wanted.values)
        submitted = await _take(service, caller, wanted, key)
        taken = submitted.created
    finally:
        if not taken:
            for receiver in wanted.received.values():
                await service.uploads.discard(receiver.upload)
    return submitted


async def _take(service: Service, caller: Caller, wanted: _Wanted, key: str | None) -> Submitted:
    values = dict(wanted.values)
    content = {name: receiver.sha256 for name, receiver in wanted.received.items()}
    body_hash = _hash({"values": values, "files": content}) if key is not None else None
    upload_id = _upload_id(values, wanted.received.get("file"))
    if "query_audio" in wanted.received:
        values["query_audio"] = wanted.received["query_audio"].upload.id
    spec = parse_spec(values)
    stems = spec.stems or ((spec.two_stems,) if spec.two_stems is not None else ())
    model = spec.model or service.settings.default_model
    if spec.detect is None:
        asks = bool(spec.query) or spec.query_audio is not None or spec.auto
        await in_thread(service.catalogue.check, model, stems, asks=asks)
        await in_thread(_check_labels, spec.query)
    return await service.board.submit(
        spec, owner=caller.owner, upload_id=upload_id, idempotency_key=key, body_hash=body_hash
    )


async def submit_evaluation(
    request: Request, service: Service, caller: Caller, values: dict[str, Any]
) -> Submitted:
    """Take a job that only scores; `values` are its fields, its uploads named.

    Raises
    ------
    ProblemError, StemwrightError
        The request cannot be met.
    """
    key = _idempotency_key(request)
    spec = parse_spec(values)
    if spec.score is None:
        raise ValueError("an evaluation needs something to score")
    return await service.board.submit(
        spec,
        owner=caller.owner,
        upload_id=spec.score.first,
        idempotency_key=key,
        body_hash=_hash({"values": values, "files": {}}) if key is not None else None,
    )


def _check_labels(labels: tuple[str, ...]) -> None:
    """Refuse a label that no class of sound has, naming the nearest."""
    if labels:
        from stemwright.models.query.matching import resolve  # reads the ontology when it is first wanted

        for label in labels:
            resolve(label)


def _as_job(values: dict[str, Any]) -> dict[str, Any]:
    """Take the fields as they are."""
    for name, path in _OTHER_WAYS.items():
        if name in values:
            raise ProblemError("invalid", fields={name: f"is asked by POST {path}"})
    return values


def parse_spec(values: Mapping[str, Any]) -> JobSpec:
    """Check the options of a job.

    Raises
    ------
    ProblemError
        A field that is not known, or whose value is not possible.
    OptionError
        Options that contradict each other.
    """
    try:
        return JobSpec.model_validate(values)
    except ValidationError as error:
        raise invalid_fields(error) from None


async def _read(request: Request, service: Service, caller: Caller) -> _Wanted:
    timeout_s = service.settings.body_timeout_s
    kind, _ = media_type(request)
    if kind == "application/json":
        return _Wanted(values=await read_json(request, timeout_s))
    if kind == "application/x-www-form-urlencoded":
        return _Wanted(values=form_values(await read_urlencoded(request, timeout_s)))
    if kind != "multipart/form-data":
        raise ProblemError("unsupported_media_type")
    received: dict[str, Receiver] = {}

    async def open_target(name: str, filename: str) -> Target:
        if name not in FILE_FIELDS:
            raise ProblemError(
                "invalid", "a file came in a field of another name", fields={name: "is no field for a file"}
            )
        if name in received:
            raise ProblemError("invalid", "one file a job", fields={name: "came twice"})
        received[name] = await service.uploads.receive(caller.owner, filename)
        return received[name]

    form = await read_multipart(
        request, open_target, max_bytes=service.settings.max_upload_bytes, timeout_s=timeout_s
    )
    try:
        return _Wanted(values=form_values(form), received=received)
    except BaseException:
        for receiver in received.values():
            await service.uploads.discard(receiver.upload)
        raise


def form_values(form: Form) -> dict[str, Any]:
    """Return the options in a form: lists repeated or written `a,b`, empty fields as if left out.

    Raises
    ------
    ProblemError
        A field that came twice and is no list, or one for a file that has none.
    """
    values: dict[str, Any] = {}
    for name, found in form.fields.items():
        if name == "file" or (name in form.files):
            raise ProblemError("invalid", fields={name: "is to be sent as a file, with a file name"})
        given = [value for value in found if value]
        if name in _LISTS:
            if given:
                values[name] = list(split_once(given))
        elif len(given) > 1:
            raise ProblemError("invalid", f"{name} came twice", fields={name: "came twice"})
        elif given:
            values[name] = given[0]
    return values


def _upload_id(values: dict[str, Any], file: Receiver | None) -> str:
    """Take the upload's id out of the options; the file's own if one came."""
    given = values.pop("upload_id", None)
    if file is not None:
        if given is not None:
            raise ProblemError(
                "invalid", "both a file and an upload_id came", fields={"upload_id": "goes without a file"}
            )
        return file.upload.id
    if given is None:
        raise ProblemError("invalid", "neither a file nor an upload_id came", fields={"file": "is missing"})
    if not isinstance(given, str) or not given:
        raise ProblemError("invalid", fields={"upload_id": "is no id"})
    return given


def _idempotency_key(request: Request) -> str | None:
    """Return the Idempotency-Key.

    Raises
    ------
    ProblemError
        It is not printable ASCII of up to 255 characters.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if _KEY.fullmatch(key) is None:
        raise ProblemError(
            "invalid",
            "the Idempotency-Key is malformed",
            "use up to 255 printable ASCII characters, such as a UUID",
            fields={"Idempotency-Key": "is malformed"},
        )
    return key


def _hash(request: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(request, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError("the options cannot be read", "send plain values") from error
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
