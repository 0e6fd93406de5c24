"""Run as a program: separate a generated recording around a trivial network, print the peak memory.

    python -m tests.models.separation.measure_memory MINUTES

The geometry is that of htdemucs: 44.1 kHz, stereo, windows of 7.8 s, four stems.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource, AudioInfo
from stemwright.models.manifest import ChunkPlan
from stemwright.models.separation.separator import SeparationOptions, Separator
from tests.support.fake_sessions import FakeSession, fake_manifest, fake_member, gains_network, noise

RATE = 44_100
SEGMENT = 343_980
SLOW_BLOCKS = 20
"""Blocks after which the consumer waits, so that every queue has once been full, whatever the length."""


class Generated:
    """A recording of any length that costs no memory: one block over and over."""

    def __init__(self, frames: int) -> None:
        self._frames = frames

    @property
    def info(self) -> AudioInfo:
        """Rate and channels; the length is not known beforehand."""
        return ArraySource(noise(2, 1), RATE).info

    def blocks(self, block_frames: int = 65_536) -> Iterator[FloatArray]:
        """Blocks as of any source."""
        block = noise(2, block_frames)
        for start in range(0, self._frames, block_frames):
            yield block[:, : self._frames - start]


def main(minutes: float) -> None:
    """Separate that many minutes and print the figures as JSON."""
    plan = ChunkPlan(input_samples=SEGMENT, output_samples=SEGMENT)
    manifest = fake_manifest(sample_rate=RATE, plan=plan, normalise=True)
    session = FakeSession(network=gains_network(), batch_limit=1)
    started, frames = time.monotonic(), 0
    with Separator([fake_member(session, manifest)], manifest.stems) as separator:
        source = Generated(round(minutes * 60 * RATE))
        for index, block in enumerate(separator.separate(source, SeparationOptions(residual=True))):
            frames += block.frames
            if index < SLOW_BLOCKS:
                time.sleep(0.05)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"frames": frames, "peak_mib": peak_mib, "seconds": time.monotonic() - started}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(float(sys.argv[1]))
