import errno
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.audio.source import ArraySource
from stemwright.core.audio.stem_mp4 import NamedSource, write_stem_mp4
from stemwright.core.errors import InputError, OutputError, ResourceError
from stemwright.training.data import pack_making, pack_writer
from stemwright.training.data.listing import find_recordings
from stemwright.training.data.music_layouts import MUSDB18_STEMS
from stemwright.training.data.pack import AUDIO_FILE, Pack
from stemwright.training.data.pack_index import INDEX_FILE
from stemwright.training.data.pack_making import make_pack
from stemwright.training.data.packing import PackRules, open_data
from tests.support import data_folders
from tests.support.data_folders import STEMS, tone, write


def test_sixteen_bit_files_come_back_bit_by_bit(tmp_path: Path) -> None:
    data_folders.songs(tmp_path / "data")
    pack = open_data(tmp_path / "data", cache=tmp_path / "cache")
    assert (pack.sample_rate, pack.channels, pack.index.kind) == (8000, 2, "stems")
    assert tuple(sorted({one.role for one in pack.recordings})) == STEMS
    for number, one in enumerate(pack.recordings):
        samples, _ = soundfile.read(tmp_path / "data" / one.name / f"{one.role}.wav", dtype="float32")
        np.testing.assert_array_equal(pack.read(number), samples.T)


def test_segments_reach_beyond_recordings_as_silence(tmp_path: Path) -> None:
    data_folders.speech(tmp_path / "data")
    pack = open_data(tmp_path / "data", layout="speech", cache=tmp_path / "cache")
    whole = pack.read(1)
    padded = np.pad(whole, ((0, 0), (100, 200)))
    np.testing.assert_array_equal(pack.read(1, -100, whole.shape[1] + 300), padded)
    np.testing.assert_array_equal(pack.read(1, 40, 60), whole[:, 40:100])
    assert not pack.read(1, whole.shape[1], 10).any()
    assert pack.read(1, -20, 10).shape == (1, 10)


def test_samples_beyond_full_scale_keep_their_size(tmp_path: Path) -> None:
    loud = 3 * tone(0.5, 8000, 300)
    write(tmp_path / "data" / "a" / "loud.wav", loud / np.abs(loud).max() * 2.5, 8000, subtype="FLOAT")
    pack = open_data(tmp_path / "data", layout="speech", cache=tmp_path / "cache")
    assert pack.recordings[0].peak == pytest.approx(2.5)
    assert np.abs(pack.read(0)).max() == pytest.approx(2.5, abs=2.5 / 32768)


def test_the_level_is_that_of_the_parts_that_sound(tmp_path: Path) -> None:
    speech = np.zeros((1, 16000), np.float32)
    speech[:, 4000:8000] = 0.5
    write(tmp_path / "data" / "a" / "pauses.wav", speech, 8000)
    pack = open_data(tmp_path / "data", layout="speech", cache=tmp_path / "cache")
    assert pack.recordings[0].level == pytest.approx(0.5)


def test_statistics_are_those_of_the_mono_mixture(tmp_path: Path) -> None:
    data_folders.songs(tmp_path / "data", 1)
    pack = open_data(tmp_path / "data", cache=tmp_path / "cache")
    mono = sum(pack.read(number) for number in pack.numbers).mean(axis=0)  # type: ignore[union-attr]
    assert pack.index.statistics["song0"].mean == pytest.approx(float(mono.mean()), abs=1e-7)
    assert pack.index.statistics["song0"].std == pytest.approx(float(mono.std(ddof=1)), rel=1e-5)


def test_other_rates_and_channels_are_brought_to_one(tmp_path: Path) -> None:
    data_folders.songs(tmp_path / "data", 1, rate=16000)
    pack = open_data(tmp_path / "data", PackRules(sample_rate=8000, channels=1), cache=tmp_path / "cache")
    assert (pack.sample_rate, pack.channels, pack.recordings[0].frames) == (8000, 1, 8000)
    wanted = tone(1.0, 8000, 100.0)[0]
    spectrum = np.abs(np.fft.rfft(pack.read(0)[0]))
    assert int(spectrum.argmax()) == int(np.abs(np.fft.rfft(wanted)).argmax()) == 100


