"""Small data folders for tests of training."""

from pathlib import Path

import numpy as np
import soundfile

from stemwright.core.arrays import FloatArray

STEMS = ("bass", "drums", "other", "vocals")


def tone(
    seconds: float, rate: int, hz: float, *, channels: int = 1, gain: float = 0.2, seed: int = 0
) -> FloatArray:
    """A tone with a little noise, shape=(channels, samples), on the grid of 16 bits."""
    frames = round(seconds * rate)
    rng = np.random.default_rng(seed)
    wave = gain * np.sin(2 * np.pi * hz * np.arange(frames) / rate)
    samples = wave + 0.1 * gain * rng.standard_normal((channels, frames))
    return (np.rint(samples * 32768) / 32768).astype(np.float32)


def write(path: Path, samples: FloatArray, rate: int, *, subtype: str = "PCM_16") -> None:
    """Write a file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T, rate, subtype=subtype)


def songs(root: Path, count: int = 3, *, seconds: float = 1.0, rate: int = 8000, channels: int = 2) -> Path:
    """Songs with four stems each."""
    for song in range(count):
        for place, stem in enumerate(STEMS):
            samples = tone(
                seconds, rate, 100.0 * (song + 1) * (place + 1), channels=channels, seed=song * 10 + place
            )
            write(root / f"song{song}" / f"{stem}.wav", samples, rate)
    return root


def speech(
    root: Path, speakers: int = 4, utterances: int = 2, *, seconds: float = 1.0, rate: int = 8000
) -> Path:
    """Speakers, each with a pitch of its own."""
    for speaker in range(speakers):
        for number in range(utterances):
            samples = tone(seconds + 0.1 * number, rate, 110.0 * (speaker + 1), seed=speaker * 100 + number)
            write(root / f"s{speaker}" / f"u{number}.wav", samples, rate)
    return root
