"""Networks without a runtime that take conditions, or hand a state from call to call."""

from collections.abc import Mapping

import numpy as np
from scipy.signal import lfilter

from stemwright.core.arrays import FloatArray
from stemwright.models.manifest import (
    ChunkPlan,
    Graph,
    GraphInput,
    GraphOutput,
    Manifest,
    QueryRules,
    StateTensor,
    Streaming,
)
from tests.support.fake_sessions import FakeSession, fake_manifest

ASKED_GRAPH = Graph(
    inputs=(GraphInput(name="mixture", role="waveform"), GraphInput(name="query", role="condition")),
    outputs=(GraphOutput(name="stems", role="waveform"),),
)
ASKED_PLAN = ChunkPlan(input_samples=200, output_samples=200, overlap=0.5, window="hann", tail="end")


def asked_manifest(**changes: object) -> Manifest:
    data = {
        **fake_manifest(plan=ASKED_PLAN).model_dump(),
        "stems": (),
        "stem_kind": "query",
        "graph": ASKED_GRAPH,
        "query": QueryRules(condition="class_probabilities", size=2, tagger="tagger"),
        **changes,
    }
    return Manifest.model_validate(data)


def answer_to(window: FloatArray, condition: FloatArray) -> FloatArray:
    """What the network makes of one window, shape=(1, channels, samples)."""
    ramp = np.linspace(-1, 1, window.shape[-1], dtype=np.float32)
    return np.asarray(np.tanh(condition[0] * window + condition[1] * ramp * np.abs(window))[None], np.float32)


class AskedSession(FakeSession):
    """Answers each window by its own condition."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        with self.lock:
            self.batches.append(len(inputs["mixture"]))
        pairs = zip(inputs["mixture"], inputs["query"], strict=True)
        return {"stems": np.stack([answer_to(window, condition) for window, condition in pairs])}


LAG, POLE = 24, 0.99
STATE_STEMS = ("speaker1", "speaker2")
STATE_GRAPH = Graph(
    inputs=(GraphInput(name="mixture", role="waveform"),),
    outputs=(GraphOutput(name="stems", role="waveform"),),
    batch="one",
    state=(
        StateTensor(input="memory.in", output="memory.out", shape=(1, 2, 1), dtype="float64", initial=0.5),
        StateTensor(input="delay.in", output="delay.out", shape=(1, 2, 2, LAG)),
    ),
)


class RememberingSession(FakeSession):
    """Stems from all that was heard so far, LAG samples late."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        with self.lock:
            self.batches.append(inputs["mixture"].shape[-1])
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            call = len(self.batches)
        try:
            if self.before is not None:
                self.before(call)
            assert inputs["memory.in"].dtype == np.float64
            assert inputs["delay.in"].dtype == np.float32
            return remember(inputs["mixture"], inputs["memory.in"], inputs["delay.in"])
        finally:
            with self.lock:
                self.running -= 1


def remember(mixture: FloatArray, memory: FloatArray, delay: FloatArray) -> dict[str, FloatArray]:
    heard = mixture[0].astype(np.float64)
    slow, _ = lfilter([1 - POLE], [1, -POLE], heard, axis=-1, zi=memory[0] * POLE)
    stems = np.stack([np.tanh(slow), heard - slow])[None].astype(np.float32)
    late = np.concatenate([delay, stems], axis=-1)
    count = mixture.shape[-1]
    return {
        "stems": late[..., :count],
        "memory.out": slow[None, :, -1:],
        "delay.out": np.ascontiguousarray(late[..., count:]),
    }


def remembering_manifest(size: int = 64, *, kind: str = "fixed", **changes: object) -> Manifest:
    plan = {"input_samples": size, "output_samples": size, "overlap": 0.0, "window": "rectangular"}
    data = {
        **fake_manifest(stems=STATE_STEMS).model_dump(),
        "graph": STATE_GRAPH,
        "plan": ChunkPlan.model_validate({**plan, "tail": "end", "time": kind}),
        "streaming": Streaming(latency_samples=LAG),
        **changes,
    }
    return Manifest.model_validate(data)
