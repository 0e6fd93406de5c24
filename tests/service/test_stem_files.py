import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import OutputFormat
from stemwright.core.audio.source import AudioInfo
from stemwright.core.errors import OutputError
from stemwright.service.stem_files import ClipMode, Levels, StemFile, StemFilesWriter, peak_of, raw_blocks
from tests.service.recordings import noise, read

WAV = OutputFormat(container="wav", bit_depth="24")


def info(channels: int) -> AudioInfo:
    return AudioInfo(
        sample_rate=44100,
        channels=channels,
        layout=("FL", "FR")[:channels],
        frames=None,
        codec="array",
        container="array",
    )


def write_stems(
    folder: Path, stems: dict[str, FloatArray], clip_mode: ClipMode, block: int, fmt: OutputFormat = WAV
) -> Levels:
    channels, frames = next(iter(stems.values())).shape
    files = [StemFile(stems=(name,), path=folder / f"{name}.wav") for name in stems]
    with StemFilesWriter(files, folder, fmt=fmt, clip_mode=clip_mode, info=info(channels)) as writer:
        for start in range(0, frames, block):
            writer.write({name: samples[:, start : start + block] for name, samples in stems.items()})
        return writer.finish()


@pytest.mark.parametrize("late", [0, 900])
@pytest.mark.parametrize("channels", [1, 2])
def test_one_gain_whenever_the_peak_comes(tmp_path: Path, late: int, channels: int) -> None:
    stems = {"a": noise(1000, channels, level=0.9, seed=1), "b": noise(1000, channels, level=0.2, seed=2)}
    stems["b"][0, late] = -1.6
    levels = write_stems(tmp_path, stems, "shared", 64)
    assert levels.peak == pytest.approx(1.6)
    assert levels.gain == pytest.approx((1 - 2**-15) / 1.6)
    for name, samples in stems.items():
        np.testing.assert_allclose(read(tmp_path / f"{name}.wav"), samples * levels.gain, atol=2**-23)
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "b.wav"}


@settings(max_examples=10, deadline=None)
@given(block=st.integers(1, 500), level=st.floats(0.1, 3.0), frames=st.integers(1, 700))
def test_files_do_not_depend_on_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, block: int, level: float, frames: int
) -> None:
    stems = {"a": noise(frames, level=level)}
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    assert write_stems(whole, stems, "shared", frames) == write_stems(parts, stems, "shared", block)
    assert (whole / "a.wav").read_bytes() == (parts / "a.wav").read_bytes()


def test_an_error_in_a_thread_comes_out_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OutputError("cannot write", "choose another")

    monkeypatch.setattr("stemwright.core.audio.encode.AudioWriter.write", fail)
    before = threading.active_count()
    with pytest.raises(OutputError):
        write_stems(tmp_path, {"a": noise(5000), "b": noise(5000)}, "clamp", 100)
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_memory_is_bounded_by_a_slow_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    taken: list[int] = []
    monkeypatch.setattr("stemwright.core.audio.encode.AudioWriter.write", lambda *_: gate.wait(10))

    def feed() -> None:
        with StemFilesWriter(
            [StemFile(stems=("a",), path=tmp_path / "a.wav")],
            tmp_path,
            fmt=WAV,
            clip_mode="clamp",
            info=info(2),
        ) as writer:
            for index in range(50):
                writer.write({"a": noise(10)})
                taken.append(index)

    thread = threading.Thread(target=feed)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert len(taken) <= 6
    gate.set()
    thread.join()
    assert len(taken) == 50


def test_several_stems_in_one_file(tmp_path: Path) -> None:
    stems = {"a": noise(300, seed=1), "b": noise(300, seed=2)}
    file = StemFile(stems=("b", "a"), path=tmp_path / "both.wav")
    with StemFilesWriter([file], tmp_path, fmt=WAV, clip_mode="shared", info=info(2)) as writer:
        writer.write(stems)
        writer.finish()
    expected = np.concatenate([stems["b"], stems["a"]])
    np.testing.assert_allclose(read(tmp_path / "both.wav"), expected, atol=2**-23)


def test_raw_samples_come_back_in_order(tmp_path: Path) -> None:
    samples = noise(1000, 3)
    (tmp_path / "raw").write_bytes(np.ascontiguousarray(samples.T).tobytes())
    blocks = list(raw_blocks(tmp_path / "raw", 3, block_frames=300))
    assert [block.shape[1] for block in blocks] == [300, 300, 300, 100]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), samples)
    assert os.path.exists(tmp_path / "raw")


def test_peak() -> None:
    assert peak_of(np.zeros((2, 0), np.float32)) == 0.0
    assert peak_of(np.asarray([[0.5, -0.75]], np.float32)) == 0.75
