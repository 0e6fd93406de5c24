"""What a job made: stem files, all of them as a zip, overviews and pieces for players."""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Literal

import zipstream
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from stemwright.core.errors import OptionError
from stemwright.service.api import side
from stemwright.service.api.context import CallerDep, Service, ServiceDep, in_thread
from stemwright.service.api.describing import binary
from stemwright.service.api.problems import ProblemError, documented, shown
from stemwright.service.api.ranges import (
    Disposition,
    ServedFile,
    content_disposition,
    in_blocks,
    matches,
    send_file,
)
from stemwright.service.api.routes.jobs import JobId
from stemwright.service.errors import BusyError, NotFoundError
from stemwright.service.jobs.model import JobStatus, JobView, StemView
from stemwright.service.storage import Storage

router = APIRouter(tags=["results"])

Name = Annotated[
    str,
    Path(description="Name of a stem, or of its file.", max_length=500, min_length=1, examples=["vocals"]),
]
DispositionQuery = Annotated[Disposition, Query(description="Whether a browser plays it or saves it.")]
AUDIO_TYPES = ("audio/wav", "audio/flac", "audio/mpeg", "audio/ogg", "audio/mp4", "video/mp4")
_MEDIA_PROBLEMS = (NotFoundError, "stem_not_found", "not_finished", "invalid", BusyError, "unavailable")
_FILE_HEADERS = ("ETag", "Accept-Ranges", "Content-Disposition")
_PEAKS_TYPE = "application/vnd.stemwright.peaks"
_CACHE = "private, max-age=3600"


class PreviewView(BaseModel):
    """How a stem is cut into pieces."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sample_rate": 44100,
                    "channels": 2,
                    "frames": 7938000,
                    "bit_depth": "16",
                    "piece_frames": 441000,
                    "pieces": 18,
                    "formats": ["wav", "flac"],
                }
            ]
        }
    )

    sample_rate: int
    channels: int
    frames: int
    bit_depth: str
    piece_frames: int = Field(description="Frames of each piece but the last.")
    pieces: int = Field(description="Pieces are numbered from 0 to one less.")
    formats: list[str] = Field(description="Formats that hold the samples exactly.")


class PeaksView(BaseModel):
    """A waveform at one zoom: for each channel a list of values, full scale 1."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sample_rate": 44100,
                    "channels": 1,
                    "frames": 1024,
                    "zooms": [256],
                    "samples_per_bin": 256,
                    "min": [[-0.1, -0.2, -0.3, -0.1]],
                    "max": [[0.1, 0.2, 0.3, 0.1]],
                    "rms": [[0.05, 0.1, 0.1, 0.05]],
                }
            ]
        }
    )

    sample_rate: int
    channels: int
    frames: int
    zooms: list[int] = Field(description="Samples in a bin of every zoom there is.")
    samples_per_bin: int
    min: list[list[float]]
    max: list[list[float]]
    rms: list[list[float]]


def finished(job: JobView) -> JobView:
    """Return a job that has results; raises ProblemError for another."""
    if job.status is not JobStatus.succeeded:
        raise ProblemError("not_finished", f"the job is {job.status.value}")
    return job


def find_stem(job: JobView, name: str) -> StemView:
    """Return the file of a stem, by the stem's name or the file's.

    Raises
    ------
    ProblemError
        The job is not done, or has no such stem.
    """
    for stem in finished(job).stems:
        if name in (stem.name, stem.file) or name in stem.stems:
            return stem
    raise ProblemError(
        "stem_not_found",
        f"the job has no stem {shown(name)!r}",
        f"it has {', '.join(stem.name for stem in job.stems)}",
    )


def served(job: JobView, stem: StemView) -> ServedFile:
    """Return the file of a stem as it is sent, named after the recording."""
    title = job.name.rpartition(".")[0] or job.name
    return ServedFile(
        key=stem.key, size=stem.size, etag=stem.etag, mime=stem.mime, name=f"{title} - {stem.file}"
    )


@router.get(
    "/v1/jobs/{job_id}/stems/{name}",
    response_class=StreamingResponse,
    responses={
        200: binary("The file.", *AUDIO_TYPES, headers=_FILE_HEADERS),
        206: binary("A part of the file.", *AUDIO_TYPES, headers=(*_FILE_HEADERS, "Content-Range")),
        304: {"description": "You have it already."},
        **documented(
            NotFoundError, "stem_not_found", "not_finished", "range_not_satisfiable", "invalid", BusyError
        ),
    },
    summary="Get a stem",
)
async def get_stem(
    request: Request,
    job_id: JobId,
    name: Name,
    service: ServiceDep,
    caller: CallerDep,
    disposition: DispositionQuery = "inline",
) -> Response:
    """Send a stem file, or the part of it that `Range` asks for."""
    job = await service.board.get(job_id, owner=caller.owner)
    return await send_file(request, service.storage, served(job, find_stem(job, name)), disposition)


@router.head(
    "/v1/jobs/{job_id}/stems/{name}",
    response_class=Response,
    responses={
        200: {
            "description": "Size, tag and type of the file.",
            "content": {},
            "headers": {header: {"schema": {"type": "string"}} for header in _FILE_HEADERS},
        },
        206: {"description": "The same of a part.", "content": {}},
        304: {"description": "You have it already."},
        **documented(
            NotFoundError, "stem_not_found", "not_finished", "range_not_satisfiable", "invalid", BusyError
        ),
    },
    summary="Ask for a stem's size",
)
async def get_stem_head(
    request: Request,
    job_id: JobId,
    name: Name,
    service: ServiceDep,
    caller: CallerDep,
    disposition: DispositionQuery = "inline",
) -> Response:
    """Answer as to GET, without the bytes."""
    return await get_stem(request, job_id, name, service, caller, disposition)


