"""The process of one stream. Run as a program by `process.py`; samples in, stems out, over pipes.

It ends when its parent closes the pipe, whether by intention or by dying.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, cast

from stemwright.core.audio.pcm import PcmFormat
from stemwright.core.errors import InternalError, StemwrightError
from stemwright.models.registry.store import InstalledModel, ModelStore
from stemwright.models.separation.streaming import StreamSession, not_streamable, require_streamable
from stemwright.models.sessions.opening import SessionOptions
from stemwright.service.isolation.messages import Failure, as_json
from stemwright.service.live import messages
from stemwright.service.live.messages import LiveHead, LiveStart
from stemwright.service.logs import configure_logs, set_request_id
from stemwright.service.streaming import PcmStream

_LOG = logging.getLogger(__name__)


class _ParentGoneError(Exception):
    """The pipe was closed before the stream's end."""


def main() -> None:
    """Serve one stream."""
    start = LiveStart(**json.loads(sys.argv[1]))
    configure_logs(start.log_level, start.log_format)
    set_request_id(start.request_id)
    pipe = _own_standard_output()
    with suppress(BrokenPipeError, _ParentGoneError):
        try:
            _serve(start, pipe)
        except StemwrightError as error:
            failure = Failure(code=error.code, message=error.message, remedy=error.remedy)
            _send(pipe, messages.FAILURE, as_json(failure))
        except (BrokenPipeError, _ParentGoneError):
            raise
        except Exception as error:
            _LOG.exception("the stream failed")
            failure = Failure(code=None, message=type(error).__name__, remedy="")
            _send(pipe, messages.FAILURE, as_json(failure))


def _own_standard_output() -> int:
    """Keep the pipe for messages: what a library prints goes to standard error."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    return pipe


def _serve(start: LiveStart, pipe: int) -> None:
    model = ModelStore(Path(start.models_dir)).find(start.model)
    if not isinstance(model, InstalledModel):
        raise not_streamable(model.name)
    require_streamable(model.manifest)
    options = SessionOptions(device=start.device, precision=start.precision)
    with StreamSession.open(
        model, sample_rate=start.sample_rate, channels=start.channels, options=options
    ) as session:
        source = PcmFormat(
            encoding=start.encoding, sample_rate=session.sample_rate, channels=session.channels
        )
        stream = PcmStream(
            session=session,
            source=source,
            encoding=start.encoding,
            stems=tuple(start.stems) if start.stems is not None else None,
            piece_s=start.piece_s,
        )
        _send(pipe, messages.HEAD, json.dumps(asdict(_head(stream))).encode())
        for data in _samples(cast(BinaryIO, sys.stdin.buffer)):
            _give(pipe, stream, stream.feed(data))
        _give(pipe, stream, stream.end())
        _send(pipe, messages.REPORT, json.dumps(stream.report().as_dict()).encode())


def _head(stream: PcmStream) -> LiveHead:
    session, latency = stream.session, stream.session.latency
    return LiveHead(
        model=session.manifest.name,
        stems=stream.stems or session.stems,
        sample_rate=stream.source.sample_rate,
        channels=stream.source.channels,
        output_channels=stream.target.channels,
        format=stream.encoding,
        latency_s=latency.algorithmic_s,
        model_latency_s=latency.model_s,
        resampling_latency_s=latency.resampling_s,
        piece_s=stream.piece_s,
    )


def _samples(source: BinaryIO) -> Iterator[bytes]:
    """Give what comes until its end is said."""
    while True:
        kind, size = messages.HEADER.unpack(_exactly(source, messages.HEADER.size))
        if kind == messages.END:
            return
        if kind != messages.SAMPLES or size > messages.MAX_BYTES:
            raise InternalError("the parent of the stream's process sends nonsense", "see the server's log")
        yield _exactly(source, size)


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise _ParentGoneError
    return data


def _give(pipe: int, stream: PcmStream, data: bytes) -> None:
    """Send stems in messages of whole samples."""
    frame = stream.target.frame_bytes
    for piece in messages.split(data, max(1, messages.MAX_BYTES // frame) * frame):
        _send(pipe, messages.SAMPLES, piece)


def _send(pipe: int, kind: bytes, data: bytes | memoryview) -> None:
    for part in (memoryview(messages.HEADER.pack(kind, len(data))), memoryview(data)):
        rest = part
        while rest:
            rest = rest[os.write(pipe, rest) :]


if __name__ == "__main__":
    main()
