"""What a metric is, and what it is given."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from stemwright.core.arrays import FloatArray
from stemwright.eval.bss_eval.images import Pairs
from stemwright.eval.rows import StemScores

BLOCK_S = 1.0
"""Seconds that metrics read at a time."""


class Recording(Protocol):
    """A mixture, read as often as needed: a core.audio source, for one."""

    def blocks(self, block_frames: int = ...) -> Iterator[FloatArray]:
        """Blocks of at most `block_frames` samples, shape=(channels, n)."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """What is scored.

    Parameters
    ----------
    pairs
        References and estimates.
    mixture
        What the estimates were separated from, at the rate and with the channels of the pairs; None if it
        is not at hand.
    """

    pairs: Pairs
    mixture: Recording | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How tracks are scored.

    Parameters
    ----------
    window_s, hop_s
        Frames of BSS Eval.
    threads
        Frames scored at a time.
    """

    window_s: float = 1.0
    hop_s: float = 1.0
    threads: int = 2


class Engine(Protocol):
    """Scores some of the metrics that it is the engine of, in as few readings as it can."""

    def __call__(
        self, track: Track, metrics: "tuple[Metric, ...]", options: ScoreOptions
    ) -> dict[str, StemScores]:
        """Scores of every stem of the track, by its name: a value for every column of the metrics."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, by the name that it is asked for.

    Parameters
    ----------
    name
        Such as `si-sdr` or `mse:cdpam`.
    columns
        Names of its numbers in tables and rows.
    better
        Which way is better.
    unit
        Such as `dB`; empty for plain numbers.
    meaning
        One line that says what it is.
    engine
        Computes it; metrics with the same engine are computed together.
    needs
        `mixture`: the mixture.
    framewise
        Whether it has a value for every frame besides the track's.
    options
        What it is computed with, for run.json.
    """

    name: str
    columns: tuple[str, ...]
    better: Literal["higher", "lower"]
    unit: str
    meaning: str
    engine: Engine
    needs: frozenset[Literal["mixture"]] = frozenset()
    framewise: bool = False
    options: dict[str, float | str] = field(default_factory=dict, compare=False)