@router.get(
    "/v1/jobs/{job_id}/archive.zip",
    response_class=StreamingResponse,
    responses={
        200: binary("All files of the job, stored.", "application/zip", headers=("Content-Disposition",)),
        **documented(NotFoundError, "not_finished", "invalid", BusyError),
    },
    summary="Get all stems as a zip",
)
async def get_archive(job_id: JobId, service: ServiceDep, caller: CallerDep) -> Response:
    """Stream all stem files and `result.json` as a zip, made as it is sent."""
    return await archive(service.storage, finished(await service.board.get(job_id, owner=caller.owner)))


async def archive(storage: Storage, job: JobView) -> Response:
    """Return the answer that streams a job's files as a zip of known size."""
    blocks, size = await in_thread(_zipped, storage, job)
    title = job.name.rpartition(".")[0] or job.name
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": content_disposition(f"{title}.zip", "attachment"),
        "Cache-Control": _CACHE,
    }
    return StreamingResponse(in_blocks(blocks), headers=headers, media_type="application/zip")


def _zipped(storage: Storage, job: JobView) -> tuple[Iterator[bytes], int]:
    """Return the zip's bytes and how many there are; audio does not deflate, so that it is stored."""
    stream = zipstream.ZipStream(sized=True)
    for stem in job.stems:
        storage.size(stem.key)  # a file that is gone must be an answer, not half a zip
        stream.add(storage.open_range(stem.key), stem.file, size=stem.size)
    stream.add(json.dumps(job.result, indent=2, ensure_ascii=False).encode() + b"\n", "result.json")
    return iter(stream), len(stream)


@router.get(
    "/v1/jobs/{job_id}/peaks/{name}",
    response_model=PeaksView,
    responses={
        200: {
            "description": "The waveform; of the binary form, every zoom.",
            "content": {_PEAKS_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            "headers": {"ETag": {"schema": {"type": "string"}}},
        },
        304: {"description": "You have it already."},
        **documented(*_MEDIA_PROBLEMS),
    },
    summary="Get the waveform of a stem",
)
async def get_peaks(
    request: Request,
    job_id: JobId,
    name: Name,
    service: ServiceDep,
    caller: CallerDep,
    bins: Annotated[
        int, Query(ge=1, le=1 << 20, description="The coarsest zoom of at least so many bins.")
    ] = 1000,
    form: Annotated[
        Literal["json", "binary"], Query(description="`binary` is all zooms, as docs/service.md tells.")
    ] = "json",
) -> Response:
    """Return least, greatest and RMS values of a stem's waveform, bin by bin."""
    stem, part = await _one_stem(service, job_id, caller.owner, name)
    etag = _tag(stem, part, form, bins if form == "json" else 0)
    headers = {"ETag": f'"{etag}"', "Cache-Control": _CACHE}
    if matches(request.headers.get("if-none-match"), etag, weak=True):
        return Response(status_code=304, headers=headers)
    if form == "binary":
        body = await service.side.call(side.peaks_bytes, job_id, stem, part)
        return Response(body, headers=headers, media_type=_PEAKS_TYPE)
    body = await service.side.call(side.peaks_json, job_id, stem, part, bins)
    return Response(body, headers=headers, media_type="application/json")


@router.get(
    "/v1/jobs/{job_id}/preview/{name}",
    responses=documented(*_MEDIA_PROBLEMS),
    summary="Ask how a stem is cut into pieces",
)
async def get_preview(job_id: JobId, name: Name, service: ServiceDep, caller: CallerDep) -> PreviewView:
    """Return how many pieces there are, and of what length."""
    stem, part = await _one_stem(service, job_id, caller.owner, name)
    return PreviewView.model_validate(await service.side.call(side.preview_facts, job_id, stem, part))


@router.get(
    "/v1/jobs/{job_id}/preview/{name}/{segment}",
    response_class=StreamingResponse,
    responses={
        200: binary("The piece.", "audio/wav", "audio/flac", headers=_FILE_HEADERS),
        206: binary("A part of the piece.", "audio/wav", "audio/flac", headers=_FILE_HEADERS),
        304: {"description": "You have it already."},
        **documented(*_MEDIA_PROBLEMS, OptionError, "range_not_satisfiable"),
    },
    summary="Get a piece of a stem",
)
async def get_piece(
    request: Request,
    job_id: JobId,
    name: Name,
    segment: Annotated[int, Path(ge=0, le=1 << 31, description="Which piece, counted from 0.")],
    service: ServiceDep,
    caller: CallerDep,
    form: Annotated[Literal["wav", "flac"], Query(description="Format of the piece.")] = "wav",
) -> Response:
    """Send one piece; all pieces in a row are the stem, exact to the sample."""
    stem, part = await _one_stem(service, job_id, caller.owner, name)
    key = await service.side.call(side.piece_key, job_id, stem, segment, form, part)
    file = ServedFile(
        key=key,
        size=await in_thread(service.storage.size, key),
        etag=_tag(stem, part, form, segment),
        mime=f"audio/{form}",
        name=f"{part}-{segment}.{form}",
    )
    return await send_file(request, service.storage, file, "inline")


async def _one_stem(service: Service, job_id: str, owner: str, name: str) -> tuple[StemView, str]:
    """Return the file that has a stem, and the stem's name in it."""
    stem = find_stem(await service.board.get(job_id, owner=owner), name)
    if name in stem.stems:
        return stem, name
    if len(stem.stems) == 1:
        return stem, stem.stems[0]
    raise ProblemError("stem_not_found", remedy=f"name one of {', '.join(stem.stems)}")


def _tag(stem: StemView, part: str, form: str, number: int) -> str:
    text = f"{stem.etag} {part} {form} {number}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
