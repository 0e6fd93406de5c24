"""Writers: values, lengths, formats, and what is left when something goes wrong."""

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.audio import encode
from stemwright.core.audio.encode import (
    PART_PREFIX,
    OutputFormat,
    check_writable,
    estimated_bytes,
    open_writer,
)
from stemwright.core.audio.muxing import to_integers
from stemwright.core.audio.source import open_source
from stemwright.core.errors import InputError, InternalError, OutputError, ResourceError
from tests.core.audio.signals import RATE, read, tone, write

LOSSLESS = [("wav", "16"), ("wav", "24"), ("wav", "32f"), ("flac", "16"), ("flac", "24")]
LOSSY = ["mp3", "ogg", "m4a"]
STEPS = {"16": 2.0**-15, "24": 2.0**-23, "32f": 0.0}


@pytest.mark.parametrize(("container", "depth"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_lossless_is_rounded_to_the_nearest(
    tmp_path: Path, container: str, depth: str, channels: int
) -> None:
    samples = tone(5003, channels)
    path = write(tmp_path / f"x.{container}", samples, bit_depth=depth)
    got, rate = soundfile.read(path, dtype="float64", always_2d=True)
    assert rate == RATE
    assert got.shape == (5003, channels)
    assert np.abs(got.T - samples).max() <= STEPS[depth] / 2
    np.testing.assert_allclose(read(path), got.T, atol=1e-7)
    assert soundfile.info(path).subtype == {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}[depth]


@pytest.mark.parametrize(("container", "depth"), [case for case in LOSSLESS if case[1] != "32f"])
def test_integers_survive_a_round_trip(tmp_path: Path, container: str, depth: str) -> None:
    top = 2 ** (int(depth) - 1)
    integers = np.array([-top, -top + 1, -1, 0, 1, top - 2, top - 1], np.int64)
    samples = (integers / top).astype(np.float32)[None]
    path = write(tmp_path / f"x.{container}", samples, bit_depth=depth)
    np.testing.assert_array_equal(np.rint(read(path)[0].astype(np.float64) * top), integers)


@pytest.mark.parametrize("frames", [100, 1024, 44_100, 50_021])
@pytest.mark.parametrize("container", LOSSY)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_keeps_length_place_and_level(
    tmp_path: Path, container: str, channels: int, frames: int
) -> None:
    samples = tone(frames, channels)
    got = read(write(tmp_path / f"x.{container}", samples))
    assert got.shape == samples.shape
    if frames > 10_000:
        error = got[:, 2000:-2000] - samples[:, 2000:-2000]
        assert 10 * np.log10((samples**2).mean() / (error**2).mean()) > 20


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "m4a"])
def test_one_and_two_samples(tmp_path: Path, container: str, frames: int) -> None:
    assert read(write(tmp_path / f"x.{container}", tone(frames))).shape == (2, frames)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 48_000])
