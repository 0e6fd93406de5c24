"""Where audio comes from: files, streams and arrays, all read as blocks of float32.

A source can be read more than once: every call of `blocks()` starts at the beginning. Nothing
holds more than a block and what the decoder keeps.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.decode import Decoder, StreamFacts
from stemwright.core.audio.frames import default_layout
from stemwright.core.audio.tags import Tags, read_tags
from stemwright.core.errors import InputError, OptionError, ResourceError

BLOCK_FRAMES = 65_536
_SPOOL_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What is known of a source before it is read.

    Parameters
    ----------
    sample_rate
        In Hz.
    channels
        Number of channels.
    layout
        Name of each channel: "FL", "FR", "FC", "LFE" ... as FFmpeg names them.
    frames
        Estimated length from the header, None if unknown; never trusted for the output's length.
    codec, container
        FFmpeg's names, such as "mp3" and "mp3", "aac" and "mov"; "array" for arrays.
    bit_depth
        Bits per sample of the stored samples, None for lossy codecs.
    start_s
        Time of the first sample on the recording's own clock, such as the delay of a video's
        sound; 0 for an excerpt.
    """

    sample_rate: int
    channels: int
    layout: tuple[str, ...]
    frames: int | None
    codec: str
    container: str
    bit_depth: int | None = None
    start_s: float = 0.0


class AudioSource(Protocol):
    """A recording that can be read block by block, from the beginning on every call."""

    @property
    def info(self) -> AudioInfo:
        """Rate, channels and what else is known beforehand."""
        ...

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
        """Float32 blocks, shape=(channels, n), 0 < n <= block_frames."""
        ...


class ArraySource:
    """Samples in memory.

    Parameters
    ----------
    samples
        shape=(channels, n), float32, n >= 1.
    sample_rate
        In Hz.
    layout
        Names of the channels; by default the usual ones for their number.

    Raises
    ------
    InputError
        No samples, or NaN or infinite ones.
    ValueError
        Another number of dimensions than two.
    """

    def __init__(
        self, samples: FloatArray, sample_rate: int, *, layout: tuple[str, ...] | None = None
    ) -> None:
        if samples.ndim != 2 or samples.shape[0] < 1:
            raise ValueError(f"samples have shape {samples.shape}, expected (channels, n)")
        if samples.shape[1] == 0:
            raise InputError("the array has no samples", "give at least one sample")
        self._samples = np.asarray(samples, np.float32)
        self._info = AudioInfo(
            sample_rate=sample_rate,
            channels=samples.shape[0],
            layout=layout or default_layout(samples.shape[0]),
            frames=samples.shape[1],
            codec="array",
            container="array",
            bit_depth=32,
        )
        if not np.isfinite(self._samples).all():
            first = int(np.argmin(np.isfinite(self._samples).all(axis=0)))
            raise InputError(
                f"the array has a NaN or infinite sample at {first / sample_rate:.3f} s",
                "replace or cut out the damaged samples",
            )

    @property
    def info(self) -> AudioInfo:
        """Rate, channels and length."""
        return self._info

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
        """Float32 blocks, shape=(channels, n), 0 < n <= block_frames."""
        for start in range(0, self._samples.shape[1], block_frames):
            yield self._samples[:, start : start + block_frames]


