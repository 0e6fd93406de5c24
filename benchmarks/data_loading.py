"""How fast examples are drawn from packs, and how much longer a step takes than its network alone.

    python benchmarks/data_loading.py [--workers 2] [--step-ms 50]

Packs are made of noise in a temporary folder: speech at 8 kHz, songs at 44.1 kHz stereo, events at 32 kHz. A
GPU is imitated by a consumer that waits `--step-ms` for each batch; `overhead` is what loading adds to that.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stemwright.training.augmentation.repitching import RepitchRules
from stemwright.training.data.batches import Batch, batches
from stemwright.training.data.events import EventPairs, EventRules
from stemwright.training.data.examples import Source
from stemwright.training.data.pack import ANCHORS_FILE, AUDIO_FILE, Pack
from stemwright.training.data.pack_index import (
    Anchor,
    AnchorTable,
    Kind,
    PackIndex,
    Recording,
    SongStatistics,
    write_index,
)
from stemwright.training.data.songs import SongRules, Songs
from stemwright.training.data.speech import SpeechMixtures, SpeechRules

STEMS = ("drums", "bass", "other", "vocals")


def make_pack(folder: Path, kind: Kind, *, rate: int, channels: int, groups: int, seconds: int) -> Pack:
    """Write a pack of noise: `groups` songs, speakers or classes."""
    folder.mkdir()
    roles = STEMS if kind == "stems" else ("",)
    each = seconds * rate
    frames = groups * len(roles) * each
    audio = np.lib.format.open_memmap(folder / AUDIO_FILE, "w+", np.int16, (frames, channels))
    rng = np.random.default_rng(0)
    recordings = []
    for number in range(groups * len(roles)):
        audio[number * each : (number + 1) * each] = rng.integers(-9000, 9000, (each, channels), np.int16)
        group, role = divmod(number, len(roles))
        recordings.append(
            Recording(
                name=f"g{group}", group=f"g{group}", role=roles[role], labels=(f"class{group % 10}",),
                offset=number * each, frames=each, gain=1.0, level=0.16, peak=0.3,
            )
        )  # fmt: skip
    table = None
    if kind == "events":
        anchors = tuple(
            Anchor(recording=n, label=f"class{n % 10}", start=0, score=0.5) for n in range(groups)
        )
        np.save(folder / ANCHORS_FILE, rng.random((groups, 521 + 1024), np.float32))
        classes = tuple(f"/m/{n}" for n in range(521))
        table = AnchorTable(
            tagger="none", classes=classes, embedding_size=1024, segment=2 * rate, anchors=anchors
        )
    index = PackIndex(
        kind=kind, layout="none", sample_rate=rate, channels=channels, frames=frames, fingerprint="",
        recordings=tuple(recordings), anchors=table,
        statistics={f"g{n}": SongStatistics(mean=0, std=0.2) for n in range(groups)},
    )  # fmt: skip
    write_index(folder, index)
    return Pack.open(folder)


def sources(folder: Path) -> Iterator[tuple[str, Source, int]]:
    """Yield what is measured: name, source, batch size."""
    speech = make_pack(folder / "speech", "speech", rate=8000, channels=1, groups=100, seconds=15)
    songs = make_pack(folder / "songs", "stems", rate=44100, channels=2, groups=6, seconds=60)
    events = make_pack(folder / "events", "events", rate=32000, channels=1, groups=100, seconds=5)
    yield "two voices, 4 s at 8 kHz", SpeechMixtures(speech), 16
    yield "  with speeds 0.9 and 1.1", SpeechMixtures(speech, SpeechRules(speeds=(0.9, 1.1))), 16
    yield "songs, 11 s at 44.1 kHz stereo", Songs(songs, SongRules(seconds=11)), 8
    repitched = SongRules(seconds=11, repitch=RepitchRules())
    yield "  one in five repitched", Songs(songs, repitched), 8
    yield "events, 2 s at 32 kHz", EventPairs(events, EventRules(batch_size=16)), 16


def seconds_a_step(source: Source, size: int, *, steps: int, workers: int, wait_s: float) -> float:
    """Return how long a step takes whose network takes `wait_s`."""
    warm = 2 * max(1, workers) + 1
    stream = iter(batches(source, seed=0, batch_size=size, workers=workers, end_step=steps + warm))
    for _ in range(warm):
        _used(next(stream))
    start = time.perf_counter()
    for batch in stream:
        _used(batch)
        time.sleep(wait_s)
    return (time.perf_counter() - start) / steps


def _used(batch: Batch) -> None:
    if not bool(batch.mixture[0, 0, 0].isfinite()):
        raise ValueError("a batch is not finite")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step-ms", type=float, default=200.0)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    wait_s = given.step_ms / 1000
    print(f"{'':34}{'one process':>22}{f'{given.workers} workers':>22}{'overhead':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for name, source, size in sources(Path(folder)):
            alone = seconds_a_step(source, size, steps=given.steps, workers=0, wait_s=0)
            ahead = seconds_a_step(source, size, steps=given.steps, workers=given.workers, wait_s=0)
            step = seconds_a_step(source, size, steps=given.steps, workers=given.workers, wait_s=wait_s)
            print(
                f"{name:34}{size / alone:>13.0f} examples/s{size / ahead:>11.0f} examples/s"
                f"{100 * (step / wait_s - 1):>10.1f} %"
            )


if __name__ == "__main__":
    main()
