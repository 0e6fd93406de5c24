"""Signals and files with known content."""

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
import soundfile
from av.audio.stream import AudioStream

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.source import open_source

RATE = 44_100


def tone(frames: int, channels: int = 2, rate: int = RATE, seed: int = 0) -> FloatArray:
    """Different tones in the channels and a little noise, below full scale; shape=(channels, frames)."""
    time = np.arange(frames) / rate
    pitches = 220.0 * (1 + np.arange(channels)[:, None] / 3)
    noise = np.random.default_rng(seed).standard_normal((channels, frames))
    return (0.3 * np.sin(2 * np.pi * pitches * time) + 0.02 * noise).astype(np.float32)


def read(path: Path, **options: float | int | None) -> FloatArray:
    """All samples of a file."""
    with open_source(path, **options) as source:  # type: ignore[arg-type]
        return np.concatenate(list(source.blocks()), axis=1)


def write(path: Path, samples: FloatArray, rate: int = RATE, **fmt: str | int) -> Path:
    """Write a file by our writer, its format by its suffix."""
    form = OutputFormat(container=path.suffix[1:], **fmt)  # type: ignore[arg-type]
    with open_writer(path, form, rate, samples.shape[0]) as writer:
        for start in range(0, samples.shape[1], 10_000):
            writer.write(samples[:, start : start + 10_000])
        return writer.commit()


def encoded(samples: FloatArray, form: str, subtype: str, rate: int = RATE) -> bytes:
    """A file made by soundfile, independent of our writers."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def muxed(
    samples: FloatArray,
    muxer: str,
    codec: str,
    sample_format: str = "fltp",
    rate: int = RATE,
    *,
    delay: int = 0,
    video: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """A file made by FFmpeg, with a video stream beside it if asked for; `delay` in samples."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer, options=options or {}) as container:
        picture = _video(container) if video else None
        stream = cast(AudioStream, container.add_stream(codec, rate=rate))
        stream.codec_context.layout = "mono" if samples.shape[0] == 1 else "stereo"
        stream.codec_context.format = sample_format
        data: npt.NDArray[np.generic] = samples
        if not sample_format.startswith("flt"):
            data = np.rint(samples * 32767).astype(np.int16)
        if not sample_format.endswith("p"):
            data = data.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data), format=sample_format, layout=stream.codec_context.layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, delay, Fraction(1, rate)
        if picture is not None:
            for number in range(5):
                image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                image.pts, image.time_base = number, Fraction(1, 5)
                container.mux(picture.encode(image.reformat(format="yuv420p")))
            container.mux(picture.encode(None))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _video(container: av.container.OutputContainer) -> av.VideoStream:
    stream = container.add_stream("mpeg4", rate=5)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
    return stream


def silent_video(muxer: str = "mp4") -> bytes:
    """A video without sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer) as container:
        stream = _video(container)
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        image.pts, image.time_base = 0, Fraction(1, 5)
        container.mux(stream.encode(image.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def wav(
    data: bytes,
    *,
    rate: int = RATE,
    channels: int = 1,
    bits: int = 16,
    tag: int = 1,
    before: Sequence[tuple[bytes, bytes]] = (),
    data_size: int | None = None,
) -> bytes:
    """A WAV file by hand, with whatever in its header."""
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    chunks = [(b"fmt ", fmt), *before]
    body = b"".join(
        name + struct.pack("<I", len(text)) + text + b"\0" * (len(text) & 1) for name, text in chunks
    )
    size = len(data) if data_size is None else data_size
    body += b"data" + struct.pack("<I", size & 0xFFFFFFFF) + data
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def png(width: int = 8, height: int = 8) -> bytes:
    """A small picture."""
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 90, np.uint8), format="rgb24")
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = width, height, "rgb24", Fraction(1, 1)
    return bytes(context.encode(frame)[0])


def jpeg(width: int = 16, height: int = 8) -> bytes:
    """A small picture."""
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 90, np.uint8), format="rgb24")
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.time_base = width, height, Fraction(1, 1)
    context.pix_fmt = "yuvj420p"
    return bytes(context.encode(frame.reformat(format="yuvj420p"))[0])
