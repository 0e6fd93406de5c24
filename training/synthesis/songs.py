"""A set of songs with stems, made by rule: what is drawn, how it is made, and the folder that it becomes."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import OutputError, ResourceError
from stemwright.training.data import draws
from stemwright.training.synthesis import midi
from stemwright.training.synthesis.composing import compose
from stemwright.training.synthesis.effects import Treatment, draw_treatment, treated
from stemwright.training.synthesis.instruments import FoundSoundfont, played
from stemwright.training.synthesis.scores import STEMS, Note, Stem
from stemwright.training.synthesis.singing import sing
from stemwright.training.synthesis.voices import Voices

ALL_STEMS = ("drums", "bass", "other", "vocals")
INFO_FILE = "info.json"
SAMPLE_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # those of MP3, through which some stems go
_LARGEST_PEAK = 0.95
_SPARE_BYTES = 64 << 20
_LEVELS_DB: Mapping[str, tuple[float, float]] = {  # mean and deviation, of the parts that sound; chosen here
    "drums": (-21.0, 2.5),
    "bass": (-22.0, 2.5),
    "other": (-22.5, 3.0),
    "vocals": (-20.5, 2.5),
}


@dataclass(frozen=True, kw_only=True)
class SetRules:
    """What a set is like.

    Parameters
    ----------
    seconds
        About the length of a composed song.
    sample_rate
        In Hz.
    split
        Name of the folder in which the songs lie.
    midi
        Files to play instead of composed songs, in turn.
    """

    seconds: float = 30.0
    sample_rate: int = 44_100
    split: str = "train"
    midi: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Production:
    """How a song is produced: treatments and levels of its stems, and whether the voice is doubled."""

    treatments: dict[str, Treatment]
    levels_db: dict[str, float]
    doubled: bool


def draw_production(seed: int, song: int) -> Production:
    """Draw how a song is produced."""
    rng = draws.generator(seed, "production", song)
    treatments = {
        stem: draw_treatment(rng, wet={"bass": 0.1, "drums": 0.4}.get(stem, 0.75)) for stem in ALL_STEMS
    }
    levels = {stem: float(rng.normal(*_LEVELS_DB[stem])) for stem in ALL_STEMS}
    return Production(treatments=treatments, levels_db=levels, doubled=bool(rng.random() < 0.3))


def make_set(
    folder: Path,
    songs: int,
    *,
    seed: int,
    voices: Voices,
    fonts: Sequence[FoundSoundfont],
    rules: SetRules | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, ...]:
    """Make songs in the layout of MUSDB18-HQ; those that are there already are kept.

    A song depends on the seed, its number, the rules, the voices and the soundfonts, and on nothing else.

    Parameters
    ----------
    folder
        The set: songs become `SPLIT/song NNNNN/{mixture,drums,bass,other,vocals}.wav`, 16 bits, the mixture
        being the sum of the stems sample by sample.
    songs
        How many there shall be.
    seed
        Of all that is drawn.
    voices, fonts
        Who sings, and what is played with.
    rules
        What the set is like.
    progress
        Called for each song.

    Returns
    -------
    tuple
        Folders of the songs.

    Raises
    ------
    OutputError, ResourceError
        The folder cannot be written, or there is no room.
    OptionError, InputError
        A program is missing, or cannot read what it was given.
    """
    rules = rules or SetRules()
    _check_room(folder, songs, rules)
    made = []
    for song in range(songs):
        place = folder / rules.split / f"song {song:05d}"
        if not (place / INFO_FILE).is_file():
            _write_song(place, seed, song, voices, fonts, rules)
        made.append(place)
        if progress is not None:
            progress(song + 1, songs)
    return tuple(made)


def make_song(
    seed: int, song: int, voices: Voices, fonts: Sequence[FoundSoundfont], rules: SetRules
) -> tuple[dict[str, FloatArray], dict[str, object]]:
    """Make the stems of a song, each shape=(2, samples), and what is to be said of it."""
    files, notes, seconds, told = _score(seed, song, rules)
    font = fonts[draws.nth_of_rounds(song, len(fonts), seed, "fonts")]
    production = draw_production(seed, song)
    frames = round(seconds * rules.sample_rate)
    stems: dict[str, FloatArray] = {name: np.zeros((2, frames), np.float32) for name in ALL_STEMS}
    with ThreadPoolExecutor(len(STEMS)) as pool:  # FluidSynth runs beside Python
        sounds = {
            stem: pool.submit(played, files[stem], font, rules.sample_rate) for stem in STEMS if stem in files
        }
        for stem, sound in sounds.items():
            stems[stem] = _fitted(sound.result(), frames)
    voice_name = ""
    if notes:
        stems["vocals"], voice_name = _vocals(seed, song, notes, voices, production, frames, rules)
    for name in ALL_STEMS:
        dry = _levelled(stems[name], -18.0, rules.sample_rate)
        wet = treated(dry, production.treatments[name], rules.sample_rate)
        stems[name] = _levelled(wet, production.levels_db[name], rules.sample_rate)
    facts: dict[str, object] = {
        "seed": seed,
        "song": song,
        **told,
        "soundfont": font.name,
        "soundfont_licence": font.licence,
        "voice": voice_name,
        "production": asdict(production),
    }
    return stems, facts


def integers(stems: Mapping[str, FloatArray]) -> dict[str, npt.NDArray[np.int16]]:
    """Return stems as 16-bit samples, brought down together where any or the mixture would be too loud.

    The mixture among them is their sum, exactly.
    """
    peak = max(float(np.abs(one).max(initial=0)) for one in (*stems.values(), sum(stems.values(), start=0.0)))
    scale = np.float32(32767 * min(1.0, _LARGEST_PEAK / max(peak, 1e-9)))
    whole = {name: np.rint(one * scale).astype(np.int16) for name, one in stems.items()}
    mixture = sum((one.astype(np.int32) for one in whole.values()), start=np.int32(0))
    return {"mixture": np.asarray(mixture).astype(np.int16)} | whole


def _score(
    seed: int, song: int, rules: SetRules
) -> tuple[Mapping[Stem, bytes], tuple[Note, ...], float, dict[str, object]]:
    """Return MIDI of the stems, what is sung, seconds, and what is to be said."""
    if rules.midi:
        path = rules.midi[song % len(rules.midi)]
        parts = midi.split(midi.read(path))
        return parts.stems, parts.melody, parts.seconds + 1.0, {"midi": path.name}
    score = compose(seed, song, rules.seconds)
    files = {stem: midi.written(score.of_stem(stem), score.tempo) for stem in STEMS if score.of_stem(stem)}
    return files, score.sung(), score.seconds, {"tempo": score.tempo}


def _vocals(
    seed: int,
    song: int,
    notes: Sequence[Note],
    voices: Voices,
    production: Production,
    frames: int,
    rules: SetRules,
) -> tuple[FloatArray, str]:
    voice = voices.voice(seed, song, rules.sample_rate)

    def take(number: int, cents: float) -> FloatArray:
        rng = draws.generator(seed, "take", song, number)
        return sing(rng, voice.samples, notes, frames=frames, sample_rate=rules.sample_rate, cents=cents)

    lead = take(0, 0.0)
    left, right = lead, lead
    if production.doubled:
        left, right = lead + 0.5 * take(1, 9.0), lead + 0.5 * take(2, -9.0)
    return np.stack([left, right]).astype(np.float32), voice.name


def _fitted(samples: FloatArray, frames: int) -> FloatArray:
    out = samples[:2, :frames]
    return np.pad(out, ((0, 0), (0, frames - out.shape[1])))


def _levelled(samples: FloatArray, level_db: float, sample_rate: int) -> FloatArray:
    """Bring the parts that sound to a level; silence stays."""
    size = max(1, sample_rate // 50)
    whole = samples.shape[1] // size * size
    powers = np.square(samples[:, :whole], dtype=np.float64).mean(axis=0).reshape(-1, size).mean(axis=1)
    if not len(powers) or powers.max() < 1e-12:
        return samples
    level = np.sqrt(powers[powers > powers.max() * 1e-4].mean())
    return samples * np.float32(10 ** (level_db / 20) / level)


def _write_song(
    place: Path, seed: int, song: int, voices: Voices, fonts: Sequence[FoundSoundfont], rules: SetRules
) -> None:
    import soundfile

    stems, facts = make_song(seed, song, voices, fonts, rules)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{place.name}.part-", dir=place.parent))
    except OSError as error:
        raise OutputError(
            f"cannot write to {place.parent}: {error.strerror}", "choose another place"
        ) from error
    try:
        for name, samples in integers(stems).items():
            soundfile.write(staging / f"{name}.wav", samples.T, rules.sample_rate, subtype="PCM_16")
        text = json.dumps(facts, ensure_ascii=False, indent=1)
        (staging / INFO_FILE).write_text(text, encoding="utf-8")
        staging.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)  # without its info it is what an earlier version left
        os.rename(staging, place)
    except (OSError, soundfile.LibsndfileError) as error:
        raise OutputError(
            f"cannot write the song {place}: {error}", "make room, or choose another place"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_room(folder: Path, songs: int, rules: SetRules) -> None:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    wanted = songs * round(rules.seconds * rules.sample_rate) * 2 * 2 * (len(ALL_STEMS) + 1)
    free = shutil.disk_usage(place).free
    if free < wanted + _SPARE_BYTES:
        raise ResourceError(
            f"{songs} songs need {wanted / 1e9:.2f} GB in {folder}, which has {free / 1e9:.2f}",
            "make room there, choose another place with -o, or make fewer",
        )
