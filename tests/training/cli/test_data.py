import json
import re
import shutil
from pathlib import Path

import pytest

from stemwright.core.errors import EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE
from stemwright.service.cli.main import run
from stemwright.training.data.listing import find_recordings
from stemwright.training.data.pack import Pack
from stemwright.training.data.pack_making import make_pack
from tests.support import data_folders


def _run(*words: str | Path) -> int:
    return run(["train", "data", *map(str, words)])


def test_info_tells_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_folders.songs(tmp_path / "data", 3)
    assert _run("info", data, "--json") == EXIT_OK
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["layout"], told["recordings"], told["groups"]) == ("stems", "stems", 12, 3)
    assert told["roles"] == {"bass": 3, "drums": 3, "other": 3, "vocals": 3} and not told["packed"]
    assert _run("info", data) == EXIT_OK
    assert "12 recordings in 3 groups" in capsys.readouterr().out


def test_check_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_folders.songs(tmp_path / "data", 3, seconds=0.1)
    assert _run("check", data) == EXIT_OK
    (data / "song1" / "drums.wav").write_bytes(b"no audio")
    (data / "song2" / "bass.wav").unlink()
    assert _run("check", data) == EXIT_SOME_FAILED
    told = capsys.readouterr().out
    assert "song2: has no stem bass" in told and "song1: " in told
    assert told.splitlines()[-1] == "2 of 3 recordings cannot be used"
    capsys.readouterr()
    assert _run("check", data, "--json") == EXIT_SOME_FAILED
    assert {fault["name"] for fault in json.loads(capsys.readouterr().out)["faults"]} == {"song1", "song2"}
    assert _run("info", data) == EXIT_OK
    assert "left out: song2: has no stem bass" in capsys.readouterr().out


@pytest.mark.slow
def test_pack_and_preview(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_folders.speech(tmp_path / "data")
    pack, page = tmp_path / "pack", tmp_path / "page.html"
    assert _run("pack", data, "-o", pack, "--layout", "speech", "--rate", "4000") == EXIT_OK
    assert "4000 Hz, 1 channels" in capsys.readouterr().out
    assert Pack.open(pack).sample_rate == 4000
    assert _run("preview", pack, "-o", page, "-n", "1", "--seconds", "0.5") == EXIT_OK
    assert page.read_text().count("<audio") == 3
    assert _run("check", pack) == EXIT_USAGE
    assert "nothing is left to check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("info", "nowhere"), "is no folder"),
        (("info", "data", "--layout", "speach"), "did you mean speech"),
        (("pack", "data", "-o", "pack", "--class", "x"), "LABEL=CLASS"),
        (("pack", "data", "-o", "pack", "--layout", "speech", "--tagger", "yamnet"), "no sound events"),
        (("pack", "data", "-o", "data", "--layout", "speech"), "is no pack"),
        (("synthesise", "-o", "set"), "either songs or speakers"),
        (("synthesise", "-o", "set", "--songs", "1", "--rate", "12345"), "not made at 12345 Hz"),
        (("synthesise", "-o", "set", "--songs", "1", "--split", "a/b"), "no name of a folder"),
        (("synthesise", "-o", "set", "--songs", "1"), "FluidSynth"),
    ],
)
def test_mistakes_are_told_with_a_remedy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    data_folders.speech(tmp_path / "data", 2, 1, seconds=0.1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert _run(*words) == EXIT_USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_preview_of_a_configuration_is_what_a_run_hears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_folders.songs(tmp_path / "data", 3, rate=44100)
    make_pack(find_recordings(tmp_path / "data"), tmp_path / "pack")
    (tmp_path / "run.toml").write_text(
        """
        name = "small"
        model = { family = "conv_tasnet", variant = "music", sizes = { filters = 8, hidden = 8 } }
        data.segment_s = 0.2
        data.train = { kind = "songs", path = "pack", augment = { remix_group = 2, gain = [0.5, 0.5] } }
        optimiser.lr = 1e-3
        loop = { steps = 1, batch = 4, seed = 3 }
        """.replace("\n        ", "\n")
    )
    monkeypatch.chdir(tmp_path)
    assert _run("preview", "run.toml", "-o", "page.html", "-n", "9") == EXIT_OK
    page = (tmp_path / "page.html").read_text()
    assert "<h1>small</h1>" in page and page.count("<h2>") == 4
    names = re.findall(r"<figcaption>(\w+),", page)[:5]
    assert names == ["mixture", "drums", "bass", "other", "vocals"]
