"""Native Instruments' stem container: the mixture and its four stems in one MP4 file.

Players of stems (Traktor, Mixxx) and MUSDB's readers alike take the first audio stream as the
mixture and the others as the stems in order. The `stem` box in the movie's user data names and
colours them.

References
----------
Native Instruments, Stem File Specification 1.0; stempeg's `write_stems` for the JSON's keys.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

import numpy as np
from av.stream import Disposition

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import AudioWriter, create_writer
from stemwright.core.audio.formats import OutputFormat, check_format, encoding_of
from stemwright.core.audio.mp4 import add_user_data, edit_movie
from stemwright.core.audio.muxing import Target, Track, add_movie_tags, close_output, open_output
from stemwright.core.audio.source import AudioSource
from stemwright.core.audio.tags import Tags, container_fields
from stemwright.core.errors import OutputError

STEMS = 4
EXTENSION = ".stem.mp4"
# Okabe and Ito's colours, which everybody can tell apart.
_COLOURS = ("#009E73", "#D55E00", "#CC79A7", "#56B4E9")
_MASTERING = {
    "compressor": {
        "enabled": False,
        "ratio": 10,
        "output_gain": 0.5,
        "release": 1.0,
        "attack": 0.0001,
        "input_gain": 0.5,
        "threshold": 0,
        "hp_cutoff": 300,
        "dry_wet": 50,
    },
    "limiter": {"enabled": False, "release": 1.0, "threshold": 0, "ceiling": 0},
}


@dataclass(frozen=True, kw_only=True)
class NamedSource:
    """A stem and where its audio comes from."""

    name: str
    source: AudioSource


def check_stem_mp4(stems: Sequence[str], sample_rate: int, channels: int) -> None:
    """Check that the container can hold such stems.

    Raises
    ------
    OutputError
        Not four stems, more than two channels, or a sample rate that AAC does not have.
    """
    if len(stems) != STEMS:
        raise OutputError(
            f"a stem.mp4 file holds {STEMS} stems, not {len(stems)}",
            "choose a model with four stems, or another format",
        )
    if channels > 2:
        raise OutputError(f"a stem.mp4 file cannot hold {channels} channels", "use wav, flac or m4a")
    check_format(OutputFormat(container="m4a"), sample_rate, channels)


def open_stem_writer(
    path: str | Path,
    stems: Sequence[str],
    sample_rate: int,
    channels: int,
    *,
    tags: Tags | None = None,
    bitrate_kbps: int = 256,
) -> AudioWriter:
    """Start writing a stem container.

    Parameters
    ----------
    path
        Final name, which should end in ".stem.mp4".
    stems
        Names of the four stems in order.
    sample_rate, channels
        Of the mixture and of each stem.
    tags
        Tags of the recording.
    bitrate_kbps
        Of each stream.

    Returns
    -------
    AudioWriter
        Its blocks have shape=((1 + 4) * channels, n): the channels of the mixture, then those of
        each stem.

    Raises
    ------
    OutputError
        As for `check_stem_mp4`, or the file cannot be made.
    ResourceError
        The disk is full.
    """
    check_stem_mp4(stems, sample_rate, channels)
    fmt = OutputFormat(container="m4a", bitrate_kbps=bitrate_kbps)
    names = tuple(stems)
    return create_writer(
        Path(path),
        lambda file: _StemSink(file, fmt, names, sample_rate, channels, tags or Tags()),
        (1 + STEMS) * channels,
    )


def write_stem_mp4(
    path: str | Path, mixture: AudioSource, stems: Sequence[NamedSource], *, tags: Tags | None = None
) -> Path:
    """Write a stem container from sources of equal rate, channels and length; return its path.

    Raises
    ------
    InputError
        A source cannot be read.
    OutputError
        As for `open_stem_writer`, or the sources differ.
    ResourceError
        The disk is full.
    """
    info = mixture.info
    for stem in stems:
        if (stem.source.info.sample_rate, stem.source.info.channels) != (info.sample_rate, info.channels):
            raise OutputError(
                f"the stem {stem.name} has another sample rate or channel count than the mixture",
                "give stems of that mixture",
            )
    names = [stem.name for stem in stems]
    with open_stem_writer(path, names, info.sample_rate, info.channels, tags=tags) as writer:
        for block in _stacked([mixture, *(stem.source for stem in stems)]):
            writer.write(block)
        return writer.commit()


def _stacked(sources: Sequence[AudioSource]) -> Iterator[FloatArray]:
    with ExitStack() as stack:
        readers = [source.blocks() for source in sources]
        for reader in readers:
            stack.callback(_close, reader)
        for blocks in zip_longest(*readers):
            if any(block is None or block.shape[1] != blocks[0].shape[1] for block in blocks):
                raise OutputError("the stems differ in length from the mixture", "give stems of that mixture")
            yield np.concatenate(blocks)


def _close(reader: Iterator[FloatArray]) -> None:
    if hasattr(reader, "close"):
        reader.close()


class _StemSink:
    """Five AAC streams, the first of them the default."""

    clamped = 0

    def __init__(
        self,
        file: BinaryIO,
        fmt: OutputFormat,
        names: tuple[str, ...],
        sample_rate: int,
        channels: int,
        tags: Tags,
    ) -> None:
        self._file = file
        self._names = names
        self._tags = tags
        self._channels = channels
        encoding = replace(encoding_of(fmt, sample_rate), muxer="mp4")
        self._target = Target(file)
        self._container = open_output(self._target, encoding)
        self._container.metadata.update(container_fields(tags.fields, "mp4"))
        self._tracks = []
        for index, name in enumerate(("mixture", *names)):
            track = Track(self._container, encoding, sample_rate, channels)
            track.stream.metadata.update({"title": name, "handler_name": name})
            track.stream.disposition = Disposition.default if index == 0 else Disposition(0)
            self._tracks.append(track)

    def write(self, block: FloatArray) -> None:
        for index, track in enumerate(self._tracks):
            track.write(block[index * self._channels : (index + 1) * self._channels])
        self._target.check()

    def finish(self) -> None:
        self._container.start_encoding()
        for track in self._tracks:
            track.finish()
        self._container.close()
        self._target.check()
        add_movie_tags(self._file, self._tags)
        note = json.dumps(
            {
                "version": 1,
                "mastering_dsp": _MASTERING,
                "stems": [
                    {"name": name, "color": colour}
                    for name, colour in zip(self._names, _COLOURS, strict=True)
                ],
            }
        )
        edit_movie(self._file, lambda movie: add_user_data(movie, b"stem", note.encode()))

    def close(self) -> None:
        close_output(self._container, self._target)
