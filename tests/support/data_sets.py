"""Small data sets of every layout, of noise."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[np.float64]
RATE = 8000


def noise(seed: int, samples: int = 2 * RATE, channels: int = 2) -> Samples:
    """White noise, shape=(channels, samples)."""
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, samples))


def write(path: Path, samples: Samples, rate: int = RATE) -> Path:
    """Write a file, its folders made; WAV as doubles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = "DOUBLE" if path.suffix == ".wav" else None
    soundfile.write(path, samples.T, rate, subtype=subtype)
    return path


def stem_folders(root: Path, tracks: int = 2, stems: tuple[str, ...] = ("bass", "vocals")) -> Path:
    """Write a folder of folders of stems, with their mixtures."""
    for track in range(tracks):
        parts = {name: noise(10 * track + index) for index, name in enumerate(stems)}
        for name, samples in parts.items():
            write(root / f"track {track}" / f"{name}.wav", samples)
        write(root / f"track {track}" / "mixture.wav", sum(parts.values(), np.zeros((2, 2 * RATE))))
    return root


def speaker_folders(root: Path, tracks: int = 2, mix: str = "mix_clean") -> Path:
    """Write mixtures of two speakers in the layout of LibriMix."""
    for track in range(tracks):
        first, second = (noise(10 * track + index, channels=1) for index in range(2))
        for folder, samples in (("s1", first), ("s2", second), (mix, first + second)):
            write(root / folder / f"{track}.wav", samples)
    return root
