"""Held-out data for the models that come with stemwright: folders that `stemwright eval run` reads.

    python benchmarks/first_model_sets.py speech READERS OUT
    python benchmarks/first_model_sets.py singing SONGS OUT
    python benchmarks/first_model_sets.py sounds CLIPS OUT

READERS has a folder of recordings for each speaker and `speakers.csv` with their sex (LibriSpeech); SONGS a
folder for each song with `vocals` and other stems; CLIPS sound events called LABEL_ANYTHING. OUT gets a
folder for each condition: as it is, with noise, in a room, after MP3 at 96 kbit/s, and 20 dB quieter; of
speech for voices of the same and of both sexes apart. All draws are fixed.
"""

import argparse
import csv
import itertools
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from scipy.signal import fftconvolve

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import resampled
from stemwright.core.audio.source import open_source

CONDITIONS = ("clean", "noise", "room", "mp3", "quiet")
SECONDS = 6.0
SNR_DB = 5.0  # of the voices: -5 to 5 dB, as in WSJ0-2mix
NOISE_DB = 15.0  # of the mixture over the noise, which falls by 3 dB an octave
ROOM_S = 0.4  # in which the sound of the room falls by 60 dB
QUIET = 0.1
MP3_RATE, MP3_BITS = 44_100, 96_000


def read(path: Path, rate: int) -> FloatArray:
    """Read a recording as mono at a rate, shape=(n,)."""
    with open_source(path) as source:
        blocks = (block.mean(axis=0, keepdims=True, dtype=np.float32) for block in source.blocks())
        made: FloatArray = np.concatenate(list(resampled(blocks, source.info.sample_rate, rate)), axis=1)[0]
    return made


def at_level(samples: FloatArray, level_db: float) -> FloatArray:
    """Bring the parts that sound, within 40 dB of the loudest 20 ms, to a level in dB of full scale."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    powers = np.square(frames).mean(axis=1)
    loud = powers[powers > powers.max() * 1e-4].mean()
    made: FloatArray = (samples * np.float32(10 ** (level_db / 20) / np.sqrt(loud))).astype(np.float32)
    return made


def pink(rng: np.random.Generator, count: int) -> FloatArray:
    """Noise of power 1 whose power falls by 3 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.sqrt(np.arange(len(spectrum)) + 1.0)
    noise = np.fft.irfft(spectrum, count)
    made: FloatArray = (noise / noise.std()).astype(np.float32)
    return made


def in_room(samples: FloatArray, rng: np.random.Generator, rate: int) -> FloatArray:
    """Direct sound and a decaying tail 3 dB below it."""
    times = np.arange(int(ROOM_S * rate)) / rate
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / ROOM_S)
    tail[: int(0.003 * rate)] = 0
    response = tail * np.sqrt(0.5 / np.square(tail).sum())
    response[0] = 1.0
    made: FloatArray = fftconvolve(samples, response)[: len(samples)].astype(np.float32)
    return made


def after_mp3(samples: FloatArray, rate: int, scratch: Path) -> FloatArray:
    """Encode at 96 kbit/s and decode."""
    wide = np.concatenate(list(resampled(iter([samples[None]]), rate, MP3_RATE)), axis=1)
    path = scratch / "coded.mp3"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=MP3_RATE, layout="mono")
        stream.bit_rate = MP3_BITS
        frame = av.AudioFrame.from_ndarray(wide.astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = MP3_RATE, Fraction(1, MP3_RATE)
        for packet in itertools.chain(stream.encode(frame), stream.encode(None)):
            container.mux(packet)
    decoded = read(path, rate)
    path.unlink()
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)]


def conditioned(
    stems: list[FloatArray], condition: str, rng: np.random.Generator, rate: int, scratch: Path
) -> tuple[list[FloatArray], FloatArray]:
    """Return true stems and mixture under a condition; noise is in no stem."""
    if condition == "room":
        stems = [in_room(stem, rng, rate) for stem in stems]
    if condition == "quiet":
        stems = [stem * np.float32(QUIET) for stem in stems]
    mixture: FloatArray = np.sum(stems, axis=0, dtype=np.float32)
    if condition == "noise":
        mixture = mixture + pink(rng, len(mixture)) * np.float32(mixture.std() * 10 ** (-NOISE_DB / 20))
    if condition == "mp3":
        mixture = after_mp3(mixture, rate, scratch)
    return stems, mixture


