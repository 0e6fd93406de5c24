"""Recordings decoded in another process: the same samples, and no way to hurt this one."""

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.source import open_source
from stemwright.core.audio.tags import Tags
from stemwright.core.errors import InputError, InternalError, OptionError
from stemwright.service.isolation.decoders import PROGRAM, Decoders
from stemwright.service.isolation.limits import DecodeLimits
from stemwright.service.isolation.source import IsolatedSource, open_isolated
from tests.service.recordings import noise, recording, write
from tests.support import hostile_decoder
from tests.support.paths import ROOT

HOSTILE = (sys.executable, hostile_decoder.__file__)
TIGHT = DecodeLimits(memory_bytes=400 << 20, stall_s=30.0, cpu_s=30, max_audio_s=60.0)
HASTY = DecodeLimits(stall_s=1.0)
Hostile = Callable[..., IsolatedSource]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT / '.dev'}{os.pathsep}{ROOT}")
        yield


@pytest.fixture(scope="module")
def decoders(_importable: None) -> Iterator[Decoders]:
    with Decoders() as started:
        yield started


@pytest.fixture(scope="module")
def hostile(_importable: None) -> Iterator[Hostile]:
    """Opens a recording whose decoder does what the recording's name says."""
    with Decoders(HOSTILE) as started:

        def open_it(deed: str, limits: DecodeLimits = TIGHT) -> IsolatedSource:
            return open_isolated("x", name=deed, limits=limits, decoders=started)

        yield open_it


@pytest.fixture(autouse=True)
def _nothing_is_left(decoders: Decoders, hostile: Hostile) -> Iterator[None]:
    descriptors, children = set(os.listdir("/proc/self/fd")), _children()
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)
    assert _children() <= children  # servers of other tests may be among them


