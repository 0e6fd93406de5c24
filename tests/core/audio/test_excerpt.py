"""Excerpts exact to the sample, standard input, and streams of a file."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemwright.core.audio.source import open_source
from stemwright.core.errors import InputError, OptionError, ResourceError
from tests.core.audio.signals import RATE, encoded, muxed, read, tone


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 9_000), length=st.integers(1, 12_000))
def test_excerpt_is_exact_to_the_sample(tmp_path: Path, start: int, length: int) -> None:
    samples = tone(10_000)
    path = tmp_path / "x.wav"
    if not path.exists():
        path.write_bytes(encoded(samples, "WAV", "FLOAT"))
    got = read(path, start_s=start / RATE, end_s=(start + length) / RATE)
    np.testing.assert_array_equal(got, samples[:, start : start + length])


@pytest.mark.parametrize(("muxer", "codec"), [("mp3", "libmp3lame"), ("ipod", "aac"), ("adts", "aac")])
def test_excerpt_of_a_lossy_file_equals_the_cut_whole(tmp_path: Path, muxer: str, codec: str) -> None:
    (tmp_path / "x").write_bytes(muxed(tone(2 * RATE), muxer, codec))
    whole = read(tmp_path / "x")
    np.testing.assert_array_equal(
        read(tmp_path / "x", start_s=0.5, end_s=1.25), whole[:, RATE // 2 : RATE * 5 // 4]
    )


def test_the_end_of_an_excerpt_may_lie_behind_the_recording(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(encoded(tone(1000), "WAV", "FLOAT"))
    assert read(tmp_path / "x.wav", end_s=100.0).shape == (2, 1000)
    with open_source(tmp_path / "x.wav", start_s=0.01, end_s=100.0) as source:
        assert source.info.frames == 1000 - 441


@pytest.mark.parametrize(
    ("start", "end"), [(-1.0, None), (float("nan"), None), (2.0, 2.0), (2.0, 1.0), (0.0, float("nan"))]
)
def test_impossible_times_are_refused(tmp_path: Path, start: float, end: float | None) -> None:
    (tmp_path / "x.wav").write_bytes(encoded(tone(1000), "WAV", "FLOAT"))
    with pytest.raises(OptionError):
        open_source(tmp_path / "x.wav", start_s=start, end_s=end)


def test_an_excerpt_that_starts_behind_the_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(encoded(tone(1000), "WAV", "FLOAT"))
    with (
        open_source(tmp_path / "x.wav", start_s=5.0) as source,
        pytest.raises(OptionError, match="ends before"),
    ):
        list(source.blocks())


def test_part_of_a_cut_off_file_can_be_taken(tmp_path: Path) -> None:
    samples = tone(2 * RATE)
    for form, subtype in (("WAV", "FLOAT"), ("FLAC", "PCM_24")):
        data = encoded(samples, form, subtype)
        (tmp_path / "x").write_bytes(data[: len(data) * 3 // 4])
        np.testing.assert_allclose(read(tmp_path / "x", end_s=1.0), samples[:, :RATE], atol=2**-22)
        with pytest.raises(InputError):
            read(tmp_path / "x", end_s=1.9)


def test_streams_and_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = tone(3000)
    data = encoded(samples, "FLAC", "PCM_24")

    class Stdin:
        buffer = io.BytesIO(data)

    monkeypatch.setattr("sys.stdin", Stdin)
    for where in ("-", io.BytesIO(data)):
        source = open_source(where)
        np.testing.assert_allclose(np.concatenate(list(source.blocks()), axis=1), samples, atol=2**-23)
        assert source.path.exists()
        source.close()
        assert not source.path.exists()
    assert source.name == "the stream"


def test_an_unusable_stream_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InputError, match="not audio"):
        open_source(io.BytesIO(b"no sound at all"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_temporary_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(ResourceError, match="No space left"):
        open_source(io.BytesIO(b"x"))
    assert list(tmp_path.iterdir()) == []


def test_stream_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(encoded(tone(100), "WAV", "FLOAT"))
    with pytest.raises(InputError, match="no stream 1"):
        open_source(tmp_path / "x.wav", stream=1)
    with pytest.raises(InputError, match="no stream -1"):
        open_source(tmp_path / "x.wav", stream=-1)
