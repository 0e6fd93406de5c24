"""Distances of embeddings: mean squared error, and the Fréchet distance of the Gaussians fitted to them.

Both are computed in the arithmetic they were published with, float16 where their tool stores float16: ties
and underflows of that grid are a part of published numbers. The trace of the root of a product of covariances
comes from singular values, which is stable where the covariances have no full rank.

References
----------
P. Bereuter et al., "Towards Reliable Objective Evaluation Metrics for Generative Singing Voice Separation
Models", WASPAA 2025 (embedding MSE, song-to-song FAD); A. Gui et al., "Adapting Fréchet Audio Distance for
Generative Music Evaluation", ICASSP 2024 (fadtk, FAD-inf); D. Dowson, B. Landau, "The Fréchet distance
between multivariate normal distributions", 1982.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from stemwright.core.errors import InputError
from stemwright.models.embedders.session import Embedding

Doubles = npt.NDArray[np.float64]


def mean_squared_error(reference: Embedding, estimate: Embedding) -> float:
    """Return the mean over frames and dimensions of the squared difference, in the embeddings' arithmetic.

    Parameters
    ----------
    reference, estimate
        Both float16 or both float32, shape=(frames, E). In float16 difference, square and result are
        rounded to float16; the sum is taken in float32.

    Raises
    ------
    InputError
        The numbers of frames differ: the distance is one of frames at equal times.
    """
    if reference.shape != estimate.shape:
        raise InputError(
            f"the reference has {len(reference)} frames of {reference.shape[1]} values, the estimate "
            f"{len(estimate)} of {estimate.shape[1]}",
            "compare sounds of equal length by one embedder",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean((reference - estimate) ** 2))


def song_to_song(reference: Embedding, estimate: Embedding) -> float:
    """Return the Fréchet distance of two sounds, each a Gaussian over its own frames.

    Means are rounded to the embeddings' type, and so is the squared distance of them; covariances (n - 1) are
    float64.

    Parameters
    ----------
    reference, estimate
        float16 or float32, shapes=(frames, E); the numbers of frames may differ.

    Raises
    ------
    InputError
        Fewer than two frames, or embeddings of different sizes.
    """
    if reference.shape[1:] != estimate.shape[1:]:
        raise InputError("the embeddings are of different sizes", "use one embedder for both")
    with np.errstate(over="ignore", invalid="ignore"):
        offset = reference.mean(axis=0) - estimate.mean(axis=0)
        distance = float(offset.dot(offset))
    first, second = (_factor(frames) for frames in (reference, estimate))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    root = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return distance + float(np.square(first).sum() + np.square(second).sum() - 2.0 * root)


def _factor(frames: Embedding) -> Doubles:
    """Return A with A^T A the covariance, shape=(min(frames, E), E)."""
    if len(frames) < 2:
        raise InputError(
            f"a covariance needs two frames, there is {len(frames)}", "use longer sounds, or another embedder"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        wide = frames.astype(np.float64)
        centred = (wide - wide.mean(axis=0)) / np.sqrt(len(frames) - 1)
    if len(frames) <= frames.shape[1] or not np.isfinite(centred).all():
        return np.asarray(centred, np.float64)
    return np.asarray(np.linalg.qr(centred, mode="r"))


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Mean and covariance of a set of frames.

    Parameters
    ----------
    mean
        float64, shape=(E,).
    covariance
        float64, shape=(E, E), with n - 1.
    frames
        n; None where a file of statistics does not tell it.
    """

    mean: Doubles
    covariance: Doubles
    frames: int | None

    @cached_property
    def root(self) -> Doubles:
        """A with A A^T the covariance, shape=(E, E)."""
        values, vectors = np.linalg.eigh(self.covariance)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return |m1 - m2|^2 + tr C1 + tr C2 - 2 tr sqrt(C1 C2), in float64.

    Raises
    ------
    InputError
        The Gaussians are of different sizes.
    """
    if one.mean.shape != other.mean.shape:
        raise InputError(
            f"the statistics have {len(one.mean)} and {len(other.mean)} dimensions",
            "use statistics of one embedder",
        )
    offset = one.mean - other.mean
    # The eigenvalues of C1 C2 are those of A^T C2 A, C1 = A A^T, which is symmetric.
    inner = one.root.T @ other.covariance @ one.root
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(inner), 0.0)).sum()
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    return float(offset @ offset + traces - 2.0 * roots)


@dataclass(kw_only=True)
class FrameStatistics:
    """Sums over frames from which their Gaussian follows; grows by a sound at a time."""

    frames: int
    mean: Doubles
    scatter: Doubles

    @classmethod
    def empty(cls, size: int) -> "FrameStatistics":
        """Return the statistics of no frames, of embeddings of a size."""
        return cls(frames=0, mean=np.zeros(size), scatter=np.zeros((size, size)))

    def add(self, frames: Embedding) -> None:
        """Take in frames, shape=(n, E), n >= 1."""
        wide = frames.astype(np.float64)
        mean, count = wide.mean(axis=0), len(wide)
        centred, offset = wide - mean, mean - self.mean
        total = self.frames + count
        self.mean = self.mean + offset * (count / total)
        self.scatter = self.scatter + centred.T @ centred
        self.scatter += np.outer(offset, offset) * (self.frames * count / total)
        self.frames = total

    def gaussian(self) -> Gaussian:
        """Return the Gaussian; raises InputError for fewer than two frames."""
        if self.frames < 2:
            raise InputError(
                f"a covariance needs two frames, there is {self.frames}", "use more or longer sounds"
            )
        return Gaussian(mean=self.mean, covariance=self.scatter / (self.frames - 1), frames=self.frames)
