"""Tracks of a batch overlap: one is decoded or encoded while the network serves another."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import AudioWriter
from stemwright.models.separation.members import Member
from tests.service.conftest import Workshop
from tests.service.recordings import recording


class Watch:
    """Counts what is at work at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, int] = {"network": 0, "encode": 0}
        self.together = False
        self.most_calls = 0
        self.allowed_calls = 0

    def enter(self, what: str) -> None:
        with self._lock:
            self._now[what] += 1
            self.together = self.together or min(self._now.values()) > 0
            self.most_calls = max(self.most_calls, self._now["network"])

    def leave(self, what: str) -> None:
        with self._lock:
            self._now[what] -= 1


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    run, commit = Member.run, AudioWriter.commit

    def slow_run(self: Member, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        watch.allowed_calls = self.session.facts.parallel_calls
        watch.enter("network")
        time.sleep(0.02)
        watch.leave("network")
        return run(self, inputs)

    def slow_commit(self: AudioWriter) -> Path:
        watch.enter("encode")
        time.sleep(0.05)
        watch.leave("encode")
        return commit(self)

    monkeypatch.setattr(Member, "run", slow_run)
    monkeypatch.setattr(AudioWriter, "commit", slow_commit)
    return watch


@pytest.mark.parametrize(("workers", "overlaps"), [("1", False), ("2", True)])
def test_one_track_is_encoded_while_the_network_serves_another(
    workshop: Workshop, watch: Watch, workers: str, overlaps: bool
) -> None:
    for index in range(4):
        recording(Path(f"in/{index}.wav"), 20_000)
    assert workshop.batch("in", "-o", "out", "--workers", workers, "--stems", "bass").code == 0
    assert watch.together == overlaps
    assert watch.most_calls <= watch.allowed_calls
