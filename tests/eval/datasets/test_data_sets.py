"""Data sets: which files are which track's what, for every layout; what is said of folders that are none."""

from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import InputError, OptionError, StemwrightError
from stemwright.eval.datasets.contract import DataTrack
from stemwright.eval.datasets.opening import open_data
from tests.support.data_sets import RATE, Samples, noise, speaker_folders, stem_folders, write
from tests.support.paths import shared


def read(track: DataTrack) -> dict[str, Samples]:
    """Read all stems, and the mixture by that name."""
    opened = track.open()
    sources = {name: named.source for name, named in opened.references.items()} | {"mixture": opened.mixture}
    return {
        name: np.concatenate(list(source.blocks(1000)), axis=1).astype(np.float64)
        for name, source in sources.items()
    }


def test_a_folder_of_stems(tmp_path: Path) -> None:
    root = stem_folders(tmp_path)
    write(root / "sum" / "drums.flac", noise(1))
    write(root / "sum" / "vocals.wav", noise(2))
    (root / "track 0" / "info.json").write_text("{}")
    (root / "no audio").mkdir()
    data = open_data(f"folder:{root}")
    assert [track.name for track in data.tracks] == ["sum", "track 0", "track 1"]
    assert list(data.tracks[0].stems) == ["drums", "vocals"]
    found = read(data.tracks[0])
    np.testing.assert_allclose(found["mixture"], found["drums"] + found["vocals"], atol=1e-7)
    assert data.tracks[0].open().notes == ("the mixture is the sum of the stems",)
    assert data.tracks[1].open().notes == ()
    np.testing.assert_allclose(read(data.tracks[1])["bass"], noise(0), atol=1e-8)


def test_musdb_in_stem_files() -> None:
    root = shared("data", "fixtures", "musdb_7s_sample")
    with pytest.raises(InputError, match="holds no tracks"):
        open_data(f"musdb:{root}")  # it has no test split
    (track,) = open_data(f"musdb:{root}", "train").tracks
    assert track.name == "Music Delta - 80s Rock"
    found = read(track)
    assert list(track.stems) == ["drums", "bass", "other", "vocals"]
    parts = sum(found[name] for name in track.stems)
    assert np.abs(found["mixture"] - parts).max() < 0.1  # AAC of all five


def test_musdb_in_folders(tmp_path: Path) -> None:
    for index, stem in enumerate(("bass", "drums", "mixture", "other", "vocals")):
        for split in ("train", "test"):
            write(tmp_path / split / f"a {split} track" / f"{stem}.wav", noise(index))
    (track,) = open_data(f"musdb-hq:{tmp_path}").tracks
    assert track.name == "a test track"
    np.testing.assert_allclose(read(track)["other"], noise(3), atol=1e-8)
    (track,) = open_data(f"musdb-hq:{tmp_path / 'train'}").tracks
    assert track.name == "a train track"
    with pytest.raises(InputError, match="is musdb18-hq, not musdb18") as refused:
        open_data(f"musdb:{tmp_path}")
    assert f"musdb-hq:{tmp_path}" in refused.value.remedy
    with pytest.raises(OptionError, match="no valid split"):
        open_data(f"musdb-hq:{tmp_path}", "valid")


@pytest.mark.parametrize("kind", ["mir-1k", "ikala"])
def test_the_voice_is_in_the_right_channel(tmp_path: Path, kind: str) -> None:
    clip = noise(0)
    write(tmp_path / "Wavfile" / "abjones_1_01.wav", clip)
    (track,) = open_data(f"{kind}:{tmp_path}").tracks
    found = read(track)
    np.testing.assert_allclose(found["accompaniment"][0], clip[0], atol=1e-8)
    np.testing.assert_allclose(found["vocals"][0], clip[1], atol=1e-8)
    np.testing.assert_allclose(found["mixture"][0], clip.sum(axis=0), atol=1e-7)
    assert len(found["mixture"]) == 1


def test_a_mono_clip_has_no_voice(tmp_path: Path) -> None:
    write(tmp_path / "mono.wav", noise(0, channels=1))
    (track,) = open_data(f"ikala:{tmp_path}").tracks
    with pytest.raises(InputError, match=r"mono\.wav has 1 channel"):
        track.open()


