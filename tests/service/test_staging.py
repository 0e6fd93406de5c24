import fcntl
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from stemwright.core.errors import OutputError
from stemwright.service.staging import Staging, sweep

A, B, RESULT = PurePosixPath("song/a.wav"), PurePosixPath("song/b.wav"), PurePosixPath("song/result.json")


def fill(staging: Staging, *files: PurePosixPath, text: str = "new") -> None:
    for file in files:
        staging.path(file).write_text(text)


def everything(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_publishes_a_new_folder_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renames: list[str] = []
    rename = Path.rename

    def watched(self: Path, to: Path) -> Path:
        renames.append(self.name)
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", watched)
    with Staging(tmp_path / "out", "song") as staging:
        fill(staging, A, B, RESULT)
        assert everything(tmp_path / "out").keys() == {f"{staging.folder.name}/{f}" for f in (A, B, RESULT)}
        staging.publish([A, B, RESULT])
    assert everything(tmp_path / "out") == {
        "song/a.wav": "new",
        "song/b.wav": "new",
        "song/result.json": "new",
    }
    assert renames == ["song"]


def test_nothing_remains_without_publishing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Staging(tmp_path / "deep/out", "song") as staging:
        fill(staging, A)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_was_there_stays(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Staging(tmp_path, "song"):
        raise RuntimeError
    assert tmp_path.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_replaces_file_by_file_with_the_last_one_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "song").mkdir()
    for name in ("a.wav", "b.wav", "c.wav", "result.json", "notes.txt"):
        (tmp_path / "song" / name).write_text("old")
    seen: list[set[str]] = []
    replace = Path.replace

    def watched(self: Path, to: Path) -> Path:
        seen.append({path.name for path in (tmp_path / "song").iterdir()})
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", watched)
    with Staging(tmp_path, "song") as staging:
        fill(staging, A, B, RESULT)
        staging.publish([A, B, RESULT], stale=[PurePosixPath("song/c.wav"), A], replace=True)
    assert all("result.json" not in names for names in seen)
    assert everything(tmp_path) == {
        "song/a.wav": "new",
        "song/b.wav": "new",
        "song/result.json": "new",
        "song/notes.txt": "old",
    }


def test_does_not_replace_unasked(tmp_path: Path) -> None:
    (tmp_path / "song").mkdir()
    (tmp_path / "song/b.wav").write_text("old")
    with Staging(tmp_path, "song") as staging:
        fill(staging, A, B, RESULT)
        with pytest.raises(OutputError, match="exists already"):
            staging.publish([A, B, RESULT])
    assert everything(tmp_path) == {"song/b.wav": "old"}


def test_sweeps_what_a_dead_process_left_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from stemwright.service.staging import Staging;"
        "s = Staging(Path(sys.argv[1]), 'song'); (s.folder / 'x').write_text('x'); os._exit(0)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    (tmp_path / ".song.partial-nothexxx").mkdir()
    (tmp_path / ".other").mkdir()
    with Staging(tmp_path, "song") as alive:
        assert sweep(tmp_path) == 1
        assert {path.name for path in tmp_path.iterdir()} == {
            ".song.partial-nothexxx",
            ".other",
            alive.folder.name,
        }


def test_sweep_follows_no_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "keep").write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".song.partial-00000000").symlink_to(victim)
    assert sweep(out) == 0
    assert (victim / "keep").exists()
    assert sweep(tmp_path / "absent") == 0


def test_a_file_system_without_locks_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Staging(tmp_path, "song") as staging:
        fill(staging, A)
        assert sweep(tmp_path) == 0
        staging.publish([A])
    assert everything(tmp_path) == {"song/a.wav": "new"}