@pytest.mark.parametrize("container", ["wav", "flac", *LOSSY])
def test_sample_rates_are_kept(tmp_path: Path, container: str, rate: int) -> None:
    path = write(tmp_path / f"x.{container}", tone(rate // 4, rate=rate), rate)
    with open_source(path) as source:
        assert source.info.sample_rate == rate
        assert sum(block.shape[1] for block in source.blocks()) == rate // 4


def test_surround_in_m4a_keeps_its_channels(tmp_path: Path) -> None:
    samples = tone(RATE, 6)
    got = read(write(tmp_path / "x.m4a", samples))
    assert got.shape == samples.shape
    for channel in (0, 1, 2, 4, 5):
        assert np.corrcoef(got[channel], samples[channel])[0, 1] > 0.95


def test_layout_is_kept(tmp_path: Path) -> None:
    layout = ("FL", "FR", "FC", "LFE", "SL", "SR")
    for container in ("wav", "flac"):
        path = tmp_path / f"x.{container}"
        with open_writer(path, OutputFormat(container=container), RATE, 6, layout=layout) as writer:
            writer.write(tone(1000, 6))
            writer.commit()
        with open_source(path) as source:
            assert source.info.layout == layout


def test_bit_rate(tmp_path: Path) -> None:
    for container in LOSSY:
        small = write(tmp_path / f"a.{container}", tone(RATE * 2), bitrate_kbps=96).stat().st_size
        large = write(tmp_path / f"b.{container}", tone(RATE * 2), bitrate_kbps=192).stat().st_size
        assert large > 1.5 * small


@pytest.mark.parametrize(("container", "depth"), [*LOSSLESS, *((name, "16") for name in LOSSY)])
def test_equal_input_gives_equal_files(tmp_path: Path, container: str, depth: str) -> None:
    first = write(tmp_path / f"a.{container}", tone(20_000), bit_depth=depth).read_bytes()
    assert write(tmp_path / f"b.{container}", tone(20_000), bit_depth=depth).read_bytes() == first


@given(st.lists(st.floats(-4, 4, width=32), max_size=30), st.sampled_from([16, 24]))
def test_rounding_law(values: list[float], bits: int) -> None:
    block = np.array([values], np.float32)
    integers, beyond = to_integers(block, bits)
    top = 2 ** (bits - 1)
    expected = np.clip(np.rint(block.astype(np.float64) * top), -top, top - 1)
    np.testing.assert_array_equal(integers, expected)
    assert beyond == np.count_nonzero(np.abs(block) > 1)


def test_clamped_samples_are_counted(tmp_path: Path) -> None:
    samples = np.array([[0.5, 1.0, 1.5, -1.0, -1.0001]], np.float32)
    for container, depth, count in (("wav", "16", 2), ("flac", "24", 2), ("wav", "32f", 0)):
        fmt = OutputFormat(container=container, bit_depth=depth)  # type: ignore[arg-type]
        with open_writer(tmp_path / "x", fmt, RATE, 1) as writer:
            writer.write(samples)
            assert writer.clamped_samples == count
            assert fmt.clamps == (count > 0)
            writer.commit()
    np.testing.assert_array_equal(read(tmp_path / "x"), samples)


def test_an_empty_file_is_still_a_file(tmp_path: Path) -> None:
    for container in ("wav", "flac"):
        with open_writer(tmp_path / "x", OutputFormat(container=container), RATE, 2) as writer:
            writer.commit()
        assert (tmp_path / "x").stat().st_size > 0
        with pytest.raises(InputError, match="no audio samples"):
            read(tmp_path / "x")


# What is left behind ---------------------------------------------------------------------------


def some_writer(path: Path, container: str) -> encode.AudioWriter:
    return open_writer(path, OutputFormat(container=container), RATE, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("container", ["wav", "flac", *LOSSY])
def test_nothing_is_seen_before_commit_and_nothing_left_after_an_error(
    tmp_path: Path, container: str
) -> None:
    path = tmp_path / f"x.{container}"
    with some_writer(path, container) as writer:
        writer.write(tone(5000))
        assert not path.exists()
        assert [entry.name.startswith(PART_PREFIX) for entry in tmp_path.iterdir()] == [True]
    assert list(tmp_path.iterdir()) == []
    for kind in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(kind), some_writer(path, container) as writer:
            writer.write(tone(5000))
            raise kind
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("container", ["wav", "flac", *LOSSY])
def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path, container: str) -> None:
    path = write(tmp_path / f"x.{container}", tone(1000))
    before = path.read_bytes()
    with some_writer(path, container) as writer:
        writer.write(tone(3000))
    assert path.read_bytes() == before
    with some_writer(path, container) as writer:
        writer.write(tone(3000))
        assert writer.commit() == path
        assert writer.frames == 3000
    assert read(path).shape == (2, 3000)


def test_a_closed_writer_takes_nothing(tmp_path: Path) -> None:
    with some_writer(tmp_path / "x.wav", "wav") as writer:
        writer.write(tone(10))
        writer.commit()
        with pytest.raises(ValueError, match="closed"):
            writer.write(tone(10))
        with pytest.raises(ValueError, match="closed"):
            writer.commit()
    with some_writer(tmp_path / "y.wav", "wav") as writer, pytest.raises(ValueError, match="shape"):
        writer.write(tone(10, 1))


def test_nan_is_not_written(tmp_path: Path) -> None:
    samples = tone(10)
    samples[0, 3] = np.nan
    with some_writer(tmp_path / "x.wav", "wav") as writer, pytest.raises(InternalError, match="NaN"):
        writer.write(samples)


@pytest.fixture
def small_files() -> Iterator[None]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("container", ["wav", "flac", *LOSSY])
@pytest.mark.usefixtures("small_files")
def test_no_room(tmp_path: Path, container: str, capfd: pytest.CaptureFixture[str]) -> None:
    samples = tone(8 * RATE)
    with (
        some_writer(tmp_path / f"x.{container}", container) as writer,
        pytest.raises(ResourceError, match="no room") as caught,
    ):
        for start in range(0, samples.shape[1], 10_000):
            writer.write(samples[:, start : start + 10_000])
        writer.commit()
    assert "free some space" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "m4a"])
