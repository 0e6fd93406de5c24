"""A worker's process whose models take a known time, or kill it: `python -m tests.support.stub_worker`.

Models by name: `slow-N` takes N ms a chunk of 4096 samples, `poison` kills the process at the second chunk,
`broken` fails at the second chunk.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import AudioSource
from stemwright.models.manifest import ChunkPlan
from stemwright.models.separation.separator import Separator
from stemwright.service.asking import Wishes
from stemwright.service.jobs.warm import WarmEngines
from stemwright.service.jobs.worker import Worker, run_worker
from stemwright.service.logs import configure_logs
from stemwright.service.settings import load_settings
from stemwright.service.tracks import Engine, TrackOptions
from tests.support.fake_sessions import FakeSession, fake_manifest, fake_member

SEGMENT = 4096
GAINS = (0.5, 0.25)
STEMS = ("vocals", "other")


class StubEngines(WarmEngines):
    """Engines of models that need no file."""

    def engine(self, model: str) -> Engine:
        with self._lock:
            key = (model, "")
            if key not in self._open:
                self._open[key] = Engine(separator=_separator(model), models=())
            return self._open[key]

    def interchangeable(self, model: str) -> bool:
        return False

    def ask(self, model: str, wishes: Wishes, options: TrackOptions, recording: AudioSource) -> TrackOptions:
        return options


def _separator(model: str) -> Separator:
    kind, _, pause = model.partition("-")
    calls = 0

    def network(windows: FloatArray) -> FloatArray:
        nonlocal calls
        calls += 1
        if kind == "poison" and calls == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "broken" and calls == 2:
            raise ValueError("a fault that nobody foresaw")
        time.sleep(int(pause or 0) / 1000 * windows.shape[0])
        return np.stack([windows * np.float32(gain) for gain in GAINS], axis=1)

    manifest = fake_manifest(
        name=model,
        stems=STEMS,
        sample_rate=44100,
        plan=ChunkPlan(input_samples=SEGMENT, output_samples=SEGMENT),
    )
    return Separator([fake_member(FakeSession(network=network, batch_limit=1), manifest)], manifest.stems)


def main() -> None:
    """Run a worker with these engines; settings come from the environment."""
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format)
    engines = StubEngines(Path("/nowhere"), device="cpu", precision="float32", most=8)
    run_worker(Worker(settings, settings.queues[0], engines=engines), once="--once" in sys.argv)


if __name__ == "__main__":
    main()
