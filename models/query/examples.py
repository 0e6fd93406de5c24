"""Queries by example: recordings of the sound that is looked for become one condition.

As in the reference implementation: frames of 100 ms whose peak is at most 0.02 are dropped, what is left
is cut to segments of 2 s, the last one repeated to that length, and the tagger's answers are averaged, first
over a file's segments, then over the files. Unlike there a recording shorter than one frame counts as one,
files of every format are read, and silence is an error.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import AudioSource, open_source
from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError
from stemwright.models.query.detection import WINDOW_S, pieces
from stemwright.models.taggers.session import TaggerResult, TaggerSession

FRAME_S = 0.1
QUIET_PEAK = 0.02
_BATCH = 8
Condition = Literal["class_probabilities", "embedding"]


def example_files(where: Path) -> tuple[Path, ...]:
    """Return the recordings that a path means: itself, or those directly in the folder, by name.

    Raises
    ------
    InputError
        Nothing is there, or no recording.
    """
    if not where.is_dir():
        if not where.exists():
            raise InputError(f"{where} does not exist", "check the path")
        return (where,)
    found = sorted(
        path
        for path in where.iterdir()
        if path.is_file() and path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        raise InputError(f"{where} has no recordings in it", "give a file, or a folder with recordings")
    return tuple(found)


def example_condition(where: Path, tagger: TaggerSession, kind: Condition) -> FloatArray:
    """Return the condition that stands for the sound of a recording or of all in a folder.

    Parameters
    ----------
    where
        A file or a folder.
    tagger
        The model's tagger.
    kind
        What of the tagger's answer is the condition.

    Returns
    -------
    FloatArray
        float32, shape=(D,).

    Raises
    ------
    InputError
        A recording that cannot be read, or has nothing but silence.
    """
    means = []
    for path in example_files(where):
        with open_source(path) as source:
            means.append(source_condition(source, tagger, kind, name=str(path)))
    return np.asarray(np.mean(means, axis=0), np.float32)


def source_condition(source: AudioSource, tagger: TaggerSession, kind: Condition, *, name: str) -> FloatArray:
    """Return the condition of one recording; parameters and errors as for example_condition."""
    sums: list[FloatArray] = []
    count = 0
    batch: list[FloatArray] = []
    rate = source.info.sample_rate
    for segment in _segments(source):
        batch.append(segment)
        if len(batch) == _BATCH:
            sums, count = [_sum([*sums, *_values(tagger.segments(batch, rate), kind)])], count + len(batch)
            batch = []
    if batch:
        sums, count = [_sum([*sums, *_values(tagger.segments(batch, rate), kind)])], count + len(batch)
    if count == 0:
        raise InputError(
            f"{name} has no sound in it: no sample is louder than {QUIET_PEAK}",
            "give a louder example of the sound",
        )
    return np.asarray(sums[0] / count, np.float32)


def _values(results: Sequence[TaggerResult], kind: Condition) -> list[FloatArray]:
    return [result.probabilities if kind == "class_probabilities" else result.embedding for result in results]


def _sum(values: Sequence[FloatArray]) -> FloatArray:
    return np.asarray(np.sum(values, axis=0, dtype=np.float64))


def _segments(source: AudioSource) -> Iterator[FloatArray]:
    """Segments of what is not quiet, mono, shape=(1, n)."""
    size = round(WINDOW_S * source.info.sample_rate)
    for segment in pieces(_loud_frames(source), size):
        if segment.shape[1] == size:
            yield segment
        else:
            yield np.tile(segment, -(-size // segment.shape[1]))[:, :size]


def _loud_frames(source: AudioSource) -> Iterator[FloatArray]:
    size = max(1, round(FRAME_S * source.info.sample_rate))
    mono = (block.mean(axis=0, keepdims=True, dtype=np.float32) for block in source.blocks())
    for place, frame in enumerate(pieces(mono, size)):
        whole = frame.shape[1] == size or place == 0
        if whole and float(np.abs(frame).max()) > QUIET_PEAK:
            yield frame
