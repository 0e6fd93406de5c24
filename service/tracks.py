"""One track: a recording in, its stem files and `result.json` out, all at once.

Used by `separate`, by `batch` and by the HTTP worker.
"""

import contextlib
import importlib.metadata
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from stemwright.core.audio.encode import OutputFormat, check_writable, estimated_bytes
from stemwright.core.audio.source import AudioInfo, AudioSource, FileSource, open_source
from stemwright.core.audio.stem_mp4 import check_stem_mp4, open_stem_writer
from stemwright.core.audio.tags import Tags, for_stem
from stemwright.core.errors import ResourceError, output_error
from stemwright.models.query.queries import AskedStem
from stemwright.models.registry.installed import Installed
from stemwright.models.separation.separator import (
    CancelToken,
    Progress,
    Separation,
    SeparationOptions,
    Separator,
)
from stemwright.service.places import Layout, Place
from stemwright.service.results import (
    FileFacts,
    ModelFacts,
    NetworkFacts,
    QueryFacts,
    TrackResult,
    input_facts,
)
from stemwright.service.staging import Staging, refuse_existing
from stemwright.service.stem_files import (
    FULL_SCALE,
    RAW_BYTES_PER_SAMPLE,
    ClipMode,
    Levels,
    StemFile,
    StemFilesWriter,
    keeps_raw_samples,
)

DEFAULT_STEM_KBPS = 256
_AAC = OutputFormat(container="m4a")
# Left free for headers, tags, the result file and the file system's own needs.
_SPARE_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What separates the tracks of a run.

    Parameters
    ----------
    separator
        The opened models.
    models
        Their facts, for results.
    installed
        The models themselves, for queries.
    """

    separator: Separator
    models: tuple[ModelFacts, ...]
    installed: tuple[Installed, ...] = ()

    @property
    def label(self) -> str:
        """Name of the model, several joined by `+`."""
        return "+".join(model.name for model in self.models)


@dataclass(frozen=True, kw_only=True)
class TrackOptions:
    """How tracks are separated and written.

    Parameters
    ----------
    separation
        Options of the engine.
    fmt
        Format of the files; for layout `stem.mp4` a float format and the bit rate.
    layout
        How stems become files.
    clip_mode
        What happens beyond full scale.
    start_s, end_s
        Excerpt in seconds.
    asked
        What the stems of queries stand for, in the order of `separation.queries`.
    """

    separation: SeparationOptions
    fmt: OutputFormat
    layout: Layout = "file_per_stem"
    clip_mode: ClipMode = "shared"
    start_s: float = 0.0
    end_s: float | None = None
    asked: tuple[AskedStem, ...] = ()

    @property
    def extension(self) -> str:
        """Extension of the files, without the dot."""
        return "stem.mp4" if self.layout == "stem.mp4" else self.fmt.extension.lstrip(".")

    def as_dict(self) -> dict[str, Any]:
        """Return what was asked for, as JSON-ready data."""
        chosen = self.separation
        return {
            "stems": list(chosen.stems) if chosen.stems is not None else None,
            "two_stems": chosen.complement_of,
            "residual": chosen.residual,
            "remainder": chosen.remainder,
            "overlap": chosen.overlap,
            "shifts": chosen.shifts,
            "seed": chosen.seed,
            "format": self.extension,
            "bit_depth": self.fmt.bit_depth if self.extension in ("wav", "flac") else None,
            "bitrate_kbps": self.fmt.bitrate_kbps,
            "clip_mode": self.clip_mode,
            "start_s": self.start_s,
            "end_s": self.end_s,
        } | ({"queries": [stem.as_dict() for stem in self.asked]} if self.asked else {})

    @property
    def groups(self) -> dict[str, str]:
        """Folder of each stem that is one of several levels' alternatives."""
        return {
            query.name: query.exclusive_group
            for query in self.separation.queries
            if query.exclusive_group is not None
        }


