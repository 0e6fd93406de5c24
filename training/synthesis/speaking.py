"""Speech by espeak-ng: voices that anyone may have in any number, though of machines."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError, OptionError, OutputError
from stemwright.training.data import draws

PROGRAM = "espeak-ng"
_LANGUAGES = ("en-us", "en-gb", "en-gb-scotland", "de", "es", "fr-fr", "it", "nl", "pt-br", "pl", "sv", "tr")
_VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7")
_WORDS = (
    "river window morning yellow garden summer silver paper number winter table music open carry follow "
    "listen moment never always under over between mountain valley city people island market question answer "
    "bridge letter story colour evening station corner thunder travel simple quiet golden early number seven "
    "eleven twenty hundred light water stone cloud road field house rain wind fire sleep dream walk run "
    "speak turn bring hold leave begin remember forget wonder believe together against around before because"
).split()
_SECONDS_EACH = 60


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A voice of espeak-ng: language with variant, pitch (0..99) and words a minute."""

    voice: str
    pitch: int
    pace: int


def draw_speaker(seed: int, number: int) -> Speaker:
    """Draw the `number`-th speaker; voices come in rounds, so that no two of 144 are alike but in pitch."""
    rng = draws.generator(seed, "speaker", number)
    place = draws.nth_of_rounds(number, len(_LANGUAGES) * len(_VARIANTS), seed, "voices")
    language, variant = divmod(place, len(_VARIANTS))
    return Speaker(
        voice=f"{_LANGUAGES[language]}+{_VARIANTS[variant]}",
        pitch=int(rng.integers(25, 80)),
        pace=int(rng.integers(120, 200)),
    )


def draw_text(rng: np.random.Generator, words: int) -> str:
    """Draw words, with a comma or a full stop here and there."""
    chosen = [_WORDS[int(rng.integers(len(_WORDS)))] for _ in range(words)]
    marks = rng.random(words)
    told = (
        word + ("." if mark < 0.06 else "," if mark < 0.14 else "")
        for word, mark in zip(chosen, marks, strict=True)
    )
    return " ".join(told) + "."


def spoken(text: str, speaker: Speaker) -> tuple[FloatArray, int]:
    """Speak a text; return one channel, shape=(1, samples), and its rate.

    Raises
    ------
    OptionError
        espeak-ng is not installed, or lacks the voice.
    """
    import soundfile

    program = shutil.which(PROGRAM)
    if program is None:
        raise OptionError(
            "espeak-ng, which speaks where no recordings are given, is not installed",
            "install the package espeak-ng, or give recordings with --voices",
        )
    with tempfile.TemporaryDirectory(prefix="stemwright-") as folder:
        sound = Path(folder, "speech.wav")
        command = [program, "-v", speaker.voice, "-p", str(speaker.pitch), "-s", str(speaker.pace)]
        try:
            done = subprocess.run(
                [*command, "-w", str(sound), "--", text],
                capture_output=True,
                text=True,
                timeout=_SECONDS_EACH,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InternalError(f"espeak-ng did not end within {_SECONDS_EACH} s") from error
        if done.returncode != 0 or not sound.is_file():
            told = done.stderr.strip() or "it says nothing"
            raise OptionError(f"espeak-ng cannot speak as {speaker.voice}: {told}", "install its voices")
        samples, rate = soundfile.read(sound, dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.T), int(rate)


def make_speech(
    folder: Path,
    speakers: int,
    *,
    utterances: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write speech of machines: a folder a speaker, as speech is packed; what is there already is kept.

    Parameters
    ----------
    folder
        The set: `speaker NNNN/NNN.wav`, one channel at 22,050 Hz, and `speakers.csv`.
    speakers, utterances
        How many, and of each how many.
    seed
        Of all that is drawn.
    progress
        Called for each speaker.

    Raises
    ------
    OptionError
        espeak-ng is not installed.
    OutputError
        The folder cannot be written.
    """
    import soundfile

    rows = ["speaker,sex,voice"]
    try:
        for number in range(speakers):
            speaker = draw_speaker(seed, number)
            place = folder / f"speaker {number:04d}"
            place.mkdir(parents=True, exist_ok=True)
            for utterance in range(utterances):
                path = place / f"{utterance:03d}.wav"
                if not path.exists():
                    rng = draws.generator(seed, "text", number, utterance)
                    samples, rate = spoken(draw_text(rng, int(rng.integers(8, 20))), speaker)
                    part = path.with_suffix(".part")
                    soundfile.write(part, samples.T, rate, format="WAV", subtype="PCM_16")
                    os.replace(part, path)
            rows.append(f"{place.name},{'F' if '+f' in speaker.voice else 'M'},{speaker.voice}")
            if progress is not None:
                progress(number + 1, speakers)
        (folder / "speakers.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    except (OSError, soundfile.LibsndfileError) as error:
        raise OutputError(
            f"cannot write to {folder}: {error}", "make room, or choose another place"
        ) from error