@pytest.mark.parametrize(
    ("kind", "split", "mix"), [("librimix", "test", "mix_clean"), ("wsj0-2mix", "tt", "mix")]
)
def test_mixtures_of_speakers(tmp_path: Path, kind: str, split: str, mix: str) -> None:
    speaker_folders(tmp_path / split, mix=mix)
    for root in (tmp_path, tmp_path / split):
        data = open_data(f"{kind}:{root}")
        assert (data.interchangeable, data.nature) == (True, "speech")
        assert [track.name for track in data.tracks] == ["0", "1"]
        found = read(data.tracks[0])
        np.testing.assert_allclose(found["mixture"], found["s1"] + found["s2"], atol=1e-7)


def test_which_mixtures_of_speakers(tmp_path: Path) -> None:
    speaker_folders(tmp_path, mix="mix_both")
    speaker_folders(tmp_path, mix="mix_single")
    with pytest.raises(OptionError, match="several kinds of mixtures"):
        open_data(f"librimix:{tmp_path}")
    assert open_data(f"librimix:{tmp_path}?mix=mix_both").notes == ("mixtures of mix_both",)
    with pytest.raises(OptionError, match="no folder mix_x"):
        open_data(f"librimix:{tmp_path}?mix=mix_x")


def test_speakers_are_paired_by_name(tmp_path: Path) -> None:
    speaker_folders(tmp_path, tracks=3)
    (tmp_path / "s2" / "1.wav").unlink()
    (tmp_path / "mix_clean" / "2.wav").unlink()
    data = open_data(f"librimix:{tmp_path}")
    assert [track.name for track in data.tracks] == ["0", "1"]
    with pytest.raises(InputError, match="1 is not in s2"):
        data.tracks[1].open()
    assert data.notes[1] == "1 files of speakers have no mixture, such as 2"


def test_sounds_in_the_layout_of_fuss(tmp_path: Path) -> None:
    parts = {
        name: noise(index, channels=1)
        for index, name in enumerate(("background0_sound", "foreground0_sound"))
    }
    for name, samples in parts.items():
        write(tmp_path / "eval" / "example00000_sources" / f"{name}.wav", samples)
    write(tmp_path / "eval" / "example00000.wav", sum(parts.values(), np.zeros((1, 2 * RATE))))
    write(tmp_path / "eval" / "example00001.wav", noise(9))
    data = open_data(f"fuss:{tmp_path}")
    assert (data.interchangeable, data.nature) == (True, "events")
    assert list(read(data.tracks[0])) == ["background0_sound", "foreground0_sound", "mixture"]
    with pytest.raises(InputError, match=r"example00001\.wav has no sounds"):
        data.tracks[1].open()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("musdb", "names no data set"),
        ("musbd:/x", "names no data set"),
        ("folder:/is/not/there", "cannot read the folder"),
        ("folder:.?mix=mix", "folder has no option mix"),
    ],
)
def test_what_names_no_data_set(spec: str, message: str) -> None:
    with pytest.raises(StemwrightError, match=message):
        open_data(spec)


def test_a_misspelt_kind_is_told_its_neighbour() -> None:
    with pytest.raises(OptionError) as refused:
        open_data("musbd:/x")
    assert "musdb:PATH" in refused.value.remedy


@pytest.mark.parametrize("kind", ["folder", "musdb", "musdb-hq", "mir-1k", "librimix", "fuss"])
def test_an_empty_folder_is_no_data_set(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        open_data(f"{kind}:{tmp_path}")


def test_stems_without_a_folder_for_each_track(tmp_path: Path) -> None:
    write(tmp_path / "vocals.wav", noise(0))
    with pytest.raises(InputError, match="no folders of stems"):
        open_data(f"folder:{tmp_path}")


def test_two_files_of_one_stem(tmp_path: Path) -> None:
    for ending in ("wav", "flac"):
        write(tmp_path / "a" / f"vocals.{ending}", noise(0))
    (track,) = open_data(f"folder:{tmp_path}").tracks
    with pytest.raises(InputError, match="two files called vocals"):
        track.open()


def test_stems_of_other_rates_make_no_sum(tmp_path: Path) -> None:
    write(tmp_path / "a" / "drums.wav", noise(0))
    write(tmp_path / "a" / "vocals.wav", noise(1), rate=16000)
    with pytest.raises(InputError, match=r"a/vocals\.wav has 16000 Hz, a/drums\.wav 8000 Hz"):
        open_data(f"folder:{tmp_path}").tracks[0].open()


def test_a_split_of_what_has_none(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no test split"):
        open_data(f"folder:{stem_folders(tmp_path)}", "test")
