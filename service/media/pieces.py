"""Pieces of a stem: of fixed length, exact to the sample, joining to the whole without a seam."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.formats import BitDepth
from stemwright.core.audio.source import open_source
from stemwright.core.errors import InternalError, OptionError
from stemwright.service.errors import NotFoundError

PIECE_S = 10.0
PieceFormat = Literal["wav", "flac"]

_BLOCK_FRAMES = 1 << 16
_DEPTHS: dict[str, BitDepth] = {"PCM_16": "16", "PCM_24": "24", "FLOAT": "32f"}


@dataclass(frozen=True, kw_only=True)
class PieceFacts:
    """How a stem is cut.

    Parameters
    ----------
    sample_rate, channels, frames
        Of the whole stem.
    bit_depth
        Of its samples and of the pieces'.
    piece_frames
        Frames of each piece but the last.
    """

    sample_rate: int
    channels: int
    frames: int
    bit_depth: BitDepth
    piece_frames: int

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return -(-self.frames // self.piece_frames)

    @property
    def formats(self) -> tuple[PieceFormat, ...]:
        """Formats that can hold the samples exactly."""
        return ("wav",) if self.bit_depth == "32f" or self.channels > 8 else ("wav", "flac")


def piece_facts(file: BinaryIO, *, piece_s: float = PIECE_S) -> PieceFacts:
    """Describe a WAV or FLAC file from its header.

    Raises
    ------
    InternalError
        It is no such file of ours.
    """
    with _opened(file) as sound:
        return _facts(sound, piece_s)


def write_piece(
    file: BinaryIO, index: int, target: Path, container: PieceFormat, *, piece_s: float = PIECE_S
) -> None:
    """Write a piece of a WAV or FLAC file; only that part of the file, and its header, are read.

    Parameters
    ----------
    file
        The stem; seekable.
    index
        Which piece, counted from 0.
    target
        Where to write.
    container
        Format of the piece; its samples are those of the stem exactly.
    piece_s
        Length of the pieces, rounded to whole frames.

    Raises
    ------
    NotFoundError
        The stem has no piece of that number.
    OptionError
        The format cannot hold the stem's samples.
    InternalError
        The file is damaged.
    """
    with _opened(file) as sound:
        facts = _facts(sound, piece_s)
        if not 0 <= index < facts.pieces:
            raise NotFoundError(
                f"there is no piece {index}", f"the pieces are numbered from 0 to {facts.pieces - 1}"
            )
        if container not in facts.formats:
            raise OptionError(
                f"{container} cannot hold this stem exactly", f"ask for {' or '.join(facts.formats)}"
            )
        fmt = OutputFormat(container=container, bit_depth=facts.bit_depth)
        start = index * facts.piece_frames
        with open_writer(target, fmt, facts.sample_rate, facts.channels) as writer:
            for block in _read(sound, start, min(facts.piece_frames, facts.frames - start)):
                writer.write(block)
            writer.commit()


def write_exact_copy(path: Path, target: Path, *, stream: int = 0) -> None:
    """Decode a lossy stem from its beginning to its end into 16-bit FLAC.

    Lossy formats decode to the same samples only when they are decoded in one go; pieces are cut from
    this copy.
    """
    with open_source(path, stream=stream) as source:
        info = source.info
        with open_writer(target, OutputFormat(container="flac"), info.sample_rate, info.channels) as writer:
            for block in source.blocks():
                writer.write(block)
            writer.commit()


def _opened(file: BinaryIO) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise InternalError(f"a stem cannot be read: {error.error_string}", "retry the job") from error


def _facts(sound: soundfile.SoundFile, piece_s: float) -> PieceFacts:
    if sound.subtype not in _DEPTHS:
        raise InternalError(f"a stem has samples of the kind {sound.subtype}", "")
    return PieceFacts(
        sample_rate=sound.samplerate,
        channels=sound.channels,
        frames=sound.frames,
        bit_depth=_DEPTHS[sound.subtype],
        piece_frames=max(1, round(piece_s * sound.samplerate)),
    )


def _read(sound: soundfile.SoundFile, start: int, frames: int) -> Iterator[FloatArray]:
    sound.seek(start)
    while frames:
        block = sound.read(min(frames, _BLOCK_FRAMES), dtype="float32", always_2d=True)
        if not len(block):
            raise InternalError("a stem ends before its header says", "retry the job")
        frames -= len(block)
        yield np.ascontiguousarray(block.T)
