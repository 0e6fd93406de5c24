"""Writing the stems of one track while they come: clip modes, and encoding beside the network.

The shared gain is known only at the end. So each file is encoded as its blocks come, as if no gain were
needed (mostly none is), and the raw float32 samples are kept beside it on the disk. Once a sample beyond
full scale has been seen, encoding stops and only the raw samples are kept; at the end the files are
encoded from them with the one gain. Memory does not depend on the duration.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import AudioWriter, OutputFormat, open_writer
from stemwright.core.audio.source import AudioInfo
from stemwright.core.audio.tags import Tags
from stemwright.core.closing import Closing
from stemwright.core.errors import output_error

ClipMode = Literal["shared", "clamp", "float"]

# Largest value of 16-bit audio, 32767/32768: at exactly 1.0 the rounding would clip.
FULL_SCALE = 1.0 - 2.0**-15
RAW_BYTES_PER_SAMPLE = 4
# Blocks that may wait for a file's thread; a block is at most a chunk of the network.
_WAITING = 4
_RAW_BLOCK_FRAMES = 65_536


@dataclass(frozen=True, kw_only=True)
class StemFile:
    """A file to write: the stems whose channels it holds, in order, and where it is staged."""

    stems: tuple[str, ...]
    path: Path
    tags: Tags | None = None


@dataclass(frozen=True, kw_only=True)
class Levels:
    """What was done about samples beyond full scale.

    Parameters
    ----------
    gain
        Factor that all stems were multiplied with.
    peak
        Largest magnitude over all stems before the gain.
    clamped_samples
        Samples that were set to full scale (clip mode `clamp`).
    """

    gain: float
    peak: float
    clamped_samples: int


def keeps_raw_samples(fmt: OutputFormat, clip_mode: ClipMode) -> bool:
    """Whether raw samples are kept on the disk until the end of the track."""
    return clip_mode == "shared" and fmt.bit_depth != "32f"


class StemFilesWriter(Closing):
    """Writes blocks of stems to files; a context manager.

    Parameters
    ----------
    files
        What to write.
    scratch
        Folder for the raw samples; everything in it is removed by its owner.
    fmt, clip_mode
        Format of the files, and what happens beyond full scale. `float` needs a float format.
    info
        The recording: rate, channels, layout and start of the stems.
    """

    def __init__(
        self,
        files: Sequence[StemFile],
        scratch: Path,
        *,
        fmt: OutputFormat,
        clip_mode: ClipMode,
        info: AudioInfo,
    ) -> None:
        self._clamp = clip_mode == "clamp"
        self._peak = 0.0
        self._clamped = 0
        keep = keeps_raw_samples(fmt, clip_mode)
        self._lanes: list[_Lane] = []
        try:
            for index, file in enumerate(files):
                raw = scratch / f".raw-{index}.f32" if keep else None
                self._lanes.append(_Lane(file, raw, fmt=fmt, info=info))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the threads; files that were not finished are not left behind."""
        for lane in self._lanes:
            lane.close()

    def write(self, stems: Mapping[str, FloatArray]) -> None:
        """Take the next block of every stem, each shape=(channels, n); may keep the arrays."""
        peak = max(peak_of(block) for block in stems.values())
        self._peak = max(self._peak, peak)
        if self._clamp and peak > 1.0:
            self._clamped += sum(int(np.count_nonzero(np.abs(block) > 1.0)) for block in stems.values())
            stems = {name: np.clip(block, -1.0, 1.0) for name, block in stems.items()}
        for lane in self._lanes:
            if self._peak > 1.0:
                lane.expect_gain()
            lane.write([stems[name] for name in lane.file.stems])

    def finish(self) -> Levels:
        """Finish all files and return the levels."""
        kept = any(lane.raw is not None for lane in self._lanes)
        gain = FULL_SCALE / self._peak if kept and self._peak > 1.0 else 1.0
        for future in [lane.finish(gain) for lane in self._lanes]:
            future.result()
        return Levels(gain=gain, peak=self._peak, clamped_samples=self._clamped)


class _Lane:
    """One file, its raw samples, and the thread that writes both."""

    def __init__(self, file: StemFile, raw: Path | None, *, fmt: OutputFormat, info: AudioInfo) -> None:
        self.file = file
        self.raw = raw
        channels = info.channels * len(file.stems)
        layout = info.layout if len(file.stems) == 1 else None
        self._open: Callable[[], AudioWriter] = lambda: open_writer(
            file.path,
            fmt,
            info.sample_rate,
            channels,
            layout=layout,
            tags=file.tags,
            start_s=info.start_s,
        )
        self._channels = channels
        self._gain_expected = False
        self._pending: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stemwright-encode")
        self._raw_stream: BinaryIO | None = None
        self._writer: AudioWriter | None = None
        self._stack = contextlib.ExitStack()
        try:
            if raw is not None:
                self._raw_stream = self._stack.enter_context(_create(raw))
            self._writer = self._stack.enter_context(self._open())
        except BaseException:
            self.close()
            raise

    def expect_gain(self) -> None:
        """Stop encoding where the raw samples are kept: the file will be made from those."""
        self._gain_expected = self.raw is not None

    def write(self, blocks: Sequence[FloatArray]) -> None:
        while len(self._pending) >= _WAITING:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._write, blocks, encode=not self._gain_expected))

    def finish(self, gain: float) -> Future[None]:
        while self._pending:
            self._pending.popleft().result()
        return self._thread.submit(self._finish, gain)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._stack.close()

    def _write(self, blocks: Sequence[FloatArray], *, encode: bool) -> None:
        block = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        if self._raw_stream is not None and self.raw is not None:
            try:
                self._raw_stream.write(np.ascontiguousarray(block.T).data)
            except OSError as error:
                raise output_error(self.raw, error) from error
        if encode and self._writer is not None:
            self._writer.write(block)

    def _finish(self, gain: float) -> None:
        if gain == 1.0:
            self._commit()
        else:
            self._encode_again(gain)
        if self.raw is not None:
            self.raw.unlink()

    def _commit(self) -> None:
        if self._writer is not None:
            self._writer.commit()
        self._stack.close()

    def _encode_again(self, gain: float) -> None:
        self._stack.close()  # drops the file that was encoded so far, and closes the raw one
        if self.raw is None:
            return
        with self._open() as writer:
            for block in raw_blocks(self.raw, self._channels):
                writer.write(block * np.float32(gain))
            writer.commit()


def _create(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise output_error(path, error) from error


def raw_blocks(path: Path, channels: int, block_frames: int = _RAW_BLOCK_FRAMES) -> Iterator[FloatArray]:
    """Read raw float32 frames back as blocks, shape=(channels, n)."""
    size = block_frames * channels
    with path.open("rb") as stream:
        while (values := np.fromfile(stream, np.float32, size)).size:
            yield np.ascontiguousarray(values.reshape(-1, channels).T)


def peak_of(block: FloatArray) -> float:
    """Return the largest magnitude in a block, 0 for an empty one, without a temporary array."""
    return float(max(block.max(initial=0.0), -block.min(initial=0.0)))
