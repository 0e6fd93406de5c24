import os
from pathlib import Path, PurePosixPath

import pytest

from stemwright.core.errors import InputError, OptionError
from stemwright.service.folders import Collection, find_tracks


def touch(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"x")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def keys(collection: Collection) -> list[str]:
    return [track.key for track in collection.tracks]


def problems(collection: Collection) -> dict[str, str]:
    return {track.key: track.problem.message for track in collection.tracks if track.problem is not None}


def test_musdb18() -> None:
    touch(
        "db/train/A - X.stem.mp4",
        "db/train/B.stem.mp4",
        "db/test/C.stem.mp4",
        "db/README.md",
        "db/test/cover.jpg",
    )
    found = find_tracks(Path("db"))
    assert found.kind == "musdb18"
    assert keys(found) == ["train/A - X", "train/B", "test/C"]
    assert found.tracks[0].target == PurePosixPath("train/A - X")
    assert found.tracks[2].source == Path("db/test/C.stem.mp4").resolve()
    assert keys(find_tracks(Path("db"), split="test")) == ["test/C"]


def test_musdb18_hq() -> None:
    for track in ("train/A", "test/B"):
        touch(*(f"db/{track}/{name}.wav" for name in ("mixture", "drums", "bass", "other", "vocals")))
    found = find_tracks(Path("db"), split="train")
    assert (found.kind, keys(found)) == ("musdb18-hq", ["train/A"])
    assert found.tracks[0].source.name == "mixture.wav"


@pytest.mark.parametrize("name", ["train", "part"])
def test_a_split_alone(name: str) -> None:
    touch(f"{name}/A.stem.mp4")
    if name == "part":
        with pytest.raises(OptionError, match="unknown split"):
            find_tracks(Path(name))
        assert keys(find_tracks(Path(name), split="test")) == ["test/A"]
    else:
        assert keys(find_tracks(Path(name))) == ["train/A"]
        with pytest.raises(OptionError, match="is the train split"):
            find_tracks(Path(name), split="test")


def test_musdb_faults_are_tracks_with_a_problem() -> None:
    touch(
        "db/test/Good/mixture.wav",
        "db/test/No mixture/drums.wav",
        "elsewhere/T/mixture.wav",
        "elsewhere/m.wav",
    )
    os.mkdir("db/test/Empty")
    os.symlink(Path("elsewhere/T").resolve(), "db/test/Linked")
    os.mkdir("db/test/Linked mixture")
    os.symlink(Path("elsewhere/m.wav").resolve(), "db/test/Linked mixture/mixture.wav")
    touch("db/test/Nested/deeper/mixture.wav")
    os.makedirs("db/test/Folder/mixture.wav")
    os.symlink("Good", "db/test/Linked inside")
    found = find_tracks(Path("db"))
    assert found.kind == "musdb18-hq"
    assert [track.key for track in found.tracks if track.problem is None] == [
        "test/Good",
        "test/Linked inside",
    ]
    told = problems(found)
    assert told["test/Empty"] == "Empty has no mixture.wav"
    assert told["test/No mixture"] == "No mixture has no mixture.wav"
    assert told["test/Nested"] == "Nested has no mixture.wav"
    assert "is no file" in told["test/Folder"]
    assert "out of the folder" in told["test/Linked"]
    assert "out of the folder" in told["test/Linked mixture"]


@pytest.mark.parametrize(("folder", "out"), [("db", "db"), ("db/test", "db"), ("db", "db/../db")])
def test_true_stems_are_never_replaced(folder: str, out: str) -> None:
    touch("db/test/A/mixture.wav", "db/test/A/drums.wav")
    with pytest.raises(OptionError, match="among the recordings"):
        find_tracks(Path(folder), out=Path(out))
    assert keys(find_tracks(Path(folder), out=Path("elsewhere"))) == ["test/A"]


def test_stems_are_not_written_among_plain_recordings() -> None:
    touch("in/a.wav")
    with pytest.raises(OptionError, match="among the recordings"):
        find_tracks(Path("in"), out=Path("in"))


