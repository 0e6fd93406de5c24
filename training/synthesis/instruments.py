"""Soundfonts and FluidSynth: from MIDI to sound."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, InternalError, OptionError

PROGRAM = "fluidsynth"
_SECONDS_EACH = 600
_GAIN = 0.5  # chosen here: a full band stays below full scale, and nothing is clipped in 32-bit float anyway


@dataclass(frozen=True, kw_only=True)
class Soundfont:
    """A soundfont that Debian ships.

    Parameters
    ----------
    name, package
        The soundfont and its package.
    licence
        Of its sounds, as its package's copyright file says.
    files
        Where it lies when it is installed.
    """

    name: str
    package: str
    licence: str
    files: tuple[str, ...]


SOUNDFONTS = (
    Soundfont(
        name="Fluid R3 GM",
        package="fluid-soundfont-gm",
        licence="MIT",
        files=("/usr/share/sounds/sf2/FluidR3_GM.sf2",),
    ),
    Soundfont(
        name="MuseScore General",
        package="musescore-general-soundfont",
        licence="MIT, parts CC0 or public domain",
        files=(
            "/usr/share/sounds/sf3/MuseScore_General_Full.sf3",
            "/usr/share/sounds/sf2/MuseScore_General.sf2",
        ),
    ),
    Soundfont(
        name="TimGM6mb",
        package="timgm6mb-soundfont",
        licence="GPL-2",
        files=("/usr/share/sounds/sf2/TimGM6mb.sf2",),
    ),
)


@dataclass(frozen=True, kw_only=True)
class FoundSoundfont:
    """A soundfont of this machine: file, name, and licence where it is known."""

    path: Path
    name: str
    licence: str


def find_soundfonts(named: tuple[Path, ...] = ()) -> tuple[FoundSoundfont, ...]:
    """Find soundfonts.

    Parameters
    ----------
    named
        Only these; by default all of `SOUNDFONTS` that are installed and under the MIT licence, or, if there
        are none, the others.

    Raises
    ------
    InputError
        One that is named does not exist.
    OptionError
        None is named and none installed.
    """
    known = [
        FoundSoundfont(path=Path(file), name=font.name, licence=font.licence)
        for font in SOUNDFONTS
        for file in font.files
        if Path(file).is_file()
    ]
    if named:
        return tuple(_named(path, known) for path in named)
    free = tuple(font for font in known if font.licence.startswith("MIT"))
    if not known:
        packages = " or ".join(font.package for font in SOUNDFONTS)
        raise OptionError("no soundfont is installed", f"install {packages}, or name one with --soundfont")
    return free or tuple(known)


def find_program() -> str:
    """Return FluidSynth's path.

    Raises
    ------
    OptionError
        It is not installed.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise OptionError(
            "FluidSynth, which plays the instruments, is not installed", "install the package fluidsynth"
        )
    return found


def played(midi: bytes, font: FoundSoundfont, sample_rate: int) -> FloatArray:
    """Play a MIDI file, dry.

    Parameters
    ----------
    midi
        A standard MIDI file.
    font
        What with.
    sample_rate
        In Hz.

    Returns
    -------
    FloatArray
        float32, shape=(2, samples), as long as it sounds.

    Raises
    ------
    OptionError
        FluidSynth is not installed.
    InputError
        It cannot read the soundfont.
    """
    import soundfile

    with tempfile.TemporaryDirectory(prefix="stemwright-") as folder:
        score, sound = Path(folder, "score.mid"), Path(folder, "sound.wav")
        score.write_bytes(midi)
        command = [
            find_program(), "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", str(_GAIN), "-r", str(sample_rate),
            "-o", "synth.cpu-cores=1", "-O", "float", "-T", "wav", "-F", str(sound),
            str(font.path), str(score),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_EACH, check=False)
        except subprocess.TimeoutExpired as error:
            raise InternalError(f"FluidSynth did not end within {_SECONDS_EACH} s") from error
        told = (done.stderr + done.stdout).strip().splitlines()
        refused = any("not a SoundFont" in line or "Failed to load" in line for line in told)
        if done.returncode != 0 or not sound.is_file() or refused:  # it plays silence without a soundfont
            raise InputError(
                f"FluidSynth cannot play with {font.path}: {told[-1] if told else 'it says nothing'}",
                "give a soundfont in the format SF2 or SF3",
            )
        samples, _ = soundfile.read(sound, dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.T)


def _named(path: Path, known: list[FoundSoundfont]) -> FoundSoundfont:
    if not path.is_file():
        raise InputError(f"there is no soundfont {path}", "check the path")
    for font in known:
        if path.resolve() == font.path.resolve():
            return font
    return FoundSoundfont(path=path, name=path.stem, licence="not known to stemwright")
