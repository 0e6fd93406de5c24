"""Speech by espeak-ng: voices that anyone may have in any number, though of machines."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError, OptionError
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