class Recording(AudioSource, Protocol):
    """A recording with a name and tags, until it is closed."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    def tags(self) -> Tags:
        """Read the tags."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def separate_to_files(
    engine: Engine,
    source: str | Path,
    place: Place,
    options: TrackOptions,
    *,
    opener: Callable[[str | Path, TrackOptions], Recording] | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
    network: contextlib.AbstractContextManager[Any] | None = None,
    ready: Callable[[TrackResult, Staging], None] | None = None,
) -> TrackResult:
    """Separate one recording into files.

    Nothing is visible under a final name before all of it is complete; on any exception nothing of
    it remains.

    Parameters
    ----------
    engine
        The opened models.
    source
        Path of the recording or of a pipe, `-` for standard input.
    place, options
        Where and how.
    opener
        Opens the source; None for `open_source`. A service gives one that decodes in another process.
    progress, cancel
        Handed to the engine.
    network
        Held while the network works on this track, so that tracks side by side take turns.
    ready
        Called with the result and the staged files when all are complete and about to be put in place.

    Raises
    ------
    StemwrightError
        The recording, the place, the options or the machine do not allow it.
    """
    watch = _Stopwatch()
    if not place.replace:
        refuse_existing(place.out, place.published)
    with contextlib.ExitStack() as stack:
        recording = stack.enter_context((opener or _open_recording)(source, options))
        staging = stack.enter_context(Staging(place.out, place.label))
        job = _Job(engine=engine, recording=recording, place=place, options=options, staging=staging)
        job.check_output(recording.info.frames)
        separation = stack.enter_context(
            engine.separator.separate(recording, options.separation, progress=progress, cancel=cancel)
        )
        job.check_output(separation.frames)
        levels = job.write(separation, watch.turn(network or contextlib.nullcontext()))
        result = job.result(separation, levels, watch.seconds)
        if place.result is not None:
            _write_text(staging.path(place.result), result.as_json())
        if ready is not None:
            ready(result, staging)
        staging.publish(place.published, stale=place.stale, replace=place.replace)
    return result


def _open_recording(source: str | Path, options: TrackOptions) -> FileSource:
    """Open a path, or read a pipe such as the shell's `<(command)`, which can be read but once."""
    if not (str(source) != "-" and Path(source).is_fifo()):
        return open_source(source, start_s=options.start_s, end_s=options.end_s)
    with Path(source).open("rb") as stream:
        return open_source(stream, start_s=options.start_s, end_s=options.end_s)