def write(path: Path, samples: FloatArray, rate: int) -> None:
    """Write 32-bit floats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")


def speech(readers: Path, out: Path, rate: int = 8000) -> None:
    """Every pair of speakers, twice as it is and once under each other condition, in LibriMix's layout."""
    with (readers / "speakers.csv").open(newline="", encoding="utf-8") as table:
        sexes = {row["speaker"]: row["sex"] for row in csv.DictReader(table)}
    voices = {
        name: at_level(
            np.concatenate([read(path, rate) for path in sorted((readers / name).glob("*.flac"))]), -26
        )
        for name in sorted(sexes)
    }
    frames = int(SECONDS * rate)
    for condition in CONDITIONS:
        rng = np.random.default_rng(15)
        for take, pair in itertools.product(
            range(2 if condition == "clean" else 1), itertools.combinations(voices, 2)
        ):
            over = rng.uniform(-SNR_DB, SNR_DB)
            stems = []
            for name, gain_db in zip(pair, (over / 2, -over / 2), strict=True):
                start = int(rng.integers(len(voices[name]) - frames))
                stems.append(voices[name][start : start + frames] * np.float32(10 ** (gain_db / 20)))
            kind = "same" if sexes[pair[0]] == sexes[pair[1]] else "both"
            folder = out / f"speech-{condition}-{kind}"
            folder.mkdir(parents=True, exist_ok=True)
            stems, mixture = conditioned(stems, condition, rng, rate, folder)
            for place, samples in zip(("mix_clean", "s1", "s2"), (mixture, *stems), strict=True):
                write(folder / place / f"{pair[0]}-{pair[1]}-{take}.wav", samples, rate)


def singing(songs: Path, out: Path, rate: int = 44_100) -> None:
    """Up to eight stretches of 10 s of each song in which there is voice, at 0 dB, as folders of stems."""
    for song in sorted(path for path in songs.iterdir() if path.is_dir()):
        files = {
            path.stem: path for path in sorted(song.iterdir()) if path.suffix in (".wav", ".flac", ".ogg")
        }
        voice = read(files.pop("vocals"), rate)
        files.pop("mixture", None)
        rest: FloatArray = np.sum([read(path, rate) for path in files.values()], axis=0, dtype=np.float32)
        frames = 10 * rate
        starts = [
            start
            for start in range(0, len(voice) - frames + 1, frames)
            if _sounds(voice, rest, start, frames)
        ]
        for condition in CONDITIONS:
            rng = np.random.default_rng(16)
            for start in starts[:: max(1, len(starts) // 8)][:8]:
                stems = [at_level(part[start : start + frames], -23) for part in (voice, rest)]
                folder = out / f"singing-{condition}" / f"{song.name}-{start // rate}s"
                folder.mkdir(parents=True, exist_ok=True)
                stems, mixture = conditioned(stems, condition, rng, rate, folder)
                for name, samples in zip(
                    ("vocals", "accompaniment", "mixture"), (*stems, mixture), strict=True
                ):
                    write(folder / f"{name}.wav", samples, rate)


def _sounds(voice: FloatArray, rest: FloatArray, start: int, frames: int) -> bool:
    """Whether both sound in at least half of the stretch, as loud as 20 dB below their loudest."""
    for part in (voice, rest):
        powers = np.square(part[: len(part) // 882 * 882].reshape(-1, 882)).mean(axis=1)
        own = np.square(part[start : start + frames // 882 * 882].reshape(-1, 882)).mean(axis=1)
        if np.mean(own > np.percentile(powers, 95) * 0.01) < 0.5:
            return False
    return True


def sounds(clips: Path, out: Path, rate: int = 32_000) -> None:
    """Pairs of clips of different labels at 0 dB: each clip is once the first of a pair."""
    found = {
        path: _label(path) for path in sorted(clips.iterdir()) if path.suffix in (".ogg", ".wav", ".flac")
    }
    for condition in CONDITIONS:
        rng = np.random.default_rng(17)
        for number, pair in enumerate(_pairs(found, rng)):
            parts = [read(path, rate) for path in pair]
            frames = min(map(len, parts))
            stems = [part[:frames] for part in parts]
            energies = [float(np.square(stem).mean()) for stem in stems]
            stems[1] = stems[1] * np.float32(np.sqrt(energies[0] / energies[1]))
            peak = max(1.0, float(np.abs(np.sum(stems, axis=0)).max()))
            folder = out / f"sounds-{condition}" / f"{number:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            stems, mixture = conditioned(
                [stem / np.float32(peak) for stem in stems], condition, rng, rate, folder
            )
            for name, samples in zip(
                (*(found[path] for path in pair), "mixture"), (*stems, mixture), strict=True
            ):
                write(folder / f"{name}.wav", samples, rate)


def _label(path: Path) -> str:
    return re.sub(r"_\d-\d+-[A-Z](-\d+)?$", "", path.stem)


def _pairs(found: dict[Path, str], rng: np.random.Generator) -> Iterator[tuple[Path, Path]]:
    paths = list(found)
    for path in paths:
        others = [other for other in paths if found[other] != found[path]]
        yield path, others[int(rng.integers(len(others)))]


def main() -> None:
    """Make one of the sets."""
    parser = argparse.ArgumentParser(description="Held-out data for the models that come with stemwright.")
    parser.add_argument("kind", choices=("speech", "singing", "sounds"))
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    {"speech": speech, "singing": singing, "sounds": sounds}[given.kind](given.data, given.out)


if __name__ == "__main__":
    main()
