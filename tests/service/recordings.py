"""Recordings for tests."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile


def noise(frames: int, channels: int = 2, *, level: float = 0.5, seed: int = 0) -> npt.NDArray[np.float32]:
    """Uniform noise, shape=(channels, frames), whose largest magnitude is `level`."""
    samples = np.random.default_rng(seed).uniform(-1, 1, (channels, frames)).astype(np.float32)
    return samples * np.float32(level / np.abs(samples).max())


def write(
    path: Path, samples: npt.NDArray[np.float32], sample_rate: int = 44100, subtype: str = "PCM_16"
) -> Path:
    """Write samples, shape=(channels, frames), in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T, sample_rate, subtype=subtype if path.suffix != ".mp3" else None)
    return path


def recording(path: Path, frames: int = 6000, channels: int = 2, **settings: int | float) -> Path:
    """Write noise to a file."""
    sample_rate = int(settings.pop("sample_rate", 44100))
    level, seed = float(settings.pop("level", 0.5)), int(settings.pop("seed", 0))
    return write(path, noise(frames, channels, level=level, seed=seed), sample_rate)


def read(path: Path) -> npt.NDArray[np.float32]:
    """Samples of a file, shape=(channels, frames)."""
    samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(samples.T, np.float32)