def test_a_folder_is_packed_once_and_again_after_a_change(tmp_path: Path) -> None:
    data = data_folders.speech(tmp_path / "data")
    calls: list[int] = []

    def opened() -> Pack:
        return open_data(
            data, layout="speech", cache=tmp_path / "cache", progress=lambda done, _: calls.append(done)
        )

    first = opened()
    assert len(calls) == 8
    assert opened().folder == first.folder and len(calls) == 8
    write(data / "s9" / "u.wav", tone(0.5, 8000, 99), 8000)
    assert len(opened().recordings) == 9
    assert len(opened().recordings) == 9 and len(calls) == 17
    # A pack is opened as it is, also where its sources are not.
    shutil.rmtree(data)
    assert open_data(first.folder).seconds == first.seconds
    with pytest.raises(InputError, match="8000 Hz and 1 channels"):
        open_data(first.folder, PackRules(sample_rate=16000))


def test_of_several_that_want_a_pack_one_makes_it(tmp_path: Path) -> None:
    data = data_folders.speech(tmp_path / "data")
    calls: list[int] = []

    def opened(_: int) -> float:
        made = open_data(
            data, layout="speech", cache=tmp_path / "cache", progress=lambda done, _: calls.append(done)
        )
        return made.seconds

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(opened, range(4)))) == 1
    assert calls == list(range(1, 9))


def test_what_a_killed_packing_left_is_cleared(tmp_path: Path) -> None:
    data = data_folders.speech(tmp_path / "data", 2, 1)
    made = open_data(data, layout="speech", cache=tmp_path / "cache")
    stale = tmp_path / "cache" / f".{made.folder.name}.part-x"
    made.folder.rename(stale)
    open_data(data, layout="speech", cache=tmp_path / "cache")
    assert not stale.exists()


def test_a_failed_pack_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_folders.speech(tmp_path / "data")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pack_making, "write_index", fail)
    with pytest.raises(KeyboardInterrupt):
        open_data(data, layout="speech", cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name != ".locks"]


def test_packs_are_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    listing = find_recordings(data_folders.speech(tmp_path / "data"), "speech")
    out = tmp_path / "out"
    make_pack(listing, out)
    assert make_pack(listing, out, PackRules(sample_rate=4000)).sample_rate == 4000
    assert {path.name for path in out.iterdir()} == {INDEX_FILE, AUDIO_FILE}
    with pytest.raises(OutputError, match="is no pack"):
        make_pack(listing, tmp_path / "data")


@pytest.mark.parametrize("missing", ["stem", "length", "rate"])
def test_a_faulty_song_is_skipped_and_told(tmp_path: Path, missing: str) -> None:
    data = data_folders.songs(tmp_path / "data", 21, seconds=0.1, rate=4000)
    bass = data / "song7" / "bass.wav"
    if missing == "stem":
        bass.unlink()
    elif missing == "length":
        write(bass, tone(0.11, 4000, 100, channels=2), 4000)
    else:
        write(bass, tone(0.1, 8000, 100, channels=2), 8000)
    pack = open_data(data, cache=tmp_path / "cache")
    assert len(pack.groups) == 20
    (skipped,) = pack.index.skipped
    assert skipped.name == "song7"
    assert {"stem": "no stem bass", "length": "440 samples", "rate": "at 8000 Hz"}[missing] in skipped.reason
    # What the skipped song had been written of is gone again.
    assert pack.index.frames == sum(one.frames for one in pack.recordings) == 20 * 4 * 400
    one = pack.recordings[-1]
    samples, _ = soundfile.read(data / one.name / f"{one.role}.wav", dtype="float32")
    np.testing.assert_array_equal(pack.read(pack.numbers[-1]), samples.T)


