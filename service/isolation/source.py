"""A recording that is decoded in another process, with the protocol of `AudioSource`."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import pydantic

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.decode import MAX_CHANNELS
from stemwright.core.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ
from stemwright.core.audio.source import BLOCK_FRAMES, AudioInfo
from stemwright.core.audio.tags import MAX_COVER_BYTES, Tags
from stemwright.core.errors import InputError
from stemwright.service.isolation import messages
from stemwright.service.isolation.decoders import Decoders
from stemwright.service.isolation.limits import DecodeLimits
from stemwright.service.isolation.link import Link, started

if TYPE_CHECKING:
    from stemwright.service.tracks import TrackOptions

_INFO = pydantic.TypeAdapter(AudioInfo)
_FIELDS = pydantic.TypeAdapter(dict[str, str])


class IsolatedSource:
    """A file from a stranger. Made by `open_isolated`; a context manager.

    One process serves all readings that come one after the other; a reading beside another one gets
    a process of its own.

    Attributes
    ----------
    path
        The file that is read.
    name
        What to call it in messages and results.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        limits: DecodeLimits,
        start_s: float,
        end_s: float | None,
        stream: int,
        decoders: Decoders | None,
    ) -> None:
        self.path = path
        self.name = name
        self._limits = limits
        self._start = started(path, name, limits, start_s=start_s, end_s=end_s, stream=stream)
        self._lock = threading.Lock()
        self._idle: Link | None = None
        self._links: set[Link] = set()
        self._closed = False
        self._info: AudioInfo | None = None
        self._decoders = decoders or Decoders()
        self._ends_decoders = decoders is None
        try:
            with self._link():
                pass
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> AudioInfo:
        """Rate, channels and what else the header says."""
        if self._info is None:
            raise RuntimeError("the source was never opened")
        return self._info

    @property
    def seconds(self) -> float | None:
        """Length by the header, None if unknown."""
        return None if self.info.frames is None else self.info.frames / self.info.sample_rate

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[FloatArray]:
        """Float32 blocks, shape=(channels, n), all of block_frames but the last, n > 0.

        Raises
        ------
        InputError
            As for a `FileSource`; also where the recording is longer than allowed, or the process died,
            fell silent or used more than it may.
        OptionError
            The excerpt starts behind the end.
        """
        if block_frames < 1:
            raise ValueError(f"block_frames must be positive, not {block_frames}")
        channels = self.info.channels
        most = {messages.BLOCK: channels * block_frames * 4, messages.END: 0}
        given = 0
        with self._link() as link:
            link.request("blocks", block_frames=block_frames)
            while True:
                kind, data = link.receive(most)
                if kind == messages.END:
                    break
                block = self._checked(data, channels)
                given += block.shape[1]
                self._refuse_longer(given)
                yield block
            if given == 0:
                raise InputError(f"{self.name} has no audio samples", "check that the file is complete")

    def tags(self) -> Tags:
        """Read the recording's tags and cover; raises InputError as `read_tags` does."""
        with self._link() as link:
            link.request("tags")
            _, fields = link.receive({messages.TAGS: messages.MAX_JSON_BYTES})
            _, cover = link.receive({messages.COVER: MAX_COVER_BYTES})
            try:
                return Tags(fields=_FIELDS.validate_json(bytes(fields)), cover=bytes(cover) or None)
            except pydantic.ValidationError as error:
                raise self._nonsense() from error

    def close(self) -> None:
        """End all processes; a reading that is under way fails."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, None
            for link in self._links:
                link.stop()
        if idle is not None:
            self._drop(idle)
        if self._ends_decoders:
            self._decoders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _link(self) -> Iterator[Link]:
        """Lend a process; whatever goes wrong meanwhile, an early end included, costs it its life."""
        link = self._take()
        try:
            yield link
        except BaseException:
            self._drop(link)
            raise
        with self._lock:
            if self._idle is None and not self._closed:
                self._idle = link
                return
        self._drop(link)

    def _take(self) -> Link:
        with self._lock:
            if self._closed:
                raise ValueError("the source is closed")
            link, self._idle = self._idle, None
        if link is not None:
            return link
        link = Link(self._start, self._limits, self._decoders)
        with self._lock:
            self._links.add(link)
        try:
            _, data = link.receive({messages.INFO: messages.MAX_JSON_BYTES})
            self._learn(data)
        except BaseException:
            self._drop(link)
            raise
        return link

    def _drop(self, link: Link) -> None:
        with self._lock:
            self._links.discard(link)
        link.kill()

    def _learn(self, data: bytearray) -> None:
        try:
            info = _INFO.validate_json(bytes(data))
        except pydantic.ValidationError as error:
            raise self._nonsense() from error
        sane = (
            MIN_RATE_HZ <= info.sample_rate <= MAX_RATE_HZ
            and 1 <= info.channels <= MAX_CHANNELS
            and len(info.layout) == info.channels
            and (info.frames is None or info.frames >= 0)
            and math.isfinite(info.start_s)
        )
        if not sane:
            raise self._nonsense()
        if self._info is not None and info != self._info:
            raise InputError(f"{self.name} changed while it was read", "give it again")
        self._info = info
        self._refuse_longer(info.frames or 0)

    def _checked(self, data: bytearray, channels: int) -> FloatArray:
        samples: FloatArray = np.frombuffer(data, "<f4")
        if samples.size == 0 or samples.size % channels:
            raise self._nonsense()
        # a finite sum of magnitudes proves every sample finite
        if not np.isfinite(np.abs(samples).sum(dtype=np.float64)):
            raise self._nonsense()
        return samples.reshape(channels, -1)

    def _refuse_longer(self, frames: int) -> None:
        most = self._limits.max_audio_s
        if frames > most * self.info.sample_rate:
            raise InputError(
                f"{self.name} is longer than the {_duration(most)} that are allowed",
                "cut it into shorter parts",
            )

    def _nonsense(self) -> InputError:
        return InputError(f"{self.name} makes the decoder answer nonsense", "convert it to WAV or FLAC")


def open_isolated(
    path: str | Path,
    *,
    name: str | None = None,
    limits: DecodeLimits | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    stream: int = 0,
    decoders: Decoders | None = None,
) -> IsolatedSource:
    """Open a recording from a stranger: `core.audio.source.open_source`, decoded in another process.

    Its `info` and `seconds` are the probe; nothing but the header and the first frame was decoded then.

    Parameters
    ----------
    path
        The file.
    name
        What to call it; by default the file's own name.
    limits
        What the process may use.
    start_s, end_s, stream
        As for `open_source`.
    decoders
        Starts the processes; None for one of its own, which takes longer.

    Raises
    ------
    InputError
        As for `open_source`; also where the recording is longer than allowed, or the process died, fell
        silent or used more than it may.
    OptionError
        Times that make no excerpt.
    InternalError
        The process does not start.
    """
    path = Path(path)
    return IsolatedSource(
        path,
        name=name or path.name,
        limits=limits or DecodeLimits(),
        start_s=start_s,
        end_s=end_s,
        stream=stream,
        decoders=decoders,
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def isolating_opener(
    limits: DecodeLimits, *, name: str | None = None
) -> "Callable[[str | Path, TrackOptions], IsolatedSource]":
    """Return an `opener` for `service.tracks.separate_to_files`.

    Parameters
    ----------
    limits
        What the process may use.
    name
        What to call the recording; by default the file's own name.
    """

    def open_it(path: str | Path, options: "TrackOptions") -> IsolatedSource:
        return open_isolated(path, name=name, limits=limits, start_s=options.start_s, end_s=options.end_s)

    return open_it
