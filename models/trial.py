"""A model under test: calls of its network and separations with it, for the checks of the contract."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.models.manifest import Graph, Manifest, Precision
from stemwright.models.separation.members import Member
from stemwright.models.separation.queries import StemQuery
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.models.separation.states import initial_state
from stemwright.models.sessions.opening import Session, SessionFacts

_LEVEL = 0.1
_TOLERANCES: Mapping[Precision, float] = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 1e-2, "int8": 1e-1}
"""Largest difference relative to the largest stem sample, by the session's precision: another batch
or another rounding of the track's mean may change the last bits. Chosen here."""


class BrokenError(Exception):
    """A check found the contract broken."""


class NotTriedError(Exception):
    """A check cannot be made with this session."""


@dataclass(kw_only=True)
class Trial:
    """A model under test, with the results that several checks need."""

    manifest: Manifest
    session: Session
    batch_size: int | None
    member: Member = field(init=False)
    seconds: float = 0.0
    """Time that the first window took."""

    def __post_init__(self) -> None:
        self.member = Member(
            name=self.manifest.name,
            manifest=self.manifest,
            gains=dict.fromkeys(self.manifest.stems, 1.0),
            opener=lambda: _Borrowed(self.session),
        )

    @cached_property
    def facts(self) -> SessionFacts:
        """What the session uses."""
        return self.session.facts

    @cached_property
    def window_stems(self) -> FloatArray:
        """Stems of the first window alone."""
        started = time.monotonic()
        stems = self.call(self.windows(1))
        self.seconds = time.monotonic() - started
        return stems

    @cached_property
    def track(self) -> FloatArray:
        """A recording one sample longer than a chunk."""
        return noise(self.manifest.audio.channels, self.manifest.plan.output_samples + 1, seed=100)

    @cached_property
    def track_stems(self) -> FloatArray:
        """Stems of that recording, shape=(stems, channels, n)."""
        return self.separate(self.track)

    def windows(self, count: int) -> FloatArray:
        """Windows of noise, the first ones always the same, shape=(count, channels, samples)."""
        plan = self.manifest.plan
        return np.stack(
            [noise(self.manifest.audio.channels, plan.input_samples, seed=seed) for seed in range(count)]
        )

    def conditions(self, count: int, *, seed: int = 0) -> FloatArray | None:
        """Conditions, another for each window, shape=(count, D); None if the model takes none."""
        rules = self.manifest.query
        if rules is None:
            return None
        return np.stack([condition_of(rules.size, seed=seed + index) for index in range(count)])

    def call(self, windows: FloatArray, conditions: FloatArray | None = None) -> FloatArray:
        """Stems of a batch of windows, shape=(batch, stems, channels, samples)."""
        if conditions is None:
            conditions = self.conditions(len(windows))
        inputs = self.member.prepare(windows, condition=conditions)
        if self.manifest.graph.state:
            outputs = self.member.run_with_state({**inputs.arrays, **initial_state(self.session.graph)})
            self._check_state(outputs)
            outputs = {port.name: outputs[port.name] for port in self.session.graph.outputs}
        else:
            outputs = self.member.run(inputs.arrays)
        # A remainder may be left out.
        given = min((array.shape[1] for array in outputs.values() if array.ndim > 1), default=0)
        count = min(given, self.manifest.output_stems)
        samples = windows.shape[-1]
        stems = self.member.recover(outputs, inputs.spectrum, range(max(1, count)), samples)
        if stems.shape[0] != windows.shape[0]:
            raise BrokenError(f"{windows.shape[0]} windows gave stems of {stems.shape[0]}")
        return stems

    def pieces(self, window: FloatArray, size: int) -> FloatArray:
        """Stems of a window in pieces of `size`, each with the state of the one before."""
        state = initial_state(self.session.graph)
        parts: list[FloatArray] = []
        for start in range(0, window.shape[-1], size):
            piece = window[None, :, start : start + size]
            outputs = self.member.run_with_state({**self.member.prepare(piece).arrays, **state})
            state = {tensor.input: outputs[tensor.output] for tensor in self.session.graph.state}
            sound = {port.name: outputs[port.name] for port in self.session.graph.outputs}
            stems = range(self.manifest.output_stems)
            parts.append(self.member.recover(sound, None, stems, piece.shape[-1])[0])
        return np.concatenate(parts, axis=-1)

    def separate(self, samples: FloatArray, block_frames: int = 65_536) -> FloatArray:
        """Stems of a recording at the model's rate, shape=(stems, channels, n)."""
        source = ArraySource(samples, self.manifest.audio.sample_rate)
        queries: tuple[StemQuery, ...] = ()
        if self.manifest.query is not None:
            queries = (StemQuery(name="asked", source=_Same(condition_of(self.manifest.query.size, seed=0))),)
        options = SeparationOptions(block_frames=block_frames, queries=queries)
        with (
            Separator([self.member], self.manifest.stems) as separator,
            separator.separate(source, options) as separation,
        ):
            blocks = [np.stack(list(block.stems.values())) for block in separation]
        return np.concatenate(blocks, axis=-1)

    def compare(self, found: FloatArray, expected: FloatArray, what: str, factor: float = 1) -> None:
        """Raise BrokenError if two results differ by more than the precision explains."""
        scale = max(float(np.abs(expected).max()), 1e-6)
        difference = float(np.abs(found - expected).max()) / scale
        if difference > _TOLERANCES[self.facts.precision] * factor:
            raise BrokenError(f"{what} changes the stems by {difference:.1e} of their peak")

    def _check_state(self, outputs: Mapping[str, FloatArray]) -> None:
        for tensor in self.manifest.graph.state:
            found = outputs[tensor.output]
            if found.shape != tensor.shape or found.dtype != np.dtype(tensor.dtype):
                raise BrokenError(
                    f"state {tensor.output} is {found.dtype} of shape {found.shape}, "
                    f"not {tensor.dtype} of shape {tensor.shape}"
                )


@dataclass(frozen=True)
class _Same:
    """The same condition for every window."""

    vector: FloatArray

    def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray | None:
        return self.vector


@dataclass(frozen=True)
class _Borrowed:
    """The session under test, which the separators of a trial do not close."""

    session: Session

    @property
    def facts(self) -> SessionFacts:
        return self.session.facts

    @property
    def graph(self) -> Graph:
        return self.session.graph

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return self.session.run(inputs)

    def close(self) -> None:
        return


def noise(channels: int, samples: int, *, seed: int) -> FloatArray:
    """White noise, shape=(channels, samples)."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.standard_normal((channels, samples)) * _LEVEL, np.float32)


def condition_of(size: int, *, seed: int) -> FloatArray:
    """Make a condition as probabilities of classes are, few of them large, shape=(size,)."""
    return np.asarray(np.random.default_rng(1000 + seed).uniform(0, 1, size) ** 4, np.float32)
