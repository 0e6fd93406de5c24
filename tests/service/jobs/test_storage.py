"""The storage's laws, on a folder and on S3 over HTTP."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemwright.core.errors import ResourceError
from stemwright.service.errors import BusyError, NotFoundError
from stemwright.service.storage import Storage, guard_free_space, upload_part_key
from tests.support.servers import free_port, make_bucket, s3_options

DATA = bytes(range(256)) * 41


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        yield Storage(str(tmp_path / "store"), scratch=tmp_path / "scratch")
        return
    endpoint: str = request.getfixturevalue("s3")
    yield Storage(f"s3://{make_bucket(endpoint)}/a/b", s3_options(endpoint), scratch=tmp_path / "scratch")


def test_a_file_comes_back_whole_and_in_pieces(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(DATA)
    stored = storage.put(source, "jobs/1/separate/r/0.wav")
    assert stored.sha256 == hashlib.sha256(DATA).hexdigest()
    assert stored.size == storage.size(stored.key) == len(DATA)
    assert storage.read_bytes(stored.key) == DATA
    for start, end in ((0, None), (0, 1), (5000, 7000), (len(DATA) - 1, None), (7, 7), (100, len(DATA))):
        assert b"".join(storage.open_range(stored.key, start, end)) == DATA[start:end]


def test_nothing_is_seen_of_a_file_before_it_is_complete_or_when_it_fails(storage: Storage) -> None:
    with storage.writer("uploads/u/0") as sink:
        sink.write(DATA)
        with pytest.raises(NotFoundError):
            storage.size("uploads/u/0")
    assert storage.read_bytes("uploads/u/0") == DATA
    with pytest.raises(KeyError), storage.writer("uploads/u/1") as sink:
        sink.write(DATA)
        raise KeyError
    assert storage.files("uploads/u") == {"0": len(DATA)}
    if storage.free_bytes() is not None:
        assert list(storage.scratch.iterdir()) == []


def test_a_file_is_replaced_at_once(storage: Storage) -> None:
    storage.write_bytes("k/a", b"old")
    storage.write_bytes("k/a", b"newer")
    assert storage.read_bytes("k/a") == b"newer"


def test_trees_are_listed_and_removed(storage: Storage) -> None:
    for key in ("jobs/1/separate/x/0", "jobs/1/separate/y/0", "jobs/1/result/result.json", "jobs/2/z"):
        storage.write_bytes(key, b"data")
    assert sorted(storage.folders("jobs")) == ["1", "2"]
    assert sorted(storage.folders("jobs/1/separate")) == ["x", "y"]
    assert storage.files("jobs/1/separate") == {}
    storage.delete_tree("jobs/1/separate/x")
    assert storage.folders("jobs/1/separate") == ("y",)
    storage.delete_tree("jobs/1")
    storage.delete_tree("jobs/1")
    storage.delete("jobs/2/z")
    storage.delete("jobs/2/z")
    assert storage.folders("jobs/1") == () == storage.folders("nowhere")
    with pytest.raises(ValueError, match="prefix"):
        storage.delete_tree("")


def test_an_upload_s_parts_join_even_where_one_was_sent_twice(storage: Storage, tmp_path: Path) -> None:
    for start, end in ((0, 4000), (4000, 9000), (3000, 4000), (8000, len(DATA))):
        storage.write_bytes(upload_part_key("u", start), DATA[start:end])
    target = tmp_path / "joined"
    assert storage.fetch_upload("u", target) == len(DATA)
    assert target.read_bytes() == DATA
    storage.delete(upload_part_key("u", 4000))
    with pytest.raises(NotFoundError, match="lacks bytes from 4000"):
        storage.fetch_upload("u", target)
    with pytest.raises(NotFoundError, match="not there"):
        storage.fetch_upload("other", target)


def test_what_is_not_there_is_not_found(storage: Storage) -> None:
    for ask in (storage.read_bytes, storage.size, lambda key: list(storage.open_range(key))):
        with pytest.raises(NotFoundError):
            ask("no/such")


def test_a_store_that_works_passes_its_check(storage: Storage) -> None:
    storage.check()
    assert storage.files("check") == {}


def test_writers_and_removers_do_not_trip_over_each_other(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), scratch=tmp_path / "scratch")
    stop, errors = threading.Event(), []

    def write() -> None:
        try:
            for number in range(200):
                storage.write_bytes(f"jobs/1/{number % 3}/f", DATA)
        except Exception as error:
            errors.append(error)
        stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not stop.is_set():
        storage.delete_tree("jobs/1")
        time.sleep(0.0005)
    thread.join()
    assert errors == []


def test_what_died_writers_left_is_swept_but_not_what_lives(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), scratch=tmp_path / "scratch")
    for name in ("dead", "living", "young"):
        (storage.scratch / name).mkdir()
        (storage.scratch / name / "file").write_bytes(DATA)
    (storage.scratch / "old-file").write_bytes(DATA)
    for name in ("dead", "living", "old-file"):
        os.utime(storage.scratch / name, (time.time() - 100, time.time() - 100))
    assert storage.sweep_aside(50, keep={"living"}) == 2
    assert sorted(path.name for path in storage.scratch.iterdir()) == ["living", "young"]


def test_the_guard_refuses_before_the_disk_is_full(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), scratch=tmp_path / "scratch")
    free = storage.free_bytes()
    assert free is not None
    guard_free_space(storage, 1000, least_free=0)
    with pytest.raises(BusyError, match="nearly full"):
        guard_free_space(storage, 1000, least_free=free + (1 << 40))


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path), scratch=tmp_path / "scratch")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="no space left"):
        storage.write_bytes("a/b", DATA)
    assert list(storage.scratch.iterdir()) == []


@pytest.mark.slow
def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    options = s3_options(f"http://127.0.0.1:{free_port()}")
    options["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    storage = Storage("s3://nowhere/x", options, scratch=tmp_path / "scratch")
    with pytest.raises(BusyError, match="does not answer"):
        storage.read_bytes("a")