class _Stopwatch:
    """Time since it was made, without the time of waiting for a turn at the network."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started - self._waited

    @contextlib.contextmanager
    def turn(self, network: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
        before = time.monotonic()
        with network:
            self._waited += time.monotonic() - before
            yield


@dataclass(frozen=True, kw_only=True)
class _Job:
    engine: Engine
    recording: Recording
    place: Place
    options: TrackOptions
    staging: Staging

    @property
    def info(self) -> AudioInfo:
        return self.recording.info

    def check_output(self, frames: int | None) -> None:
        """Fail now rather than after minutes of work: format, place, and room for `frames` if known.

        Raises
        ------
        OutputError, ResourceError
            The files cannot be written, or will not fit.
        """
        stems_each = max(len(file.stems) for file in self.place.files)
        joined = self.options.layout == "joined"
        if self.options.layout == "stem.mp4":
            check_stem_mp4(self.place.files[0].stems, self.info.sample_rate, self.info.channels)
        check_writable(
            self.staging.folder,
            self.options.fmt,
            self.info.sample_rate,
            self.info.channels * (stems_each if joined else 1),
        )
        if frames is not None:
            self._check_room(self._needed_bytes(frames))

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.staging.folder).free
        if free >= needed:
            return
        remedy = "free some space, or choose another -o"
        if keeps_raw_samples(self.options.fmt, self.options.clip_mode):
            remedy += "; --clip-mode clamp needs less, as it keeps no samples until the end"
        raise ResourceError(
            f"{self.place.out} has {free / 1e9:.1f} GB free, the stems need {needed / 1e9:.1f} GB", remedy
        )

    def _needed_bytes(self, frames: int) -> int:
        options, info = self.options, self.info
        size = estimated_bytes(options.fmt, info.sample_rate, info.channels, frames)
        if options.layout == "stem.mp4":
            size += estimated_bytes(_AAC, info.sample_rate, info.channels, frames)
        elif keeps_raw_samples(options.fmt, options.clip_mode):
            size += frames * info.channels * RAW_BYTES_PER_SAMPLE
        return _SPARE_BYTES + size * sum(len(file.stems) for file in self.place.files)

    def write(self, separation: Separation, network: contextlib.AbstractContextManager[Any]) -> Levels:
        """Stream the stems into their staged files."""
        tags = self.recording.tags()
        if self.options.layout == "stem.mp4":
            return self._write_stem_mp4(separation, network, tags)
        files = [
            StemFile(
                stems=file.stems,
                path=self.staging.path(file.path),
                tags=self._tags(tags, "+".join(file.stems)),
            )
            for file in self.place.files
        ]
        return self._stream(separation, network, files, self.options.clip_mode)

    def _stream(
        self,
        separation: Separation,
        network: contextlib.AbstractContextManager[Any],
        files: list[StemFile],
        clip_mode: ClipMode,
    ) -> Levels:
        with StemFilesWriter(
            files, self.staging.folder, fmt=self.options.fmt, clip_mode=clip_mode, info=self.info
        ) as writer:
            with network:
                for block in separation:
                    writer.write(block.stems)
            return writer.finish()

    def _write_stem_mp4(
        self, separation: Separation, network: contextlib.AbstractContextManager[Any], tags: Tags
    ) -> Levels:
        """Write float files first: the container interleaves all its streams."""
        (file,) = self.place.files
        parts = [
            StemFile(stems=(stem,), path=self.staging.folder / f".part-{index}.wav")
            for index, stem in enumerate(file.stems)
        ]
        levels = self._stream(separation, network, parts, self.options.clip_mode)
        if self.options.clip_mode == "shared" and levels.peak > 1.0:
            gain = FULL_SCALE / levels.peak
            levels = Levels(gain=gain, peak=levels.peak, clamped_samples=0)
        with contextlib.ExitStack() as stack:
            sources = [stack.enter_context(open_source(part.path)) for part in parts]
            writer = stack.enter_context(
                open_stem_writer(
                    self.staging.path(file.path),
                    file.stems,
                    self.info.sample_rate,
                    self.info.channels,
                    tags=tags,
                    bitrate_kbps=self.options.fmt.bitrate_kbps or DEFAULT_STEM_KBPS,
                )
            )
            readers = [source.blocks() for source in (self.recording, *sources)]
            for blocks in zip(*readers, strict=True):
                writer.write(np.concatenate(blocks) * np.float32(levels.gain))
            writer.commit()
        for part in parts:
            part.path.unlink()
        return levels

    def _tags(self, tags: Tags, stem: str) -> Tags:
        return for_stem(
            tags,
            stem,
            tool=f"stemwright {importlib.metadata.version('stemwright')}",
            model=self.engine.label,
            model_sha256="+".join(model.sha256 for model in self.engine.models),
        )

    def result(self, separation: Separation, levels: Levels, wall_seconds: float) -> TrackResult:
        """Gather what is known."""
        frames, heard = separation.frames, separation.activity
        seconds = frames / self.info.sample_rate
        folder = self.place.result.parent if self.place.result is not None else PurePosixPath(".")
        return TrackResult(
            tool_version=importlib.metadata.version("stemwright"),
            models=self.engine.models,
            networks=network_facts(self.engine.separator),
            input=input_facts(self.recording.name, self.info, frames),
            seconds=seconds,
            wall_seconds=wall_seconds,
            real_time_factor=wall_seconds / seconds,
            clip_mode=self.options.clip_mode,
            gain=levels.gain,
            peak=levels.peak,
            clamped_samples=levels.clamped_samples,
            files=tuple(
                FileFacts(path=str(file.path.relative_to(folder)), stems=file.stems)
                for file in self.place.files
            ),
            remainder=separation.remainder,
            queries=tuple(
                QueryFacts(**stem.as_dict(), stem=stem.name, active=heard.get(stem.name, ()))
                for stem in self.options.asked
            ),
            options=self.options.as_dict(),
        )


def network_facts(separator: Separator) -> tuple[NetworkFacts, ...]:
    """Describe the networks that are loaded."""
    return tuple(
        NetworkFacts(
            name=name,
            provider=facts.provider,
            device=facts.device,
            runtime=facts.runtime,
            precision=facts.precision,
            threads=facts.threads,
            chosen_because=facts.chosen_because,
        )
        for name, facts in separator.facts.items()
    )


def _write_text(path: Path, text: str) -> None:
    """Write JSON text; a name that is no Unicode becomes an escape that JSON readers undo."""
    try:
        path.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise output_error(path, error) from error