class FileSource:
    """A file, or a stream spooled to one, decoded with FFmpeg's libraries. Made by `open_source`.

    Attributes
    ----------
    path
        The file that is read; for a stream the temporary one, which `close` removes.
    name
        What to call the source in messages and in names of results.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        start_s: float = 0.0,
        end_s: float | None = None,
        stream: int = 0,
        spooled: "tempfile._TemporaryFileWrapper[bytes] | None" = None,
    ) -> None:
        self.path = path
        self.name = name
        self._start_s = start_s
        self._end_s = end_s
        self._spooled = spooled
        self._decoder = Decoder(path, name, stream=stream, whole=end_s is None)
        self._info = self._describe(self._decoder.facts)

    @property
    def info(self) -> AudioInfo:
        """Rate, channels and what else the header says."""
        return self._info

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
        """Float32 blocks, shape=(channels, n), all of block_frames but the last, n > 0.

        Raises
        ------
        InputError
            The file is damaged, shorter than its header says, has no samples, or has NaN or
            infinite ones.
        OptionError
            The excerpt starts behind the end.
        """
        if block_frames < 1:
            raise ValueError(f"block_frames must be positive, not {block_frames}")
        first, last = self._range()
        given = 0
        for block in _regular(_cut(self._decoder.samples(), first, last), block_frames):
            self._check_finite(block, first + given)
            given += block.shape[1]
            yield block
        if given == 0:
            if first > 0:
                raise OptionError(
                    f"{self.name} ends before the excerpt starts, at {self._start_s:g} s",
                    "choose an earlier start",
                )
            raise InputError(f"{self.name} has no audio samples", "check that the file is complete")

    def tags(self) -> Tags:
        """Read the recording's tags and cover; raises InputError as `read_tags` does."""
        return read_tags(self.path)

    def close(self) -> None:
        """Remove the temporary file of a spooled stream; reading is over."""
        if self._spooled is not None:
            self._spooled.close()

    def __enter__(self) -> Self:
        """Enter; `close` is called at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _range(self) -> tuple[int, int | None]:
        rate = self._decoder.facts.sample_rate
        last = None if self._end_s is None else round(self._end_s * rate)
        return round(self._start_s * rate), last

    def _describe(self, facts: StreamFacts) -> AudioInfo:
        first, last = self._range()
        frames = facts.frames
        if frames is not None:
            frames = max(0, (frames if last is None else min(frames, last)) - first)
        return AudioInfo(
            sample_rate=facts.sample_rate,
            channels=len(facts.layout),
            layout=facts.layout,
            frames=frames,
            codec=facts.codec,
            container=facts.container,
            bit_depth=facts.bit_depth,
            start_s=facts.start_s if first == 0 else 0.0,
        )

    def _check_finite(self, block: FloatArray, start: int) -> None:
        # A finite sum of magnitudes proves every sample finite in one pass without a mask.
        if np.isfinite(np.abs(block).sum(dtype=np.float64)):
            return
        bad = start + int(np.argmin(np.isfinite(block).all(axis=0)))
        raise InputError(
            f"{self.name} has a NaN or infinite sample at {bad / self._info.sample_rate:.3f} s",
            "repair the file, or take a part without it with a start and an end time",
        )


def open_source(
    where: str | Path | BinaryIO,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    stream: int = 0,
    name: str | None = None,
) -> FileSource:
    """Open a recording of any kind that FFmpeg's libraries decode.

    Parameters
    ----------
    where
        A path, "-" for standard input, or a binary stream. Streams are copied to a temporary
        file first, because reading takes two passes.
    start_s, end_s
        Excerpt in seconds from the first sample, exact to the sample (`round(t * rate)`); an end
        behind the recording's end means its end.
    stream
        Which of the file's audio streams, counted from 0 (a `.stem.mp4` has the mixture first).
    name
        What to call a file in messages and in names of results; by default its own name.

    Raises
    ------
    InputError
        Missing, a folder, empty, not audio, damaged or cut off, without such a stream, or with
        an absurd sample rate.
    OptionError
        Times that make no excerpt.
    ResourceError
        No room for a stream's temporary file.
    """
    if start_s < 0 or not np.isfinite(start_s):
        raise OptionError(f"the start time {start_s:g} s is not possible", "give a start of 0 s or later")
    if end_s is not None and not end_s > start_s:
        raise OptionError(f"the end time {end_s:g} s is not after the start", "give an end after the start")
    if isinstance(where, str | Path) and str(where) != "-":
        name = name or Path(where).name
        return FileSource(Path(where), name=name, start_s=start_s, end_s=end_s, stream=stream)
    spooled = _spool(where)
    try:
        return FileSource(
            Path(spooled.name),
            name=name or ("standard input" if isinstance(where, str | Path) else "the stream"),
            start_s=start_s,
            end_s=end_s,
            stream=stream,
            spooled=spooled,
        )
    except BaseException:
        spooled.close()
        raise


def _spool(where: str | Path | BinaryIO) -> "tempfile._TemporaryFileWrapper[bytes]":
    stream = sys.stdin.buffer if isinstance(where, str | Path) else where
    spooled = tempfile.NamedTemporaryFile(prefix="stemwright-")
    try:
        shutil.copyfileobj(stream, spooled, _SPOOL_BYTES)
        spooled.flush()
    except OSError as error:
        spooled.close()
        raise ResourceError(
            f"cannot keep the incoming stream in {tempfile.gettempdir()}: {error.strerror}",
            "make room there, or point TMPDIR to a larger disk",
        ) from error
    except BaseException:
        spooled.close()
        raise
    return spooled


def _cut(blocks: Iterator[FloatArray], first: int, last: int | None) -> Iterator[FloatArray]:
    """Frames first..last of a stream of blocks; stops reading at `last`."""
    position = 0
    try:
        for block in blocks:
            end = position + block.shape[1]
            if end > first:
                stop = block.shape[1] if last is None else min(block.shape[1], last - position)
                yield block[:, max(0, first - position) : stop]
            position = end
            if last is not None and position >= last:
                return
    finally:
        if hasattr(blocks, "close"):
            blocks.close()


def _regular(blocks: Iterator[FloatArray], block_frames: int) -> Iterator[FloatArray]:
    """Cut the same frames into blocks of exactly block_frames, but for the last."""
    waiting: list[FloatArray] = []
    held = 0
    for block in blocks:
        while held + block.shape[1] >= block_frames:
            head = block_frames - held
            yield np.concatenate([*waiting, block[:, :head]], axis=1)
            waiting, held = [], 0
            block = block[:, head:]
        if block.shape[1]:
            waiting.append(block)
            held += block.shape[1]
    if held:
        yield np.concatenate(waiting, axis=1)