def _spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"no audio", "cut": data[: len(data) // 2]}[how])


@pytest.mark.parametrize("how", ["empty", "text", "cut"])
def test_a_corrupt_file_is_skipped_and_told(tmp_path: Path, how: str) -> None:
    data = data_folders.speech(tmp_path / "data", 10, seconds=0.1)
    _spoil(data / "s3" / "u1.wav", how)
    pack = open_data(data, layout="speech", cache=tmp_path / "cache")
    assert len(pack.recordings) == 19
    assert [one.name for one in pack.index.skipped] == ["s3/u1.wav"]


def test_silent_speech_is_skipped(tmp_path: Path) -> None:
    data = data_folders.speech(tmp_path / "data", 10, seconds=0.1)
    write(data / "s3" / "u1.wav", np.zeros((1, 800), np.float32), 8000)
    pack = open_data(data, layout="speech", cache=tmp_path / "cache")
    assert [one.reason for one in pack.index.skipped] == ["is silent"]


def test_too_many_corrupt_files_are_an_error(tmp_path: Path) -> None:
    data = data_folders.speech(tmp_path / "data", 10, seconds=0.1)
    for speaker in (3, 4):
        _spoil(data / f"s{speaker}" / "u1.wav", "text")
    with pytest.raises(InputError, match=r"2 of the 20 recordings .* more than 5%.*s4/u1.wav"):
        open_data(data, layout="speech", cache=tmp_path / "cache")


def test_a_full_disk_is_told_before_and_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_folders.speech(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: _Usage())
        with pytest.raises(ResourceError, match="the pack needs"):
            open_data(data, layout="speech", cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name != ".locks"]

    class Full:
        def __init__(self, file: object) -> None:
            self._file = file

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

    plain = pack_writer.AudioFile.__init__

    def opened(self: pack_writer.AudioFile, folder: Path, *, sample_rate: int, channels: int) -> None:
        plain(self, folder, sample_rate=sample_rate, channels=channels)
        self._file = Full(self._file)  # type: ignore[assignment]

    monkeypatch.setattr(pack_writer.AudioFile, "__init__", opened)
    with pytest.raises(ResourceError, match="is full"):
        open_data(data, layout="speech", cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name != ".locks"]


class _Usage:
    free = 1000


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / INDEX_FILE).unlink(), "cannot read the pack"),
        (lambda folder: (folder / INDEX_FILE).write_text("{"), "not valid"),
        (lambda folder: (folder / AUDIO_FILE).unlink(), "cannot read"),
        (lambda folder: np.save(folder / AUDIO_FILE, np.zeros((3, 1), np.int16)), "do not fit its index"),
    ],
)
def test_damaged_packs_are_refused(tmp_path: Path, spoil: object, message: str) -> None:
    listing = find_recordings(data_folders.speech(tmp_path / "data", 2, 1), "speech")
    make_pack(listing, tmp_path / "pack")
    spoil(tmp_path / "pack")  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        Pack.open(tmp_path / "pack")


def test_packs_of_another_version_are_refused(tmp_path: Path) -> None:
    listing = find_recordings(data_folders.speech(tmp_path / "data", 2, 1), "speech")
    make_pack(listing, tmp_path / "pack")
    index = json.loads((tmp_path / "pack" / INDEX_FILE).read_text())
    (tmp_path / "pack" / INDEX_FILE).write_text(json.dumps(index | {"format": 2}))
    with pytest.raises(InputError, match="format"):
        Pack.open(tmp_path / "pack")


def test_parts_of_a_pack(tmp_path: Path) -> None:
    pack = open_data(data_folders.speech(tmp_path / "data", 30, 1), layout="speech", cache=tmp_path / "cache")
    train, held_out = pack.held_out(0.2)
    assert set(train.groups) | set(held_out.groups) == set(pack.groups)
    assert not set(train.groups) & set(held_out.groups)
    assert 2 <= len(held_out.groups) <= 12
    # Whoever is held out stays so in a part of the pack.
    fewer = pack.subset(without_groups=list(train.groups)[:5])
    assert set(fewer.held_out(0.2)[1].groups) == set(held_out.groups)
    assert list(pack.subset(groups=["s3", "s4"]).groups) == ["s3", "s4"]
    with pytest.raises(InputError, match="no group nobody"):
        pack.subset(groups=["nobody"])
    with pytest.raises(InputError, match="no recording"):
        pack.subset(splits=["train"])


@pytest.mark.slow
def test_musdb18_files_are_packed_by_their_streams(tmp_path: Path) -> None:
    samples = {name: tone(1.0, 44100, 200.0 * (n + 1), channels=2) for n, name in enumerate(MUSDB18_STEMS)}
    mixture = np.sum(list(samples.values()), axis=0)
    stems = [NamedSource(name=name, source=ArraySource(one, 44100)) for name, one in samples.items()]
    (tmp_path / "data" / "train").mkdir(parents=True)
    write_stem_mp4(tmp_path / "data" / "train" / "A - B.stem.mp4", ArraySource(mixture, 44100), stems)
    pack = open_data(tmp_path / "data", cache=tmp_path / "cache")
    assert (pack.index.layout, pack.sample_rate, pack.channels) == ("musdb18", 44100, 2)
    for number, one in enumerate(pack.recordings):
        middle = pack.read(number)[:, 8000:-8000]
        wanted = samples[one.role][:, 8000:-8000]
        assert np.square(middle - wanted).mean() < 0.02 * np.square(wanted).mean()
