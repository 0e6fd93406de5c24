import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, OptionError, ResourceError
from stemwright.training.data.packing import open_data
from stemwright.training.synthesis import instruments, midi, songs, speaking
from stemwright.training.synthesis.instruments import FoundSoundfont, find_program, find_soundfonts
from stemwright.training.synthesis.scores import Note, Part
from stemwright.training.synthesis.songs import ALL_STEMS, SetRules, integers, make_set
from stemwright.training.synthesis.speaking import draw_speaker, make_speech
from stemwright.training.synthesis.voices import MachineVoices, RecordedVoices, Voice
from tests.support import data_folders

RULES = SetRules(seconds=4.0, sample_rate=16000)
FONT = FoundSoundfont(path=Path("font.sf2"), name="a font", licence="MIT")


class _Hummer:
    def voice(self, seed: int, song: int, sample_rate: int) -> Voice:
        time = np.arange(2 * sample_rate) / sample_rate
        wave = sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 12))
        return Voice(samples=(0.1 * np.asarray(wave) * (time % 0.5 < 0.35)).astype(np.float32), name="hummer")


def _needs_fluidsynth() -> tuple[FoundSoundfont, ...]:
    try:
        find_program()
        return find_soundfonts()
    except OptionError as error:
        pytest.skip(f"this machine has no FluidSynth with a soundfont: {error}")


def _needs_espeak() -> None:
    if shutil.which(speaking.PROGRAM) is None:
        pytest.skip("this machine has no espeak-ng")


