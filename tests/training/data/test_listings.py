import ast
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.errors import InputError
from stemwright.training.data.checking import check
from stemwright.training.data.listing import Layout, find_recordings
from stemwright.training.data.music_layouts import MUSDB18_VALIDATION
from stemwright.training.data.packing import open_data
from tests.support import data_folders
from tests.support.data_folders import tone, write

TINY = tone(0.05, 8000, 200, channels=2)


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("names", "layout", "kind"),
    [
        (["train/A - B.stem.mp4"], "musdb18", "stems"),
        (["test/A - B/mixture.wav", "test/A - B/bass.wav"], "stems", "stems"),
        (["Wavfile/abjones_1_01.wav"], "mir-1k", "stems"),
        (["Wavfile/10161_chorus.wav"], "ikala", "stems"),
        (["speakers.csv", "19/a.flac"], "speech", "speech"),
        (["labels.csv"], "events", "events"),
        (["meta/esc50.csv", "audio/1-1-A-0.wav"], "events", "events"),
    ],
)
def test_layouts_are_found_out(tmp_path: Path, names: list[str], layout: str, kind: str) -> None:
    if layout == "events":
        _touch(tmp_path, *names)
        table = next(name for name in names if name.endswith(".csv"))
        write(tmp_path / "audio" / "1-1-A-0.wav", TINY, 8000)
        (tmp_path / table).write_text("filename,fold,target,category\n1-1-A-0.wav,1,0,dog\n")
    listing = find_recordings(
        _touch(tmp_path, *(name for name in names if not name.endswith("csv") or kind == "speech"))
    )
    assert (listing.layout, listing.kind) == (layout, kind)


def test_what_cannot_be_told_asks_for_a_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be told") as caught:
        find_recordings(_touch(tmp_path, "a/b.wav"))
    assert "two-channel, speech, events, clips" in caught.value.remedy
    with pytest.raises(InputError, match="holds no recordings in the layout musdb18"):
        find_recordings(tmp_path, "musdb18")
    with pytest.raises(InputError, match="is no folder"):
        find_recordings(tmp_path / "none")


@pytest.mark.parametrize(
    ("layout", "name", "group", "split"),
    [
        ("musdb18", "train/A - B.stem.mp4", "A - B", "train"),
        ("musdb18", "A - B.stem.mp4", "A - B", ""),
        ("musdb18", "train/ANiMAL - Rockshow.stem.mp4", "ANiMAL - Rockshow", "validation"),
        ("stems", "train/Leaf - Summerghost/bass.wav", "Leaf - Summerghost", "validation"),
        ("stems", "test/Leaf - Summerghost/bass.wav", "Leaf - Summerghost", "test"),
        ("stems", "test/A - B/bass.wav", "A - B", "test"),
        ("stems", "A - B/bass.wav", "A - B", ""),
        ("stems", "Sources/Dev/051 - A - B/bass.wav", "051 - A - B", "train"),
        ("stems", "Sources/Test/001 - A - B/bass.wav", "001 - A - B", "test"),
        ("mir-1k", "Wavfile/abjones_1_01.wav", "abjones", "train"),
        ("mir-1k", "Wavfile/bobon_1_01.wav", "bobon", "test"),
        ("ikala", "Wavfile/10161_chorus.wav", "10161", ""),
        ("two-channel", "sodium_20s.flac", "sodium", ""),
        ("speech", "train-clean-100/19/198/19-198-0000.flac", "19", "train"),
        ("speech", "dev-other/19/198/19-198-0000.flac", "19", "validation"),
        ("speech", "si_tr_s/011/011a0101.wav", "011", "train"),
        ("speech", "si_dt_05/050/a.wav", "050", "test"),
        ("speech", "p225/p225_001.wav", "p225", ""),
        ("events", "001 - Dog bark/1-30226-A.ogg", "30226", "fold1"),
        ("events", "Rain/x.wav", "x", ""),
        ("clips", "deep/down/x.wav", "deep/down/x.wav", ""),
        ("events", "train/Rain/x.wav", "x", "train"),
    ],
)
def test_groups_and_parts(tmp_path: Path, layout: Layout, name: str, group: str, split: str) -> None:
    first = find_recordings(_touch(tmp_path, name), layout).entries[0]
    assert (first.group, first.split) == (group, split)


def test_stems_of_musdb18_are_the_streams_behind_the_mixture(tmp_path: Path) -> None:
    listing = find_recordings(_touch(tmp_path, "train/A.stem.mp4"))
    assert {entry.role: entry.stream for entry in listing.entries} == {
        "drums": 1, "bass": 2, "other": 3, "vocals": 4,
    }  # fmt: skip


def test_two_channels_are_two_stems(tmp_path: Path) -> None:
    samples = tone(0.2, 8000, 200, channels=2)
    samples[0] *= 0.5
    write(tmp_path / "data" / "song_1.wav", samples, 8000)
    pack = open_data(tmp_path / "data", layout="two-channel", cache=tmp_path / "cache")
    assert [one.role for one in pack.recordings] == ["accompaniment", "vocals"]
    assert [abs(pack.read(n) - samples[n]).max() < 2e-5 for n in (0, 1)] == [True, True]
    assert pack.channels == 1


