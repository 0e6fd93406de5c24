"""Pieces of stems join to the whole, sample by sample, whatever the format and wherever the file lies."""

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.source import ArraySource, open_source
from stemwright.core.audio.stem_mp4 import open_stem_writer
from stemwright.core.errors import InternalError, OptionError
from stemwright.service.errors import NotFoundError
from stemwright.service.jobs.model import StemView
from stemwright.service.media import desk as desks
from stemwright.service.media import pieces
from stemwright.service.media.desk import MediaDesk
from stemwright.service.media.peaks import compute_peaks
from stemwright.service.storage import Storage
from tests.service.recordings import noise

RATE = 8000


class Shelf:
    """A storage with stems of one job."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage(str(folder / "storage"), scratch=folder / "scratch")
        self.folder = folder
        self.desk = MediaDesk(self.storage, piece_s=0.5)

    def stem(self, samples: FloatArray, fmt: OutputFormat, *, rate: int = RATE) -> StemView:
        path = self.folder / f"0{fmt.extension}"
        with open_writer(path, fmt, rate, samples.shape[0]) as writer:
            writer.write(samples)
            writer.commit()
        return self.stored(path, ("vocals",))

    def stored(self, path: Path, stems: tuple[str, ...]) -> StemView:
        key = f"jobs/a/separate/1/{path.name}"
        self.storage.write_bytes(key, path.read_bytes())
        return StemView(
            name="+".join(stems), stems=stems, file=path.name, size=1, etag="x", mime="audio/x", key=key
        )

    def read(self, key: str) -> FloatArray:
        path = self.folder / f"read.{key.rpartition('.')[2]}"
        path.write_bytes(self.storage.read_bytes(key))
        samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
        return np.asarray(samples.T, np.float32)

    def joined(self, stem: StemView, container: str, *, name: str | None = None) -> FloatArray:
        facts = self.desk.preview("a", stem, name=name)
        parts = [
            self.read(self.desk.piece("a", stem, index, container, name=name))  # type: ignore[arg-type]
            for index in range(facts.pieces)
        ]
        assert all(piece.shape[1] == facts.piece_frames for piece in parts[:-1])
        assert 0 < parts[-1].shape[1] <= facts.piece_frames
        return np.concatenate(parts, axis=1)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize(
    ("fmt", "containers"),
    [
        (OutputFormat(container="wav"), ("wav", "flac")),
        (OutputFormat(container="wav", bit_depth="24"), ("wav", "flac")),
        (OutputFormat(container="wav", bit_depth="32f"), ("wav",)),
        (OutputFormat(container="flac"), ("wav", "flac")),
        (OutputFormat(container="flac", bit_depth="24"), ("wav", "flac")),
    ],
)
@pytest.mark.parametrize("frames", [1, 3999, 4000, 4001, 30_123])
def test_pieces_of_lossless_stems_are_the_stem(
    shelf: Shelf, fmt: OutputFormat, containers: tuple[str, ...], frames: int
) -> None:
    level = 1.7 if fmt.bit_depth == "32f" else 1.0
    stem = shelf.stem(noise(frames, 2, level=level), fmt)
    whole = shelf.read(stem.key)
    assert whole.shape == (2, frames)
    for container in containers:
        assert np.array_equal(shelf.joined(stem, container), whole)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(piece_s=st.floats(0.01, 2), frames=st.integers(1, 9000), channels=st.integers(1, 3))
def test_pieces_of_any_length_join(shelf: Shelf, piece_s: float, frames: int, channels: int) -> None:
    shelf.storage.delete_tree("jobs/a")
    shelf.desk = MediaDesk(shelf.storage, piece_s=piece_s)
    stem = shelf.stem(noise(frames, channels), OutputFormat(container="flac"))
    whole = shelf.read(stem.key)
    facts = shelf.desk.preview("a", stem)
    for index in {0, facts.pieces // 2, facts.pieces - 1}:
        start = index * facts.piece_frames
        piece = shelf.read(shelf.desk.piece("a", stem, index, "flac"))
        assert np.array_equal(piece, whole[:, start : start + facts.piece_frames])


@pytest.mark.parametrize("container", ["mp3", "ogg", "m4a"])
def test_pieces_of_lossy_stems_are_what_the_stem_decodes_to(shelf: Shelf, container: str) -> None:
    fmt = OutputFormat(container=container)  # type: ignore[arg-type]
    stem = shelf.stem(noise(30_123, 2, level=0.3), fmt)
    (shelf.folder / "whole").write_bytes(shelf.storage.read_bytes(stem.key))
    with open_source(shelf.folder / "whole") as source:
        whole = np.concatenate(list(source.blocks()), axis=1)
    joined = shelf.joined(stem, "wav")
    assert joined.shape == whole.shape == (2, 30_123)
    assert np.abs(joined - whole).max() <= 0.51 / 32768
    assert np.array_equal(shelf.joined(stem, "flac"), joined)


def test_each_stem_of_a_dj_container_has_pieces_and_peaks(shelf: Shelf) -> None:
    names = ("drums", "bass", "other", "vocals")
    blocks = np.concatenate([noise(44_100, 2, level=0.1 * (k + 1), seed=k) for k in range(5)])
    path = shelf.folder / "0.stem.mp4"
    with open_stem_writer(path, names, 44_100, 2) as writer:
        writer.write(blocks)
        writer.commit()
    stem = shelf.stored(path, names)
    for index, name in enumerate(names):
        with open_source(path, stream=index + 1) as source:
            whole = np.concatenate(list(source.blocks()), axis=1)
        assert np.abs(shelf.joined(stem, "wav", name=name) - whole).max() <= 0.51 / 32768
        expected = compute_peaks(ArraySource(whole, 44_100))
        assert shelf.desk.peaks("a", stem, name=name).to_bytes() == expected.to_bytes()
    with pytest.raises(NotFoundError, match="has no stem 'piano'"):
        shelf.desk.peaks("a", stem, name="piano")
    with pytest.raises(NotFoundError):
        shelf.desk.peaks("a", stem)


def test_peaks_are_those_of_the_stem_and_kept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = shelf.stem(noise(30_000, 2), OutputFormat(container="wav"))
    expected = compute_peaks(ArraySource(shelf.read(stem.key), RATE))
    assert shelf.desk.peaks("a", stem).to_bytes() == expected.to_bytes()
    monkeypatch.setattr(desks, "compute_peaks", None)
    assert shelf.desk.peaks("a", stem).to_bytes() == expected.to_bytes()


def test_what_cannot_be_had_is_told(shelf: Shelf) -> None:
    stem = shelf.stem(noise(9000, 2), OutputFormat(container="wav", bit_depth="32f"))
    for index in (-1, 3, 10**9):
        with pytest.raises(NotFoundError, match="no piece") as caught:
            shelf.desk.piece("a", stem, index)
        assert "0 to 2" in caught.value.remedy
    with pytest.raises(OptionError, match="cannot hold this stem exactly"):
        shelf.desk.piece("a", stem, 0, "flac")
    with pytest.raises(NotFoundError):
        shelf.desk.piece("a", stem.model_copy(update={"key": "jobs/a/separate/1/9.wav"}), 0)
    shelf.storage.write_bytes("jobs/a/separate/1/7.wav", b"RIFF")
    with pytest.raises(InternalError, match="cannot be read"):
        shelf.desk.piece("a", stem.model_copy(update={"key": "jobs/a/separate/1/7.wav"}), 0)
    assert not shelf.storage.files("jobs/a/media")
    assert not list(shelf.storage.scratch.iterdir())


def test_one_piece_reads_a_small_part_of_a_long_stem(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random access is what makes a piece of an hour's stem cheap in an object store."""
    shelf.desk = MediaDesk(shelf.storage, piece_s=10.0)
    for fmt in (OutputFormat(container="wav"), OutputFormat(container="flac")):
        stem = shelf.stem(noise(20 * 10 * RATE, 2), fmt)
        read: list[int] = []
        original = Storage.open_range

        def counting(self: Storage, key: str, start: int = 0, end: int | None = None):  # type: ignore[no-untyped-def]
            for block in original(self, key, start, end):  # noqa: B023 - called within the loop
                read.append(len(block))  # noqa: B023
                yield block

        with monkeypatch.context() as patch:
            patch.setattr(Storage, "open_range", counting)
            shelf.desk.piece("a", stem, 15)
        whole = len(shelf.storage.read_bytes(stem.key))
        assert sum(read) < 0.6 * whole
        shelf.storage.delete_tree("jobs/a")


def test_many_threads_that_want_the_same_make_it_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = shelf.stem(noise(30_000, 2, level=0.3), OutputFormat(container="ogg"))
    made: list[int] = []
    original = pieces.write_exact_copy

    def counting(path: Path, target: Path, *, stream: int = 0) -> None:
        made.append(1)
        original(path, target, stream=stream)

    monkeypatch.setattr(desks, "write_exact_copy", counting)
    threads = [threading.Thread(target=shelf.desk.piece, args=("a", stem, index % 4)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1
    assert len([1 for _ in shelf.storage.files("jobs/a/media/0-0/0.5s")]) == 4