def test_both_kinds_in_one() -> None:
    touch("db/train/A.stem.mp4", "db/test/B/mixture.wav")
    with pytest.raises(InputError, match="mixes"):
        find_tracks(Path("db"))


def test_plain_is_recursive_and_passes_over_what_is_no_audio() -> None:
    touch("in/b.MP3", "in/a/x.flac", "in/a/deep/er/y.opus", "in/cover.jpg", "in/.hidden.wav", "in/._b.MP3")
    touch("in/.git/z.wav", "in/out/b/vocals.wav")
    found = find_tracks(Path("in"), out=Path("in/out"))
    assert (found.kind, keys(found)) == ("plain", ["a/deep/er/y.opus", "a/x.flac", "b.MP3"])
    assert [str(track.target) for track in found.tracks] == ["a/deep/er/y", "a/x", "b"]


def test_plain_names_that_would_collide() -> None:
    touch("in/x.flac", "in/x.mp3", "in/X.wav", "in/y.wav", "in/z.stem.mp4")
    found = find_tracks(Path("in"))
    assert [str(track.target) for track in found.tracks if track.problem is None] == ["X", "y", "z"]
    assert "same folder as X.wav" in problems(found)["x.flac"]
    assert "same folder as X.wav" in problems(found)["x.mp3"]


def test_plain_links() -> None:
    touch("in/a.wav", "elsewhere/b.wav", "elsewhere/folder/c.wav")
    os.symlink(Path("in/a.wav").resolve(), "in/again.wav")
    os.symlink(Path("elsewhere/b.wav").resolve(), "in/b.wav")
    os.symlink(Path("elsewhere/folder").resolve(), "in/folder")
    os.symlink("nowhere.wav", "in/broken.wav")
    os.symlink("loop.wav", "in/loop.wav")
    os.symlink("..", "in/parent")
    found = find_tracks(Path("in"))
    assert [track.key for track in found.tracks if track.problem is None] == ["a.wav", "again.wav"]
    told = problems(found)
    assert told.keys() == {"b.wav", "folder", "broken.wav", "loop.wav", "parent"}
    assert "out of the folder" in told["b.wav"]
    assert "to a folder" in told["folder"]
    assert "to nothing" in told["broken.wav"]


def test_pipes_are_passed_over() -> None:
    touch("in/a.wav")
    os.mkfifo("in/pipe.wav")
    os.symlink("pipe.wav", "in/to the pipe.wav")
    found = find_tracks(Path("in"))
    assert keys(found) == ["a.wav", "to the pipe.wav"]
    assert "no file" in problems(found)["to the pipe.wav"]


def test_a_link_to_the_folder_itself_is_followed() -> None:
    touch("real/a.wav")
    os.symlink("real", "in")
    assert keys(find_tracks(Path("in"))) == ["a.wav"]


def test_a_folder_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/a.wav", "in/closed/b.wav", "in/z.wav")
    scandir = os.scandir

    def refuse(path: Path) -> "os._ScandirIterator[str]":
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", refuse)  # permissions do not stop a superuser
    found = find_tracks(Path("in"))
    assert keys(found) == ["a.wav", "closed", "z.wav"]
    assert "permission denied" in problems(found)["closed"]
    with pytest.raises(InputError, match="permission denied"):
        find_tracks(Path("in/closed"))


def test_folders_with_a_mixture_beside_other_folders_are_plain() -> None:
    touch("in/A/mixture.wav", "in/B/song.flac", "in/C.stem.mp4")
    assert find_tracks(Path("in")).kind == "plain"


def test_what_is_no_collection() -> None:
    touch("file.wav", "in/notes.txt")
    for path, message in (("absent", "no such file"), ("file.wav", "is no folder"), ("in", "no recordings")):
        with pytest.raises(InputError, match=message):
            find_tracks(Path(path))
    touch("in/a.wav")
    with pytest.raises(OptionError, match="not MUSDB"):
        find_tracks(Path("in"), split="test")