def test_mono_files_are_no_two_channel_clips(tmp_path: Path) -> None:
    write(tmp_path / "data" / "song_1.wav", tone(0.2, 8000, 200), 8000)
    with pytest.raises(InputError, match="one channel where two are expected"):
        open_data(tmp_path / "data", layout="two-channel", cache=tmp_path / "cache")


def test_mixtures_are_left_out_and_rare_stems_too(tmp_path: Path) -> None:
    data = data_folders.songs(tmp_path, 3)
    write(data / "song0" / "mixture.wav", TINY, 8000)
    write(data / "song0" / "guitar.wav", TINY, 8000)
    listing = find_recordings(data)
    assert {entry.role for entry in listing.entries} == {"bass", "drums", "other", "vocals"}
    assert listing.units == 3


def test_stems_of_two_formats_are_a_fault(tmp_path: Path) -> None:
    data = data_folders.songs(tmp_path, 2)
    write(data / "song1" / "bass.flac", TINY, 8000)
    assert [fault.reason for fault in find_recordings(data).faults] == ["has the stem bass twice"]


def test_links_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    data = data_folders.speech(tmp_path / "data", 2, 1)
    _touch(data, "s0/._u0.wav")
    (data / "s0" / "link.wav").symlink_to(tmp_path / "elsewhere.wav")
    assert find_recordings(data, "speech").units == 2


def test_tables_of_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", TINY, 8000)
    write(tmp_path / "sub" / "b.wav", TINY, 8000)
    (tmp_path / "labels.csv").write_text(
        'fname,labels,split\na,"Dog;Rain",train\nsub/b.wav,Dog,test\nmissing.wav,Dog,test\n'
    )
    listing = find_recordings(tmp_path)
    assert [(e.name, e.labels, e.split) for e in listing.entries] == [
        ("a.wav", ("Dog", "Rain"), "train"),
        ("sub/b.wav", ("Dog",), "test"),
    ]
    assert [fault.name for fault in listing.faults] == ["missing.wav"] and listing.units == 3
    for head, text, labels in (
        ("labels", '"Dog,Rain"', ("Dog", "Rain")),
        ("labels", '"Waves, surf;Rain"', ("Waves, surf", "Rain")),
        ("label", '"Waves, surf"', ("Waves, surf",)),
    ):
        (tmp_path / "labels.csv").write_text(f"file,{head}\na.wav,{text}\n")
        assert find_recordings(tmp_path).entries[0].labels == labels
    (tmp_path / "labels.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="no column of files and of labels"):
        find_recordings(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00file,label")
    with pytest.raises(InputError, match="cannot read"):
        find_recordings(tmp_path)


def test_checking_names_everything(tmp_path: Path) -> None:
    data = data_folders.songs(tmp_path, 4, seconds=0.1)
    (data / "song0" / "bass.wav").unlink()
    (data / "song1" / "bass.wav").write_bytes(b"no audio")
    write(data / "song2" / "bass.wav", TINY, 8000)
    seen: list[tuple[int, int]] = []
    faults = check(find_recordings(data), progress=lambda done, total: seen.append((done, total))).faults
    assert [fault.name for fault in faults] == ["song0", "song1", "song2"]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_mixtures_that_are_no_sums_are_noted(tmp_path: Path) -> None:
    data = data_folders.songs(tmp_path, 4, seconds=0.5)
    for song in range(4):
        folder = data / f"song{song}"
        stems = [soundfile.read(path, dtype="float32")[0].T for path in sorted(folder.glob("*.wav"))]
        mixture = np.sum(stems, axis=0)
        if song == 1:
            mixture = mixture - 0.5 * stems[0]
        if song == 2:
            mixture = mixture[:, :-100]
        if song == 3:
            (folder / "mixture.wav").write_bytes(b"no audio")
        else:
            write(folder / "mixture.wav", mixture, 8000)
    found = check(find_recordings(data))
    assert not found.faults
    assert [note.name for note in found.notes] == ["song1", "song2", "song3"]
    assert [note.reason.split(":")[0] for note in found.notes] == [
        "has a mixture that is not the sum of its stems",
        "has a mixture of another length than its stems",
        "has a mixture that cannot be used",
    ]


def test_a_fingerprint_changes_with_what_a_pack_is_made_of(tmp_path: Path) -> None:
    data = data_folders.speech(tmp_path, 2, 1)
    first = find_recordings(data, "speech").fingerprint("rules")
    assert find_recordings(data, "speech").fingerprint("rules") == first
    assert find_recordings(data, "speech").fingerprint("others") != first
    write(data / "s0" / "u0.wav", tone(0.3, 8000, 100), 8000)
    assert find_recordings(data, "speech").fingerprint("rules") != first


def test_the_validation_songs_of_musdb_are_those_of_torchaudio() -> None:
    found = importlib.util.find_spec("torchaudio")
    assert found is not None and found.origin is not None
    text = (Path(found.origin).parent / "datasets" / "musdb_hq.py").read_text()
    (listed,) = re.findall(r"_VALIDATION_SET = (\[.*?\])", text, re.DOTALL)
    assert frozenset(ast.literal_eval(listed)) == MUSDB18_VALIDATION
