"""Several people talking at once, mixed on the fly from utterances of single ones.

References
----------
The rules of WSJ0-2mix (J. Hershey et al., "Deep Clustering", 2016; Y. Luo, N. Mesgarani, "Conv-TasNet", 2019,
section III.A): different speakers, levels of speech that differ by -5 to 5 dB, cut to the shorter utterance.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, OptionError
from stemwright.training.augmentation.stretching import resampled_by
from stemwright.training.data import draws
from stemwright.training.data.examples import Example
from stemwright.training.data.pack import Pack
from stemwright.training.synthesis.effects import Room, in_room

_TRIES = 8
_QUIET_DB = -20.0  # chosen here: a segment this far below its recording's level is a pause, drawn again
_LARGEST_PEAK = 0.9
_DECAY_S, _SIZE_M, _WET_DB, _DAMPING_HZ = (0.15, 0.7), (3.0, 12.0), (-14.0, -2.0), (2000.0, 8000.0)


@dataclass(frozen=True, kw_only=True)
class SpeechRules:
    """How voices are mixed.

    Parameters
    ----------
    speakers
        Voices at once.
    seconds
        Length of an example.
    samples
        The same in samples; wins over seconds.
    snr_db
        The level of speech of the first voice over that of each other one is uniform in +-snr_db.
    level_db
        Range of the voices' mean level, in dB of full scale (root mean square while they speak).
    weights
        How often speakers are drawn beside the others, by name; 1 for those not named.
    pools
        Folders that hold several unnamed speakers: their short utterances are padded, where a speaker's are
        joined to the length of an example.
    speeds
        Factors of speed, one of which is drawn for each voice: (0.9, 1.0, 1.1) makes three speakers of each.
    room_share
        Share of the examples in a room, of 0.15 to 0.7 s, whose sound is 14 to 2 dB below the voices. The
        targets are the voices as they sound in it.
    noise_db
        Range of the voices' level over that of the noise.
    noise_share
        Share of the examples that have noise.
    """

    speakers: int = 2
    seconds: float = 4.0
    samples: int | None = None
    snr_db: float = 5.0
    level_db: tuple[float, float] = (-26.0, -26.0)
    weights: Mapping[str, float] = field(default_factory=dict)
    pools: frozenset[str] = frozenset()
    speeds: tuple[float, ...] = (1.0,)
    room_share: float = 0.0
    noise_db: tuple[float, float] = (5.0, 20.0)
    noise_share: float = 0.0


class SpeechMixtures:
    """Mixtures of voices from different folders, which are drawn with equal weight however much they hold.

    Parameters
    ----------
    pack
        Of speech; one channel.
    rules
        How to mix.
    noise
        Noises, of the same rate; drawn by recording. Their clips shorter than an example are repeated.

    Raises
    ------
    InputError
        Fewer speakers than an example needs, or packs that do not fit together.
    OptionError
        A weight or a pool of a speaker that there is not, or a share of noise without noises.
    """

    def __init__(self, pack: Pack, rules: SpeechRules | None = None, *, noise: Pack | None = None) -> None:
        self.rules = rules or SpeechRules()
        self.pack = pack
        self.noise = noise
        self._frames = self.rules.samples or round(self.rules.seconds * pack.sample_rate)
        self._check()

    @property
    def names(self) -> tuple[str, ...]:
        """The voices, in no order: which is which must not matter to who trains on them."""
        return tuple(f"speaker{number + 1}" for number in range(self.rules.speakers))

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.pack.sample_rate

    def example(self, seed: int, step: int, index: int) -> Example:
        """Draw a mixture; targets have shape=(speakers, 1, samples)."""
        rng = draws.generator(seed, "speech", step, index)
        voices = [self._voice(rng, speaker) for speaker in self._speakers(rng)]
        if self.rules.room_share:
            voices = self._in_room(draws.generator(seed, "room", step, index), voices)
        over = np.array([0.0, *(-rng.uniform(-self.rules.snr_db, self.rules.snr_db, len(voices) - 1))])
        level_db = rng.uniform(*self.rules.level_db) + over - over.mean()
        gains = 10 ** (level_db / 20)
        targets = np.stack([voice * np.float32(gain) for voice, gain in zip(voices, gains, strict=True)])
        mixture = targets.sum(axis=0)
        if rng.random() < self.rules.noise_share:
            mixture = mixture + self._noise(rng, float(level_db.mean()))
        peak = float(np.abs(mixture).max())
        if peak > _LARGEST_PEAK:
            targets, mixture = (part * np.float32(_LARGEST_PEAK / peak) for part in (targets, mixture))
        return Example(mixture=mixture, targets=targets)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.pack.groups)

    @cached_property
    def _bounds(self) -> npt.NDArray[np.float64]:
        return np.cumsum([self.rules.weights.get(name, 1.0) for name in self._names])

    def _speakers(self, rng: np.random.Generator) -> list[str]:
        chosen: list[str] = []
        while len(chosen) < self.rules.speakers:
            name = self._names[draws.weighted(rng.random(), self._bounds)]
            if name not in chosen:
                chosen.append(name)
        return chosen

    def _voice(self, rng: np.random.Generator, speaker: str) -> FloatArray:
        """Return a segment of someone's speech at level 1, shape=(1, samples)."""
        speed = self.rules.speeds[int(rng.integers(len(self.rules.speeds)))]
        if speed == 1:
            return self._joined(rng, speaker, self._frames)
        slower = self._joined(rng, speaker, math.ceil(self._frames * speed) + 1)
        return resampled_by(slower, speed)[:, : self._frames]

    def _joined(self, rng: np.random.Generator, speaker: str, frames: int) -> FloatArray:
        """Return so many samples of someone's speech as it was spoken."""
        pieces: list[FloatArray] = []
        missing = frames
        while missing > 0:
            piece = self._piece(rng, speaker, missing)
            if speaker in self.rules.pools and piece.shape[1] < missing:
                before = int(rng.integers(missing - piece.shape[1] + 1))
                piece = np.pad(piece, ((0, 0), (before, missing - piece.shape[1] - before)))
            pieces.append(piece)
            missing -= piece.shape[1]
        return np.concatenate(pieces, axis=1)

    def _piece(self, rng: np.random.Generator, speaker: str, frames: int) -> FloatArray:
        """At most `frames` of one utterance, none of it a pause from end to end if that can be had."""
        numbers = self.pack.groups[speaker]
        for _ in range(_TRIES):
            number = numbers[int(rng.integers(len(numbers)))]
            one = self.pack.index.recordings[number]
            length = min(frames, one.frames)
            start = int(rng.integers(one.frames - length + 1))
            samples = self.pack.read(number, start, length) * np.float32(1 / one.level)
            if np.square(samples, dtype=np.float64).mean() > 10 ** (_QUIET_DB / 10):
                break
        return samples

    def _in_room(self, rng: np.random.Generator, voices: list[FloatArray]) -> list[FloatArray]:
        """Return the voices as they sound in a room, each from a place of its own."""
        if rng.random() >= self.rules.room_share:
            return voices
        decay_s, size_m = float(rng.uniform(*_DECAY_S)), float(rng.uniform(*_SIZE_M))
        heard = []
        for voice in voices:
            room = Room(
                decay_s=decay_s,
                size_m=size_m,
                wet_db=float(rng.uniform(*_WET_DB)),
                damping_hz=float(rng.uniform(*_DAMPING_HZ)),
                seed=int(rng.integers(1 << 31)),
            )
            heard.append(in_room(np.repeat(voice, 2, axis=0), room, self.sample_rate)[:1])
        return heard

    def _noise(self, rng: np.random.Generator, level_db: float) -> FloatArray:
        assert self.noise is not None
        number = self.noise.numbers[int(rng.integers(len(self.noise.numbers)))]
        one = self.noise.index.recordings[number]
        if one.frames >= self._frames:
            samples = self.noise.read(number, int(rng.integers(one.frames - self._frames + 1)), self._frames)
        else:
            times = -(-self._frames // one.frames)
            samples = np.tile(self.noise.read(number), (1, times))[:, : self._frames]
            samples = np.roll(samples, int(rng.integers(self._frames)), axis=1)
        gain = 10 ** ((level_db - rng.uniform(*self.rules.noise_db)) / 20) / one.level
        return samples * np.float32(gain)

    def _check(self) -> None:
        rules, pack = self.rules, self.pack
        if pack.index.kind != "speech" or pack.channels != 1:
            raise InputError(
                f"{pack.folder} is no pack of speech with one channel", "pack speech with --channels 1"
            )
        if len(self._names) < rules.speakers:
            raise InputError(
                f"{rules.speakers} voices need as many speakers, and {pack.folder} has {len(self._names)}",
                "give more folders of speakers",
            )
        for name in (*rules.weights, *rules.pools):
            if name not in pack.groups:
                raise OptionError(f"{pack.folder} has no speaker {name}", "leave its weight out")
        if min(rules.weights.values(), default=1.0) < 0 or np.count_nonzero(
            np.diff(self._bounds, prepend=0)
        ) < (rules.speakers):
            raise OptionError("too few speakers have a weight above 0", "give weights above 0")
        if not rules.speeds or not all(0.5 <= speed <= 2 for speed in rules.speeds):
            raise OptionError("speeds of voices must be between 0.5 and 2", "such as 0.9, 1.0, 1.1")
        if rules.noise_share > 0 and self.noise is None:
            raise OptionError("a share of examples with noise needs noises", "give a pack of noises")
        if self.noise is not None and (self.noise.sample_rate, self.noise.channels) != (pack.sample_rate, 1):
            raise InputError(
                f"the noises have not one channel at {pack.sample_rate} Hz",
                "pack both with one rate and channel",
            )
