"""The stored case: a made-up piece of music, and samples of what the reference made of it.

A model that is installed is run on the piece and compared with the samples. The piece is made by
formula, the same on every machine; the samples were made by demucs 4.1.0 in torch, float32, with
the weights that the case is for (scripts/make_parity_case.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.graphs.roles import model_inputs, stems_from_outputs
from stemwright.models.manifest import Graph, Manifest, ParityRecord, read_manifest

CASES_DIR = Path(__file__).parent / "parity"
WINDOWS = 64  # of WINDOW samples each, evenly spread over the piece
WINDOW = 64
# float32 runtimes lie 75 to 90 dB below the mixture, bfloat16 about 42; a wrong weight far above.
LIMIT_DB = -60.0


class Runner(Protocol):
    """What of a session is needed here."""

    @property
    def graph(self) -> Graph:
        """Signature of what is run."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the graph once."""


@dataclass(frozen=True, kw_only=True)
class ParityCase:
    """A stored case.

    Attributes
    ----------
    content_sha256
        Content digest of the weights that it is for.
    reference
        What made the samples.
    samples
        Length of the piece.
    expected
        Samples of the stems, float32, shape=(stems, channels, WINDOWS * WINDOW).
    """

    content_sha256: str
    reference: str
    samples: int
    expected: FloatArray

    @classmethod
    def read(cls, path: Path) -> "ParityCase":
        """Read a case of this package."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                content_sha256=str(stored["content_sha256"]),
                reference=str(stored["reference"]),
                samples=int(stored["samples"]),
                expected=stored["expected"],
            )

    def write(self, path: Path) -> None:
        """Write the case."""
        np.savez_compressed(
            path,
            content_sha256=np.asarray(self.content_sha256),
            reference=np.asarray(self.reference),
            samples=np.asarray(self.samples),
            expected=self.expected,
        )

    @cached_property
    def piece(self) -> FloatArray:
        """The piece, shape=(2, samples)."""
        return parity_piece(self.samples)

    def error_db(self, stems: FloatArray) -> float:
        """Return the largest error of a stem, in dB relative to the whole piece.

        Parameters
        ----------
        stems
            What a model made of the piece, shape=(stems, channels, samples).
        """
        difference = chosen_samples(stems).astype(np.float64) - self.expected
        errors = np.mean(difference**2, axis=(1, 2))
        level = np.mean(self.piece.astype(np.float64) ** 2)
        return float(10 * np.log10(max(float(np.max(errors)), 1e-30) / level))


def find_case(manifest: Manifest) -> ParityCase | None:
    """Return the stored case for a model's weights, None if there is none."""
    for path in sorted(CASES_DIR.glob("*.npz")):
        case = ParityCase.read(path)
        if case.content_sha256 == manifest.origin.content_sha256:
            return case
    return None


def run_parity(folder: Path, session: Runner) -> ParityRecord | None:
    """Run the stored case of an installed model.

    Parameters
    ----------
    folder
        The model's folder, whose manifest tells the content digest of its weights.
    session
        A session of the model, float32.

    Returns
    -------
    ParityRecord or None
        None if there is no case for these weights; nothing is claimed then.

    Raises
    ------
    ModelFileError
        The model differs from the reference by more than any float32 runtime does.
    """
    manifest = read_manifest(folder)
    case = find_case(manifest) if isinstance(manifest, Manifest) else None
    if case is None:
        return None
    inputs = model_inputs(session.graph, case.piece[None])
    outputs = session.run(inputs.arrays)
    stems = stems_from_outputs(session.graph, outputs, inputs.spectrum, case.samples)
    error_db = case.error_db(stems[0])
    if not error_db <= LIMIT_DB:
        raise ModelFileError(
            f"{folder.name} differs from the reference by {error_db:.1f} dB; the limit is {LIMIT_DB:.0f} dB",
            "pull the model again; if that does not help, the runtime on this machine computes wrongly",
        )
    return ParityRecord(reference=case.reference, max_error_db=round(error_db, 1))


def chosen_samples(stems: FloatArray) -> FloatArray:
    """Return the samples of [stems, channels, samples] that a case holds."""
    starts = np.linspace(0, stems.shape[-1] - WINDOW, WINDOWS).astype(np.int64)
    chosen: FloatArray = stems[..., (starts[:, None] + np.arange(WINDOW)).reshape(-1)]
    return chosen


def parity_piece(samples: int) -> FloatArray:
    """Make the piece: a beat, a bass line, a chord and a voice-like tone, each on its own.

    The network answers with sound in all its stems. Mean 0 and standard deviation 1 of the channel
    mean, as whole-track normalisation gives it.

    Returns
    -------
    FloatArray, shape=(2, samples)
    """
    time = np.arange(samples) / 44_100
    left = _beat(time) + _bass(time) + 0.6 * _chord(time, 0.0) + 0.8 * _voice(time)
    right = _beat(time) + _bass(time) + 0.6 * _chord(time, 0.4) + 0.8 * _voice(time)
    piece = np.stack([left, right])
    mono = piece.mean(axis=0)
    normalised: FloatArray = ((piece - mono.mean()) / mono.std(ddof=1)).astype(np.float32)
    return normalised


_Float64 = npt.NDArray[np.float64]


def _noise(count: int) -> _Float64:
    """Make white noise in -1..1 by integer arithmetic alone (SplitMix64 of the sample's number)."""
    state = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0


def _beat(time: _Float64) -> _Float64:
    """Make a drum on each half second, a hiss on each quarter."""
    half, quarter = time % 0.5, time % 0.25
    drum: _Float64 = np.sin(2 * np.pi * (50 * half + 6 * (1 - np.exp(-30 * half)))) * np.exp(-12 * half)
    return 0.9 * drum + 0.5 * _noise(len(time)) * np.exp(-50 * quarter)


def _bass(time: _Float64) -> _Float64:
    """Make four notes of harmonics, one second each."""
    pitch = np.asarray([55.0, 65.41, 73.42, 49.0])[(time.astype(np.int64)) % 4]
    phase = 2 * np.pi * pitch * (time % 1.0)
    envelope = np.minimum(1.0, (time % 1.0) * 50) * np.exp(-1.5 * (time % 1.0))
    return 0.8 * envelope * sum((np.sin(n * phase) / n for n in range(1, 6)), np.zeros_like(time))


def _chord(time: _Float64, phase: float) -> _Float64:
    """Make a held chord, slowly swelling."""
    tones = (220.0, 277.18, 329.63, 440.0)
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 0.3 * time)
    sines = (np.sin(2 * np.pi * f * time + phase * i) for i, f in enumerate(tones))
    return 0.25 * swell * sum(sines, np.zeros_like(time))


def _voice(time: _Float64) -> _Float64:
    """Make a gliding tone with vibrato and formants, with pauses."""
    glide = 240 * time + 40 * np.sin(2 * np.pi * 0.25 * time) + 0.8 * np.sin(2 * np.pi * 5.5 * time)
    weights = (1.0, 0.8, 0.5, 0.7, 0.35, 0.2, 0.25, 0.1, 0.06, 0.04)
    tone: _Float64 = sum(
        (w * np.sin(2 * np.pi * (n + 1) * glide) for n, w in enumerate(weights)), np.zeros_like(time)
    )
    opening: _Float64 = np.clip(np.sin(2 * np.pi * 0.7 * time) * 4, 0, 1)
    return 0.3 * tone * opening
