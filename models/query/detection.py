"""Which sounds are in a recording, and when.

The recording is heard in windows of 2 s, one after the other, the unit in which the taggers' probabilities
serve as conditions. Memory holds one batch of windows and two bytes for each class and window: 1.9 MB an
hour with YAMNet.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import resampled
from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import OptionError
from stemwright.models.query.ontology import SoundClass, audioset
from stemwright.models.separation.activity import Interval
from stemwright.models.taggers.session import TaggerSession

WINDOW_S = 2.0
THRESHOLD = 0.2
LEVELS = range(1, 7)
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class ClassActivity:
    """A class or a branch of the ontology over time.

    Parameters
    ----------
    sound
        The class at the top of the branch.
    probabilities
        For each window, that of the branch's most probable class, shape=(windows,).
    active
        Begin and end in seconds of where that reaches the threshold.
    """

    sound: SoundClass
    probabilities: FloatArray
    active: tuple[Interval, ...]

    @property
    def peak(self) -> float:
        """Largest probability over time."""
        return float(self.probabilities.max())

    @property
    def mean(self) -> float:
        """Mean probability over time."""
        return float(self.probabilities.mean())


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Classes over time.

    Parameters
    ----------
    tagger
        Name of the tagger.
    classes
        AudioSet's ids of its classes.
    window_s, duration_s
        Length of a window, and of the recording.
    values
        Probabilities, float16, shape=(windows, classes). The last window may be shorter.
    """

    tagger: str
    classes: tuple[str, ...]
    window_s: float
    duration_s: float
    values: NDArray[np.float16]

    def strongest(self, limit: int, *, threshold: float = THRESHOLD) -> tuple[ClassActivity, ...]:
        """Return the classes with the largest probabilities over time, at most `limit`, best first."""
        peaks = self.values.max(axis=0)
        best = sorted(range(len(self.classes)), key=lambda place: -float(peaks[place]))[:limit]
        return tuple(self._activity(self.classes[place], (place,), threshold) for place in best)

    def at_level(
        self, level: int, *, threshold: float = THRESHOLD, leave_out: Collection[str] = ()
    ) -> tuple[ClassActivity, ...]:
        """Return the branches of a level of the ontology that are active anywhere, strongest first.

        Parameters
        ----------
        level
            1..6.
        threshold
            Probability from which a class is active.
        leave_out
            Ids of classes that do not count.

        Raises
        ------
        OptionError
            There is no such level.
        """
        if level not in LEVELS:
            raise OptionError(f"the ontology has no level {level}", f"give 1 to {LEVELS[-1]}")
        found = []
        for sound in audioset().at_level(level):
            branch = (mid for mid in audioset().branch(sound.mid) if mid not in leave_out)
            places = tuple(self._places[mid] for mid in branch if mid in self._places)
            if places:
                found.append(self._activity(sound.mid, places, threshold))
        return tuple(sorted((one for one in found if one.active), key=lambda one: -one.peak))

    def as_dict(self, shown: tuple[ClassActivity, ...], *, threshold: float = THRESHOLD) -> dict[str, Any]:
        """Return JSON-ready data of some classes."""
        return {
            "tagger": self.tagger,
            "duration_s": self.duration_s,
            "window_s": self.window_s,
            "threshold": threshold,
            "classes": [
                {
                    "mid": one.sound.mid,
                    "name": one.sound.name,
                    "index": one.sound.index,
                    "peak": round(one.peak, 4),
                    "mean": round(one.mean, 4),
                    "active": [list(interval) for interval in one.active],
                    "probabilities": [round(float(value), 4) for value in one.probabilities],
                }
                for one in shown
            ],
        }

    @cached_property
    def _places(self) -> dict[str, int]:
        return {mid: place for place, mid in enumerate(self.classes)}

    def _activity(self, mid: str, places: tuple[int, ...], threshold: float) -> ClassActivity:
        line = np.asarray(self.values[:, list(places)].max(axis=1), np.float32)
        return ClassActivity(
            sound=audioset()[mid], probabilities=line, active=self._intervals(line >= threshold)
        )

    def _intervals(self, active: NDArray[np.bool_]) -> tuple[Interval, ...]:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
        return tuple(
            (float(first) * self.window_s, min(float(last) * self.window_s, self.duration_s))
            for first, last in edges.reshape(-1, 2)
        )


def detect(
    source: AudioSource, tagger: TaggerSession, *, progress: Callable[[float], None] | None = None
) -> Detection:
    """Hear a whole recording of any length.

    Parameters
    ----------
    source
        The recording; it is read once. The mean of its channels is heard.
    tagger
        An open tagger.
    progress
        Called with the seconds heard so far.

    Raises
    ------
    InputError
        The recording cannot be read.
    """
    rate = tagger.sample_rate
    window = round(WINDOW_S * rate)
    mono = (block.mean(axis=0, keepdims=True, dtype=np.float32) for block in source.blocks())
    rows: list[NDArray[np.float16]] = []
    heard, batch = 0, []
    for samples in pieces(resampled(mono, source.info.sample_rate, rate), window):
        heard += samples.shape[1]
        batch.append(samples)
        if len(batch) == _BATCH:
            rows.extend(_hear(tagger, batch))
            batch = []
            if progress is not None:
                progress(heard / rate)
    if batch:
        rows.extend(_hear(tagger, batch))
    if progress is not None:
        progress(heard / rate)
    return Detection(
        tagger=tagger.name,
        classes=tagger.manifest.classes,
        window_s=WINDOW_S,
        duration_s=heard / rate,
        values=np.stack(rows),
    )


def _hear(tagger: TaggerSession, batch: list[FloatArray]) -> Iterator[NDArray[np.float16]]:
    for result in tagger.segments(batch, tagger.sample_rate):
        yield result.probabilities.astype(np.float16)


def pieces(blocks: Iterator[FloatArray], size: int) -> Iterator[FloatArray]:
    """Cut a stream of blocks, each shape=(channels, n), to pieces of `size` samples; the last is the rest."""
    waiting: list[FloatArray] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += block.shape[1]
        while held >= size:
            joined = np.concatenate(waiting, axis=1)
            yield joined[:, :size]
            waiting, held = [joined[:, size:]], held - size
    if held:
        yield np.concatenate(waiting, axis=1)
