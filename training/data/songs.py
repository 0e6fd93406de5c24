"""Segments of songs with their stems, as they are or remixed between songs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError
from stemwright.training.augmentation.repitching import RepitchDraw, RepitchRules, apply_repitch, draw_repitch
from stemwright.training.data import draws
from stemwright.training.data.examples import Example
from stemwright.training.data.pack import Pack

_STD_FLOOR = 1e-8
_VOICES = frozenset(("vocals", "singing", "voice"))


@dataclass(frozen=True, kw_only=True)
class SongRules:
    """How segments are drawn.

    Parameters
    ----------
    targets
        The targets in order: a name and the stems whose sum it is. None makes each stem of the pack one.
    seconds
        Length of an example.
    samples
        The same in samples, for networks that want an exact number; wins over seconds.
    remix
        Share of the examples whose stems come from songs and places of their own.
    normalise
        Divide by the standard deviation of the song's mixture, its mean taken off, as Demucs is trained.
    repitch
        Change pitch and tempo of some examples; None changes none.
    channels
        2, or 1: of packs with two channels one of them by chance (their mean would cancel what is panned).
    """

    targets: Mapping[str, Sequence[str]] | None = None
    seconds: float = 10.0
    samples: int | None = None
    remix: float = 0.0
    normalise: bool = False
    repitch: RepitchRules | None = None
    channels: int | None = None


class Songs:
    """Segments of songs; songs are drawn by their length, places in them evenly.

    Parameters
    ----------
    pack
        Of stems.
    rules
        How to draw.

    Raises
    ------
    InputError
        Not stems, or songs without a stem that is asked for.
    """

    def __init__(self, pack: Pack, rules: SongRules | None = None) -> None:
        self.rules = rules or SongRules()
        self.pack = pack
        if pack.index.kind != "stems":
            raise InputError(f"{pack.folder} is no pack of stems", "give songs with stems")
        if self.rules.channels == 2 and pack.channels == 1:
            raise InputError(f"the pack {pack.folder} has one channel", "pack the songs with --channels 2")
        self._frames = self.rules.samples or round(self.rules.seconds * pack.sample_rate)
        repitch = self.rules.repitch
        self._needed = repitch.samples_needed(self._frames) if repitch else self._frames
        roles = sorted({one.role for one in pack.recordings})
        self._targets = dict(self.rules.targets or {role: (role,) for role in roles})
        self._check()

    @property
    def names(self) -> tuple[str, ...]:
        """What the targets are called."""
        return tuple(self._targets)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.pack.sample_rate

    def example(self, seed: int, step: int, index: int) -> Example:
        """Draw a segment; the mixture is the sum of the targets."""
        rng = draws.generator(seed, "songs", step, index)
        one_song = rng.random() >= self.rules.remix
        channel = int(rng.integers(2))  # drawn in any case, so that no option shifts the draws behind it
        song, start = self._place(rng)
        repitch = RepitchDraw()
        if self.rules.repitch is not None:
            repitch = draw_repitch(self.rules.repitch, seed=seed, step=step, index=index)
        channels = self.rules.channels or self.pack.channels
        targets = np.empty((len(self._targets), channels, self._frames), np.float32)
        for (name, stems), out in zip(self._targets.items(), targets, strict=True):
            if not one_song:
                song, start = self._place(rng)
            if repitch == RepitchDraw():
                self._read(song, stems, start, channel, out)
                continue
            longer = np.empty((channels, self._needed), np.float32)
            self._read(song, stems, start, channel, longer)
            out[:] = apply_repitch(
                longer, repitch, sample_rate=self.sample_rate, length=self._frames, voice=name in _VOICES
            )
        return Example(mixture=targets.sum(axis=0), targets=targets)

    @cached_property
    def _songs(self) -> dict[str, dict[str, int]]:
        """Number of each stem's recording, by song."""
        found: dict[str, dict[str, int]] = {}
        for number in self.pack.numbers:
            one = self.pack.index.recordings[number]
            found.setdefault(one.name, {})[one.role] = number
        return found

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._songs)

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        first = (next(iter(stems.values())) for stems in self._songs.values())
        return tuple(self.pack.index.recordings[number].frames for number in first)

    @cached_property
    def _bounds(self) -> npt.NDArray[np.float64]:
        return np.cumsum(np.array(self._lengths, np.float64))

    def _place(self, rng: np.random.Generator) -> tuple[str, int]:
        which = draws.weighted(rng.random(), self._bounds)
        last = self._lengths[which] - self._needed
        start = int(rng.integers(last + 1)) if last >= 0 else 0  # a shorter song ends in silence
        return self._names[which], start

    def _read(self, song: str, stems: Sequence[str], start: int, channel: int, out: FloatArray) -> None:
        """Read the sum of stems."""
        for place, stem in enumerate(stems):
            number = self._songs[song][stem]
            if place == 0 and out.shape[0] == self.pack.channels:
                self.pack.read(number, start, out.shape[1], out=out)
                continue
            read = self.pack.read(number, start, out.shape[1])
            part = read if out.shape[0] == read.shape[0] else read[channel : channel + 1]
            np.add(out if place else 0, part, out=out)
        if self.rules.normalise:
            facts = self.pack.index.statistics[song]
            out -= np.float32(facts.mean)
            out *= np.float32(1 / (facts.std + _STD_FLOOR))

    def _check(self) -> None:
        if not self._targets or not all(self._targets.values()):
            raise InputError("a target has no stems", "name at least one stem for each target")
        for song, stems in self._songs.items():
            for name in (stem for wanted in self._targets.values() for stem in wanted):
                if name not in stems:
                    raise InputError(
                        f"the song {song} of {self.pack.folder} has no stem {name}, only {', '.join(stems)}",
                        "ask for stems that all songs have",
                    )
