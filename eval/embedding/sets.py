"""Fréchet audio distance of sets of recordings, against another set or against published statistics."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import open_source
from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError, OutputError
from stemwright.eval.embedding.distances import FrameStatistics, Gaussian, frechet_distance
from stemwright.eval.embedding.metrics import MAX_S
from stemwright.models.embedders.session import AudioEmbedder, EmbedderFacts, Embedding, as_stored

STEPS, FEWEST = 25, 500
"""Of FAD-inf: how many numbers of frames, and the smallest, as fadtk has them."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedSet:
    """The frames of a set of recordings.

    Parameters
    ----------
    frames
        As the embedder stores them, shape=(n, E).
    gaussian
        Of these frames.
    files
        Recordings that were heard.
    skipped
        Recordings that are too short for a frame.
    """

    frames: Embedding
    gaussian: Gaussian
    files: int
    skipped: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """FAD-inf: the distance that more and more frames lead to.

    Parameters
    ----------
    score
        Intercept of the line through the distances over 1/n.
    slope
        Of that line.
    r2
        Share of the variance that the line explains.
    points
        Numbers of frames and their distances.
    """

    score: float
    slope: float
    r2: float
    points: tuple[tuple[int, float], ...]


def recordings_in(folder: Path, pattern: str = "*") -> tuple[Path, ...]:
    """Find the recordings below a folder whose names fit a pattern, sorted.

    Raises
    ------
    InputError
        No folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", "give a folder of recordings")
    named = (path for path in folder.rglob(pattern) if path.suffix.lower() in AUDIO_SUFFIXES)
    found = tuple(sorted(path for path in named if path.is_file()))
    if not found:
        raise InputError(f"{folder} has no recordings named {pattern}", "give a folder of recordings")
    return found


def embed_set(
    paths: tuple[Path, ...], embedder: AudioEmbedder, progress: Callable[[int, Path], None] | None = None
) -> EmbeddedSet:
    """Embed recordings, one at a time.

    Parameters
    ----------
    paths
        Recordings.
    embedder
        Hears them.
    progress
        Called with the number of recordings that are done and the next one.

    Raises
    ------
    InputError
        A recording cannot be read, or all together give fewer than two frames.
    """
    statistics = FrameStatistics.empty(embedder.facts.size)
    parts: list[Embedding] = []
    skipped: list[Path] = []
    for done, path in enumerate(paths):
        if progress is not None:
            progress(done, path)
        sound, rate = _mono(path)
        try:
            frames = as_stored(embedder.embed(sound, rate), embedder.facts.precision)
        except InputError:  # too short for a frame: reading refuses all other sounds
            skipped.append(path)
            continue
        parts.append(frames)
        statistics.add(frames)
    if statistics.frames < 2:
        raise InputError(
            f"{len(paths)} recordings give {statistics.frames} frames of {embedder.facts.name}, not two",
            "give more or longer recordings",
        )
    return EmbeddedSet(
        frames=cast(Embedding, np.concatenate(parts)),
        gaussian=statistics.gaussian(),
        files=len(parts),
        skipped=tuple(skipped),
    )


def extrapolated(reference: Gaussian, frames: Embedding, *, seed: int = 0) -> Extrapolation:
    """Compute FAD-inf: distances of frames drawn with replacement, 500 to all of them in 25 steps, over 1/n.

    Parameters
    ----------
    reference
        What the frames are compared with.
    frames
        shape=(n, E), more than 500.
    seed
        Of the draws.

    Raises
    ------
    InputError
        Too few frames.
    """
    if len(frames) <= FEWEST:
        raise InputError(
            f"FAD-inf needs more than {FEWEST} frames, there are {len(frames)}", "give more recordings"
        )
    counts = np.linspace(FEWEST, len(frames), STEPS).astype(int)
    draws = np.random.default_rng(seed)
    distances = np.asarray([_drawn(reference, frames, int(count), draws) for count in counts])
    inverse = 1.0 / counts
    slope, intercept = np.polyfit(inverse, distances, 1)
    left = np.square(distances - (slope * inverse + intercept)).sum()
    spread = np.square(distances - distances.mean()).sum()
    return Extrapolation(
        score=float(intercept),
        slope=float(slope),
        r2=float(1.0 - left / spread) if spread > 0 else float("nan"),
        points=tuple((int(count), float(one)) for count, one in zip(counts, distances, strict=True)),
    )


def _drawn(reference: Gaussian, frames: Embedding, count: int, draws: np.random.Generator) -> float:
    statistics = FrameStatistics.empty(frames.shape[1])
    statistics.add(frames[draws.integers(0, len(frames), count)])
    return frechet_distance(reference, statistics.gaussian())


def statistics_key(facts: EmbedderFacts) -> str:
    """Return what an embedder is called in files of statistics."""
    return facts.statistics_name or facts.name


def read_statistics(path: Path, facts: EmbedderFacts) -> Gaussian:
    """Read an embedder's statistics out of a file of fadtk's form: `NAME.mu` and `NAME.cov` in an .npz.

    Raises
    ------
    InputError
        No such file, none of that form, or without this embedder.
    """
    key = statistics_key(facts)
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            names = sorted(name.removesuffix(".mu") for name in archive.files if name.endswith(".mu"))
            if f"{key}.mu" not in archive.files or f"{key}.cov" not in archive.files:
                raise InputError(f"{path} has no statistics of {key}", f"it has those of {', '.join(names)}")
            mean, covariance = _doubles(archive[f"{key}.mu"]), _doubles(archive[f"{key}.cov"])
            frames = int(archive[f"{key}.n"]) if f"{key}.n" in archive.files else None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        what = f"{path} cannot be read as statistics: {error}"
        raise InputError(what, "give an .npz of fadtk's form") from error
    size = facts.size
    if mean.shape != (size,) or covariance.shape != (size, size) or not np.isfinite(covariance).all():
        raise InputError(f"the statistics of {key} in {path} are damaged", f"{key} has {size} dimensions")
    return Gaussian(mean=mean, covariance=covariance, frames=frames)


def write_statistics(path: Path, facts: EmbedderFacts, gaussian: Gaussian) -> None:
    """Write statistics in fadtk's form, with the number of frames as `NAME.n`.

    Raises
    ------
    OutputError
        The file exists or cannot be written.
    """
    key = statistics_key(facts)
    arrays = {f"{key}.mu": gaussian.mean, f"{key}.cov": gaussian.covariance}
    if gaussian.frames is not None:
        arrays[f"{key}.n"] = np.asarray(gaussian.frames)
    try:
        with path.open("xb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # its flag stands before the arrays
    except FileExistsError as error:
        raise OutputError(f"{path} exists already", "choose another name") from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "choose another place") from error


def _doubles(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    return np.asarray(values, np.float64)


def _mono(path: Path) -> tuple[FloatArray, int]:
    """Read the mean of a recording's channels, shape=(1, n), as far as it is heard."""
    with open_source(path) as source:
        rate = source.info.sample_rate
        parts = list(_means(source.blocks(), round(MAX_S * rate)))
    if not parts:
        raise InputError(f"{path} has no samples", "leave it out")
    return np.concatenate(parts)[None], rate


def _means(blocks: Iterator[FloatArray], left: int) -> Iterator[FloatArray]:
    for block in blocks:
        yield block[:, :left].mean(axis=0, dtype=np.float32)
        left -= block.shape[1]
        if left <= 0:
            return