@pytest.fixture
def band(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plays every MIDI file as noise of its size, in place of FluidSynth."""

    def play(data: bytes, font: FoundSoundfont, sample_rate: int) -> FloatArray:
        rng = np.random.default_rng(len(data))
        return (0.1 * rng.standard_normal((2, 3 * sample_rate))).astype(np.float32)

    monkeypatch.setattr(songs, "played", play)


def _stems(song: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    return {
        name: soundfile.read(song / f"{name}.wav", dtype="int16")[0].astype(np.int64)
        for name in ("mixture", *ALL_STEMS)
    }


def _check_song(song: Path) -> None:
    stems = _stems(song)
    np.testing.assert_array_equal(stems["mixture"], sum(stems[name] for name in ALL_STEMS))
    assert len({one.shape for one in stems.values()}) == 1
    assert np.abs(stems["mixture"]).max() < 0.96 * 32768


@pytest.mark.slow
def test_a_set_is_musdb_made_by_the_seed_and_resumed(tmp_path: Path, band: None) -> None:
    made = make_set(tmp_path / "a", 3, seed=5, voices=_Hummer(), fonts=(FONT,), rules=RULES)
    for song in made:
        _check_song(song)
        facts = json.loads((song / "info.json").read_text())
        assert (facts["soundfont"], facts["soundfont_licence"]) == ("a font", "MIT")
        assert facts["voice"] == ("hummer" if _stems(song)["vocals"].any() else "")
    assert any(_stems(song)["vocals"].any() for song in made)
    pack = open_data(tmp_path / "a", cache=tmp_path / "cache")
    assert pack.index.kind == "stems" and {one.split for one in pack.recordings} == {"train"}
    assert {one.role for one in pack.recordings} == set(ALL_STEMS)
    # What an interrupted call left is made again, what is whole is kept, and songs do not depend on others.
    whole, torn = made[0], made[1]
    before = (whole / "mixture.wav").stat().st_mtime_ns
    (torn / "info.json").unlink()
    (torn / "drums.wav").unlink()
    make_set(tmp_path / "a", 3, seed=5, voices=_Hummer(), fonts=(FONT,), rules=RULES)
    assert (whole / "mixture.wav").stat().st_mtime_ns == before
    again = make_set(tmp_path / "b", 2, seed=5, voices=_Hummer(), fonts=(FONT,), rules=RULES)
    for name in ("mixture", *ALL_STEMS):
        assert (torn / f"{name}.wav").read_bytes() == (again[1] / f"{name}.wav").read_bytes()
    other = make_set(tmp_path / "c", 1, seed=6, voices=_Hummer(), fonts=(FONT,), rules=RULES)
    assert not np.array_equal(_stems(other[0])["vocals"], _stems(again[0])["vocals"])
    assert not list((tmp_path / "a" / "train").glob(".*"))


@pytest.mark.slow
def test_midi_of_ones_own_is_played(tmp_path: Path, band: None) -> None:
    parts = (Part(stem="bass", program=33, notes=(Note(start=0, length=4, pitch=40),)),)
    (tmp_path / "song.mid").write_bytes(midi.written(parts, 120))
    rules = SetRules(sample_rate=16000, midi=(tmp_path / "song.mid",))
    (song,) = make_set(tmp_path / "set", 1, seed=0, voices=_Hummer(), fonts=(FONT,), rules=rules)
    stems = _stems(song)
    assert {name for name in ALL_STEMS if stems[name].any()} == {"bass"}
    assert stems["mixture"].shape[0] == 16000 * 3  # two seconds, and one in which it fades
    assert json.loads((song / "info.json").read_text())["midi"] == "song.mid"


@pytest.mark.parametrize("gain", [0.01, 0.5, 3.0])
def test_integers_add_up_below_full_scale(gain: float) -> None:
    rng = np.random.default_rng(0)
    stems = {name: (gain * rng.standard_normal((2, 4000))).astype(np.float32) for name in ALL_STEMS}
    whole = integers(stems)
    total = sum(whole[name].astype(np.int64) for name in ALL_STEMS)
    np.testing.assert_array_equal(whole["mixture"], total)
    assert np.abs(total).max() <= 0.95 * 32767 + 4
    if gain == 0.01:  # what is quiet is left as it is
        np.testing.assert_allclose(whole["bass"] / 32767, stems["bass"], atol=2e-5)


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage())
    with pytest.raises(ResourceError, match="5 songs need"):
        make_set(tmp_path, 5, seed=0, voices=_Hummer(), fonts=(FONT,))


class _Usage:
    free = 1000


def test_missing_programs_and_soundfonts_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(OptionError, match="FluidSynth"):
        find_program()
    with pytest.raises(OptionError, match="espeak-ng"):
        MachineVoices().voice(0, 0, 16000)
    monkeypatch.setattr(instruments, "SOUNDFONTS", ())
    with pytest.raises(OptionError, match="no soundfont"):
        find_soundfonts()
    with pytest.raises(InputError, match="there is no soundfont"):
        find_soundfonts((tmp_path / "x.sf2",))
    (tmp_path / "x.sf2").touch()
    assert find_soundfonts((tmp_path / "x.sf2",))[0].licence == "not known to stemwright"


def test_free_soundfonts_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fonts = []
    for name, licence in (("a", "MIT"), ("b", "GPL-2"), ("c", "MIT, parts CC0")):
        (tmp_path / name).touch()
        fonts.append(
            instruments.Soundfont(name=name, package=name, licence=licence, files=(str(tmp_path / name),))
        )
    monkeypatch.setattr(instruments, "SOUNDFONTS", tuple(fonts))
    assert [font.name for font in find_soundfonts()] == ["a", "c"]
    assert [font.licence for font in find_soundfonts((tmp_path / "b",))] == ["GPL-2"]
    monkeypatch.setattr(instruments, "SOUNDFONTS", tuple(fonts[1:2]))
    assert [font.name for font in find_soundfonts()] == ["b"]


def test_recorded_voices_are_of_one_speaker(tmp_path: Path) -> None:
    pack = open_data(data_folders.speech(tmp_path / "data"), layout="speech", cache=tmp_path)
    voices = RecordedVoices(pack, seconds=1.5)
    drawn = [voices.voice(0, song, 16000) for song in range(8)]
    assert sorted(one.name for one in drawn[:4]) == ["s0", "s1", "s2", "s3"]
    assert all(abs(len(one.samples) - 24000) <= 1 for one in drawn)
    stems = open_data(data_folders.songs(tmp_path / "songs"), cache=tmp_path)
    assert RecordedVoices(stems).voice(0, 0, 8000).name.startswith("song")
    with pytest.raises(InputError, match="has no voices"):
        RecordedVoices(stems.where(lambda one: one.role == "bass"))


def test_speakers_come_in_rounds() -> None:
    drawn = [draw_speaker(0, number) for number in range(144)]
    assert len({one.voice for one in drawn}) == 144
    assert draw_speaker(0, 150) == draw_speaker(0, 150)


@pytest.mark.slow
def test_fluidsynth_plays_the_notes_that_are_written() -> None:
    fonts = _needs_fluidsynth()
    part = Part(stem="other", program=80, notes=(Note(start=1, length=2, pitch=69),))
    sound = instruments.played(midi.written((part,), 120), fonts[0], 16000)
    quiet, loud = sound[:, : 16000 // 3], sound[:, 9600:20000]
    assert np.abs(quiet).max() < 0.01 * np.abs(loud).max()
    spectrum = np.abs(np.fft.rfft(loud.mean(axis=0)))
    hz = np.fft.rfftfreq(loud.shape[1], 1 / 16000)
    assert spectrum[(hz > 430) & (hz < 450)].max() > 0.2 * spectrum.max()
    np.testing.assert_array_equal(sound, instruments.played(midi.written((part,), 120), fonts[0], 16000))
    with pytest.raises(InputError, match="FluidSynth cannot play"):
        instruments.played(
            midi.written((part,), 120), FoundSoundfont(path=Path(__file__), name="x", licence=""), 16000
        )


@pytest.mark.slow
def test_a_whole_song_is_made_alike_twice(tmp_path: Path) -> None:
    fonts = _needs_fluidsynth()
    _needs_espeak()
    made = [
        make_set(tmp_path / name, 1, seed=3, voices=MachineVoices(), fonts=fonts, rules=RULES)[0]
        for name in ("a", "b")
    ]
    _check_song(made[0])
    for name in ("mixture", *ALL_STEMS):
        assert (made[0] / f"{name}.wav").read_bytes() == (made[1] / f"{name}.wav").read_bytes()


@pytest.mark.slow
def test_machines_speak_in_folders_of_speakers(tmp_path: Path) -> None:
    _needs_espeak()
    make_speech(tmp_path / "data", 3, utterances=2, seed=1)
    pack = open_data(tmp_path / "data", cache=tmp_path / "cache")
    assert pack.index.kind == "speech" and len(pack.groups) == 3 and len(pack.recordings) == 6
    assert {label for one in pack.recordings for label in one.labels} <= {"F", "M"}
    assert all(one.frames > 22050 for one in pack.recordings)
