"""Songs with true stems, and figures of how near an estimate comes."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stemwright.core.audio.source import open_source

RATE = 44100
Audio = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Song:
    """A song's mixture [2, n], and its true stems where they are known."""

    name: str
    mixture: Audio
    stems: dict[str, Audio] = field(default_factory=dict)


def read_audio(path: Path) -> Audio:
    """Read a recording as stereo at 44.1 kHz."""
    with open_source(path) as source:
        if source.info.sample_rate != RATE:
            sys.exit(f"{path} has {source.info.sample_rate} Hz; only {RATE} Hz is compared here")
        samples = np.concatenate(list(source.blocks()), axis=1)
    return samples[[0, min(1, samples.shape[0] - 1)]]


def read_song(path: Path) -> Song:
    """Read a recording, or a folder with its mixture and stems."""
    if not path.is_dir():
        return Song(name=path.stem, mixture=read_audio(path))
    files = {file.stem: file for file in sorted(path.iterdir()) if file.suffix in (".wav", ".flac")}
    mixture = read_audio(files.pop("mixture"))
    return Song(name=path.name, mixture=mixture, stems={n: read_audio(file) for n, file in files.items()})


def row(label: str, names: Sequence[str], values: Sequence[float], digits: int) -> str:
    """Format a line of named numbers."""
    cells = (f"{name:>9}{value:8.{digits}f}" for name, value in zip(names, values, strict=True))
    return f"{label:24}" + "".join(cells)


def sdr(true: Audio, estimate: Audio) -> float:
    """Energy of the true stem over that of the error, over the whole song, in dB."""
    error = true.astype(np.float64) - estimate
    return decibels(float(np.sum(true.astype(np.float64) ** 2)), float(np.sum(error**2)))


def decibels(power: float, reference: float) -> float:
    """Ratio of two powers in dB."""
    return 10 * float(np.log10(max(power, 1e-30) / max(reference, 1e-30)))