def _children() -> set[str]:
    """Ids of the processes whose parent this one is, ended ones that nobody waited for among them."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.add(stat.parent.name)
    return found


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_samples_and_facts_are_those_of_decoding_here(
    decoders: Decoders, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"song{suffix}"
    soundfile.write(path, noise(150_001).T, 44_100)
    with open_source(path) as here, open_isolated(path, decoders=decoders) as there:
        assert there.info == here.info
        for frames in (65_536, 1000):
            mine, theirs = list(here.blocks(frames)), list(there.blocks(frames))
            assert [b.shape for b in mine] == [b.shape for b in theirs]
            assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_excerpt_and_name_are_passed_on(decoders: Decoders, tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", 44_100)
    with open_isolated(path, start_s=0.25, end_s=0.5, name="b.wav", decoders=decoders) as source:
        assert source.name == "b.wav"
        assert source.seconds == pytest.approx(0.25, abs=1e-4)
        assert sum(block.shape[1] for block in source.blocks()) == 11_025


def test_readings_side_by_side_do_not_disturb_each_other(decoders: Decoders, tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", 50_000)
    with open_isolated(path, decoders=decoders) as source:
        pairs = list(zip(source.blocks(700), source.blocks(700), strict=True))
        assert all(np.array_equal(a, b) for a, b in pairs)
        assert sum(a.shape[1] for a, _ in pairs) == 50_000


def test_a_reading_may_end_early_and_another_begin(decoders: Decoders, tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", 50_000)
    with open_isolated(path, decoders=decoders) as source:
        first = next(iter(source.blocks(100)))
        assert np.array_equal(first, next(iter(source.blocks(100))))


def test_tags_and_cover_come_over(tmp_path: Path) -> None:
    cover = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (8).to_bytes(4, "big") * 2 + bytes(100)
    tags = Tags(fields={"title": "Ümläut", "artist": "X"}, cover=cover)
    fmt = OutputFormat(container="flac", bit_depth="16")
    with open_writer(tmp_path / "a.flac", fmt, 44100, 2, tags=tags) as writer:
        writer.write(noise(5000))
        writer.commit()
    with open_isolated(tmp_path / "a.flac") as source:
        assert source.tags() == tags


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no audio at all" * 100, "is not audio"),
        (b"RIFF\xff\xff\xff\x7fWAVEfmt ", "damaged|cut off|not audio"),
    ],
)
def test_bad_files_give_the_decoders_own_error(
    decoders: Decoders, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_isolated(path, name="mine.wav", decoders=decoders)
    assert "mine.wav" in caught.value.message
    assert caught.value.remedy


def test_missing_file_and_impossible_excerpt(decoders: Decoders, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        open_isolated(tmp_path / "none.wav", decoders=decoders)
    path = recording(tmp_path / "a.wav", 100)
    with pytest.raises(OptionError, match="not after the start"):
        open_isolated(path, start_s=2.0, end_s=1.0, decoders=decoders)


def test_long_recording_is_refused_before_it_is_decoded(decoders: Decoders, tmp_path: Path) -> None:
    path = write(tmp_path / "long.flac", np.zeros((1, 8000 * 61), np.float32), 8000)
    with pytest.raises(InputError, match=r"long\.flac is longer than the 60 s"):
        open_isolated(path, limits=TIGHT, decoders=decoders)
    with open_isolated(path, limits=DecodeLimits(max_audio_s=61.0), decoders=decoders) as source:
        assert source.seconds == 61.0


def test_header_that_lies_does_not_get_round_the_limit(hostile: Hostile) -> None:
    with hostile("decoding endless") as source, pytest.raises(InputError, match="longer than the 60 s"):
        for _ in source.blocks(8000):
            pass


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("segfault", "decoder fail .SIGSEGV"),
        ("abort", "decoder fail .SIGABRT"),
        ("exit", "decoder fail .exit code 7"),
        ("allocate", "more than 400 MiB of memory"),
        ("raise", "decoder fail .LookupError"),
        ("write", "decoder fail .(FileNotFoundError|OSError|SIGXFSZ)"),
        ("huge", "nonsense"),
    ],
)
@pytest.mark.parametrize("when", ["opening", "decoding"])
def test_hostile_file_is_an_unusable_input(hostile: Hostile, when: str, deed: str, message: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=message) as caught, hostile(f"{when} {deed}") as source:
        for block in source.blocks(1000):
            assert not block.any()
    assert caught.value.code == "unusable_input"
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("deed", ["spin", "sleep"])
@pytest.mark.parametrize("when", ["opening", "decoding"])
def test_file_that_keeps_the_decoder_busy_is_given_up(hostile: Hostile, when: str, deed: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match="busy without a result for 1 s") as caught:
        with hostile(f"{when} {deed}", HASTY) as source:
            list(source.blocks(1000))
    assert caught.value.code == "unusable_input"
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_processor_time_is_limited_even_where_blocks_keep_coming(hostile: Hostile) -> None:
    limits = DecodeLimits(stall_s=30.0, cpu_s=1)
    with hostile("decoding spin", limits) as source, pytest.raises(InputError, match="more than 1 s"):
        for _ in source.blocks(1000):
            pass


def test_samples_that_are_no_numbers_are_refused(hostile: Hostile) -> None:
    with hostile("decoding nan") as source, pytest.raises(InputError, match="nonsense"):
        list(source.blocks(1000))


def test_what_a_library_prints_does_not_reach_the_messages(hostile: Hostile) -> None:
    with hostile("decoding print") as source:
        assert len(list(source.blocks(1000))) == 2


def test_process_knows_nothing_of_our_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STEMWRIGHT_DATABASE_URL", "postgresql://secret")
    with Decoders(HOSTILE) as started, pytest.raises(InputError, match="LookupError"):
        open_isolated("x", name="opening raise", decoders=started)
    assert "PATH" in caplog.text
    assert "STEMWRIGHT_DATABASE_URL" not in caplog.text


def test_closing_ends_a_reading_in_another_thread(hostile: Hostile) -> None:
    source = hostile("decoding sleep", DecodeLimits())
    errors: list[BaseException] = []

    def read() -> None:
        try:
            list(source.blocks(1000))
        except InputError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.3)
    source.close()
    thread.join(10)
    assert not thread.is_alive()
    assert errors


def test_file_that_changes_between_readings_is_refused(decoders: Decoders, tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", 5000)
    with open_isolated(path, decoders=decoders) as source:
        reading = source.blocks(100)
        next(iter(reading))
        recording(path, 5000, channels=1)
        with pytest.raises(InputError, match="changed while it was read"):
            next(iter(source.blocks(100)))
        del reading


def test_the_program_is_this_interpreter() -> None:
    assert PROGRAM[0] == sys.executable


def test_a_process_has_no_descriptors_of_others(
    hostile: Hostile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with hostile("decoding print"), pytest.raises(InputError, match="LookupError"):
        hostile("opening descriptors")
    # standard streams, the pipe of messages, and the folder that is being listed
    assert "descriptors: 0,1,2,3,4\n" in caplog.text


def test_processes_that_ended_are_not_kept(decoders: Decoders, tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", 100)
    for _ in range(20):
        with open_isolated(path, decoders=decoders) as source:
            assert sum(block.shape[1] for block in source.blocks()) == 100
    assert decoders._server is not None
    pid = decoders._server._process.pid
    for _ in range(100):
        if not (left := Path(f"/proc/{pid}/task/{pid}/children").read_text()):
            break
        time.sleep(0.02)
    assert not left
    assert len(os.listdir(f"/proc/{pid}/fd")) < 12


def test_the_process_that_is_forked_runs_no_threads(decoders: Decoders) -> None:
    assert decoders._server is not None
    assert len(os.listdir(f"/proc/{decoders._server._process.pid}/task")) == 1


def test_the_process_that_is_forked_is_replaced_when_it_is_killed(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", 100)
    with Decoders() as started:
        with open_isolated(path, decoders=started) as source:
            assert started._server is not None
            started._server._process.kill()
            started._server._process.wait()
            assert sum(block.shape[1] for block in source.blocks()) == 100  # what runs goes on
        with open_isolated(path, decoders=started) as source:
            assert sum(block.shape[1] for block in source.blocks()) == 100


def test_threads_may_open_at_once(decoders: Decoders, tmp_path: Path) -> None:
    paths = [recording(tmp_path / f"{number}.wav", 100 + number) for number in range(12)]

    def frames(path: Path) -> int:
        with open_isolated(path, decoders=decoders) as source:
            return sum(block.shape[1] for block in source.blocks())

    with ThreadPoolExecutor(len(paths)) as pool:
        assert list(pool.map(frames, paths)) == list(range(100, 112))


def test_a_program_that_does_not_start_is_our_fault(tmp_path: Path) -> None:
    program = (sys.executable, "-c", "raise SystemExit('no such thing')")
    with Decoders(program) as started, pytest.raises(InternalError, match="not start: no such thing"):
        open_isolated(recording(tmp_path / "a.wav", 100), decoders=started)


def test_the_process_that_is_forked_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import time; from stemwright.service.isolation.decoders import Decoders; decoders = Decoders();"
        "print(decoders._server._process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        server = Path("/proc", parent.stdout.readline().strip())
        assert server.exists()
        parent.kill()
    until = time.monotonic() + 60  # it may be importing still
    while server.exists() and " Z " not in (server / "stat").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
