"""Sessions without a runtime: a numpy function in place of the network."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import OutOfMemoryError
from stemwright.models.manifest import (
    AudioFormat,
    ChunkPlan,
    Graph,
    GraphInput,
    GraphOutput,
    Licence,
    Manifest,
    TrackNormalisation,
)
from stemwright.models.separation.members import Member
from stemwright.models.separation.separator import Separation, SeparationOptions, Separator
from stemwright.models.sessions.opening import SessionFacts

STEMS = ("drums", "bass", "other", "vocals")
GAINS = (0.4, 0.3, 0.2, 0.1)
WAVEFORM_GRAPH = Graph(
    inputs=(GraphInput(name="mixture", role="waveform"),),
    outputs=(GraphOutput(name="stems", role="waveform"),),
)
Network = Callable[[FloatArray], FloatArray]
"""Windows, shape=(batch, channels, T_in), to stems, shape=(batch, stems, channels, T_out)."""


def gains_network(gains: Sequence[float] = GAINS) -> Network:
    """Stem s is gains[s] times the mixture: knows nothing of context."""
    column = np.asarray(gains, np.float32)[:, None, None]
    return lambda windows: windows[:, None] * column


def context_kernels(stems: int = len(STEMS), taps: int = 65, seed: int = 7) -> FloatArray:
    """Filters of context_network, shape=(stems, taps)."""
    return np.random.default_rng(seed).standard_normal((stems, taps), np.float32) / np.float32(taps**0.5)


def context_network(kernels: FloatArray | None = None, trim: int = 0) -> Network:
    """Filter and a dependence on the whole window: wrong context or a wrong place in it shows.

    Stem s = tanh(kernel_s * (x - mean(x)) + ramp), with the ramp -0.1..0.1 over the window; `trim`
    samples are cut off at both ends.
    """
    from scipy.signal import oaconvolve  # slow to import: workers that are killed all the time do without

    filters = context_kernels() if kernels is None else kernels

    def run(windows: FloatArray) -> FloatArray:
        samples = windows.shape[-1]
        ramp = np.linspace(-0.1, 0.1, samples, dtype=np.float32)
        centred = windows - windows.mean(axis=-1, keepdims=True)
        out = oaconvolve(centred[:, None], filters[None, :, None], mode="full", axes=-1)
        half = filters.shape[-1] // 2
        out = np.tanh(out[..., half : half + samples] + ramp)
        return np.ascontiguousarray(out[..., trim : samples - trim], dtype=np.float32)

    return run


def join_by_hand(pieces: Sequence[tuple[int, FloatArray]], weight: FloatArray, frames: int) -> FloatArray:
    """Cross-fade whole outputs, each with its start and shape=(..., n), over a track of `frames` samples."""
    sums = np.zeros((*pieces[0][1].shape[:-1], frames))
    weights = np.zeros(frames)
    for start, piece in pieces:
        for offset in range(piece.shape[-1]):
            if 0 <= start + offset < frames:
                sums[..., start + offset] += piece[..., offset].astype(np.float64) * weight[offset]
                weights[start + offset] += weight[offset]
    return (sums / weights).astype(np.float32)


@dataclass(kw_only=True)
class FakeSession:
    """A session around a network function; counts what it is asked."""

    network: Network
    graph: Graph = WAVEFORM_GRAPH
    parallel_calls: int = 1
    batch_limit: int = 4
    memory: int | None = None
    before: Callable[[int], None] | None = None
    batches: list[int] = field(default_factory=list)
    closed: bool = False
    running: int = 0
    most_running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def facts(self) -> SessionFacts:
        return SessionFacts(
            provider="cpu",
            device="cpu",
            runtime="numpy",
            precision="float32",
            threads=1,
            parallel_calls=self.parallel_calls,
            batch_limit=self.batch_limit,
            chosen_because="a test",
        )

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        windows = inputs["mixture"]
        with self.lock:
            self.batches.append(windows.shape[0])
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            call = len(self.batches)
        try:
            if self.before is not None:
                self.before(call)
            if self.memory is not None and windows.shape[0] > self.memory:
                raise OutOfMemoryError("the network ran out of memory", "use a smaller batch")
            return {"stems": self.network(windows)}
        finally:
            with self.lock:
                self.running -= 1

    def close(self) -> None:
        self.closed = True


def fake_manifest(
    *,
    name: str = "fake",
    stems: tuple[str, ...] = STEMS,
    sample_rate: int = 1000,
    channels: int = 2,
    plan: ChunkPlan | None = None,
    normalise: bool = False,
) -> Manifest:
    """Manifest of a network with waveform input and output; windows of 256 samples unless told."""
    return Manifest(
        name=name,
        family="test",
        licence=Licence(name="CC0-1.0", text="Free to use"),
        stems=stems,
        audio=AudioFormat(sample_rate=sample_rate, channels=channels),
        plan=plan or ChunkPlan(input_samples=256, output_samples=256),
        graph=WAVEFORM_GRAPH,
        normalisation=TrackNormalisation() if normalise else None,
    )


def fake_member(
    session: FakeSession, manifest: Manifest | None = None, gains: Mapping[str, float] | None = None
) -> Member:
    """Member of a separator around a fake session."""
    manifest = manifest or fake_manifest()
    return Member(
        name=manifest.name,
        manifest=manifest,
        gains=dict.fromkeys(manifest.stems, 1.0) if gains is None else gains,
        opener=lambda: session,
    )


def fake_separator(
    network: Network | None = None, manifest: Manifest | None = None, **session: object
) -> Separator:
    """Separator of one fake model."""
    made = FakeSession(network=network or gains_network(), **session)  # type: ignore[arg-type]
    manifest = manifest or fake_manifest()
    return Separator([fake_member(made, manifest)], manifest.stems)


def collect(separation: Separation) -> dict[str, FloatArray]:
    """Join the blocks of a separation, checking that they follow on each other."""
    parts: dict[str, list[FloatArray]] = {name: [] for name in separation.stem_names}
    position = 0
    with separation:
        for block in separation:
            assert block.start == position
            assert tuple(block.stems) == separation.stem_names
            position += block.frames
            for name, samples in block.stems.items():
                assert samples.dtype == np.float32
                assert samples.shape == (separation.channels, block.frames)
                parts[name].append(samples)
    assert position == separation.frames
    return {name: np.concatenate(blocks, axis=1) for name, blocks in parts.items()}


def separate_array(
    separator: Separator,
    samples: FloatArray,
    sample_rate: int = 1000,
    options: SeparationOptions | None = None,
) -> dict[str, FloatArray]:
    """Separate samples, shape=(channels, n), and join the blocks."""
    return collect(separator.separate(ArraySource(samples, sample_rate), options))


def noise(channels: int, frames: int, seed: int = 0, level: float = 0.1) -> FloatArray:
    """White noise with a small offset, shape=(channels, frames)."""
    samples = np.random.default_rng(seed).standard_normal((channels, frames)) * level + 0.02
    return samples.astype(np.float32)