def test_no_room_at_the_very_end(
    tmp_path: Path, container: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Full:
        """A file on a disk that is full from some moment on."""

        full = False

        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, data: bytes) -> int:
            if Full.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self._file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    create = encode._create
    monkeypatch.setattr(encode, "_create", lambda path: Full(create(path)))
    with some_writer(tmp_path / "x", container) as writer:
        writer.write(tone(3000))
        Full.full = True
        with pytest.raises(ResourceError, match="No space left"):
            writer.commit()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_ctrl_c_leaves_no_file(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import numpy as np
        from stemwright.core.audio.encode import OutputFormat, open_writer
        with open_writer({str(tmp_path / "x.flac")!r}, OutputFormat(container="flac"), 44100, 2) as writer:
            print("ready", flush=True)
            while True:
                writer.write(np.zeros((2, 4096), np.float32))
        """
    )
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root / ".dev")}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) != 0
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == []


# What is found out beforehand --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmt", "rate", "channels", "match", "remedy"),
    [
        (OutputFormat(container="mp3"), 192_000, 2, "192000 Hz", "wav, flac, ogg"),
        (OutputFormat(container="mp3"), 44_056, 2, "44056 Hz", "wav, flac, ogg"),
        (OutputFormat(container="mp3"), 44_100, 6, "6 channels", "wav, flac, m4a"),
        (OutputFormat(container="m4a"), 192_000, 2, "192000 Hz", "wav, flac, ogg"),
        (OutputFormat(container="m4a"), 44_100, 3, "3 channels", "wav, flac"),
        (OutputFormat(container="ogg"), 44_100, 3, "3 channels", "wav, flac"),
        (OutputFormat(container="flac"), 44_100, 9, "9 channels", "wav"),
        (OutputFormat(container="flac", bit_depth="32f"), 44_100, 2, "32-bit float", "wav"),
        (OutputFormat(container="mp3", bitrate_kbps=5000), 44_100, 2, "5000 kbit/s", "kbit/s"),
        (OutputFormat(container="ogg", bitrate_kbps=0), 44_100, 2, "0 kbit/s", "kbit/s"),
    ],
)
def test_formats_that_do_not_fit(
    tmp_path: Path, fmt: OutputFormat, rate: int, channels: int, match: str, remedy: str
) -> None:
    with pytest.raises(OutputError, match=match) as caught:
        check_writable(tmp_path, fmt, rate, channels)
    assert remedy in caught.value.remedy
    with pytest.raises(OutputError, match=match):
        open_writer(tmp_path / "x", fmt, rate, channels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("container", ["wav", "flac", *LOSSY])
def test_what_check_allows_can_be_written(tmp_path: Path, container: str) -> None:
    fmt = OutputFormat(container=container)  # type: ignore[arg-type]
    for channels in range(1, 9):
        for rate in (8000, 44_100, 96_000, 192_000):
            try:
                check_writable(tmp_path, fmt, rate, channels)
            except OutputError:
                continue
            got = read(write(tmp_path / f"x.{container}", tone(2000, channels, rate), rate))
            assert got.shape == (channels, 2000)


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = OutputFormat(container="wav")
    check_writable(tmp_path / "not" / "yet", fmt, RATE, 2)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="not a folder"):
        check_writable(tmp_path / "file" / "below", fmt, RATE, 2)
    with pytest.raises(OutputError, match="is a folder"):
        open_writer(tmp_path, fmt, RATE, 2)
    with pytest.raises(OutputError, match="File name too long"):
        open_writer(tmp_path / ("x" * 300), fmt, RATE, 2)
    with pytest.raises(OutputError, match="null"):
        open_writer(tmp_path / "nul\0", fmt, RATE, 2)
    with pytest.raises(OutputError, match="No such file"):
        open_writer(tmp_path / "no" / "x.wav", fmt, RATE, 2)
    with pytest.raises(ResourceError, match="GB free"):
        check_writable(tmp_path, fmt, RATE, 2, needed_bytes=10**18)

    def read_only(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(encode, "_create", read_only)
    for attempt in (
        lambda: check_writable(tmp_path, fmt, RATE, 2),
        lambda: open_writer(tmp_path / "x.wav", fmt, RATE, 2),
    ):
        with pytest.raises(OutputError, match="Read-only file system"):
            attempt()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_estimate(tmp_path: Path) -> None:
    for container, depth in (("wav", "16"), ("wav", "24"), ("wav", "32f")):
        fmt = OutputFormat(container=container, bit_depth=depth)  # type: ignore[arg-type]
        size = write(tmp_path / "x.wav", tone(RATE), bit_depth=depth).stat().st_size
        assert size == pytest.approx(estimated_bytes(fmt, RATE, 2, RATE), abs=200)
    assert estimated_bytes(OutputFormat(container="mp3"), RATE, 2, 2 * RATE) == 80_000


@pytest.mark.long
def test_wav_beyond_4_gib_is_rf64(tmp_path: Path) -> None:
    block = np.zeros((64, 1 << 17), np.float32)
    block[:, -1] = 0.5
    with open_writer(tmp_path / "x.wav", OutputFormat(container="wav", bit_depth="32f"), RATE, 64) as writer:
        for _ in range(130):
            writer.write(block)
        writer.commit()
    with (tmp_path / "x.wav").open("rb") as file:
        assert file.read(4) == b"RF64"
    with open_source(tmp_path / "x.wav") as source:
        frames = 0
        for last in source.blocks():
            frames += last.shape[1]
    assert frames == 130 << 17
    assert last[0, -1] == np.float32(0.5)
    assert soundfile.info(tmp_path / "x.wav").frames == frames
