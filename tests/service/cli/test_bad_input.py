"""Bad input gets a clear error and loses nothing: code, cause, remedy, no file under a final name."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.service.conftest import Ended, Workshop
from tests.service.recordings import noise, recording, write


def is_clear(ended: Ended, *, code: int = 2) -> None:
    lines = ended.err.splitlines()
    assert ended.code == code
    assert ended.out == ""
    assert len(lines) == 2, ended.err
    assert lines[0].startswith("error: ") and len(lines[0]) > len("error: ") + 8
    assert lines[1].startswith("hint: ") and len(lines[1]) > len("hint: ") + 8


def cut(source: Path, share: float) -> Path:
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * share)])
    return source


def looping_link() -> Path:
    Path("song.wav").symlink_to("song.wav")
    return Path("song.wav")


def missing() -> Path:
    return Path("song.wav")


def folder() -> Path:
    Path("song.wav").mkdir()
    return Path("song.wav")


def empty() -> Path:
    Path("song.wav").touch()
    return Path("song.wav")


def text() -> Path:
    Path("song.wav").write_text("Dear diary\n" * 1000)
    return Path("song.wav")


def random_bytes() -> Path:
    Path("song.mp3").write_bytes(np.random.default_rng(0).bytes(50_000))
    return Path("song.mp3")


def picture() -> Path:
    Path("song.mp3").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    return Path("song.mp3")


def cut_flac() -> Path:
    return cut(recording(Path("song.flac"), 100_000), 0.6)


def cut_mp3() -> Path:
    return cut(recording(Path("song.mp3"), 100_000), 0.6)


def cut_wav() -> Path:
    return cut(recording(Path("song.wav"), 100_000), 0.6)


def header_only() -> Path:
    path = recording(Path("song.wav"), 100)
    path.write_bytes(path.read_bytes()[:44])
    return path


def not_a_number() -> Path:
    samples = noise(20_000)
    samples[1, 15_000] = np.nan
    return write(Path("song.wav"), samples, subtype="FLOAT")


def infinite() -> Path:
    samples = noise(20_000)
    samples[0, 15_000] = -np.inf
    return write(Path("song.wav"), samples, subtype="FLOAT")


BAD = (
    *(missing, folder, empty, text, random_bytes, picture, cut_flac, cut_mp3, cut_wav, header_only),
    *(not_a_number, infinite, looping_link),
)


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_recording(workshop: Workshop, make: Callable[[], Path]) -> None:
    song = make()
    before = workshop.files()
    is_clear(workshop.separate(song, "-o", "out"))
    assert workshop.files() == before
    assert not Path("out/song").exists()


@pytest.mark.parametrize("make", [cut_flac, not_a_number, looping_link], ids=lambda make: make.__name__)
def test_bad_recording_does_not_stop_the_rest(workshop: Workshop, make: Callable[[], Path]) -> None:
    bad = make()
    recording(Path("a.wav"))
    recording(Path("z.wav"))
    ended = workshop.separate("a.wav", bad, "z.wav", "-o", "out", "--stems", "bass")
    assert ended.code == 3
    assert ended.lines == ["out/a/bass.wav", "out/a/result.json", "out/z/bass.wav", "out/z/result.json"]
    assert not Path("out/song").exists()


def test_all_of_several_bad_is_code_2(workshop: Workshop) -> None:
    empty()
    assert workshop.separate("song.wav", "nothing.wav", "-o", "out").code == 2


@pytest.mark.parametrize("stream", ["start", "end"])
def test_excerpt_beyond_the_end(workshop: Workshop, stream: str) -> None:
    recording(Path("song.wav"), 44100)
    if stream == "start":
        is_clear(workshop.separate("song.wav", "-o", "out", "--start", "2"))
        assert workshop.files("out") == set()
    else:
        assert workshop.separate("song.wav", "-o", "out", "--end", "99").code == 0


def test_two_inputs_of_one_name(workshop: Workshop) -> None:
    recording(Path("a/song.wav"))
    recording(Path("b/SONG.flac"))
    ended = workshop.separate("a/song.wav", "b/SONG.flac", "-o", "out")
    is_clear(ended)
    assert "'a/song.wav' and 'b/SONG.flac'" in ended.err
    assert not Path("out").exists()
    is_clear(workshop.separate("a/song.wav", "a/song.wav", "-o", "out"))


def test_an_input_is_never_replaced(workshop: Workshop) -> None:
    song = recording(Path("drums/drums.wav"))
    before = song.read_bytes()
    is_clear(workshop.separate(song, "-o", ".", "--overwrite"))
    assert song.read_bytes() == before


NAMES = {
    "Ünï 曲 🎵": "Ünï 曲 🎵",
    "-o": "_-o",
    "con": "_con",
    ".hidden": "_.hidden",
    "trailing. . ": "trailing",
    'quo"te?*|<>:': "quo_te______",
    "bell\a\x1b[31m": "bell__[31m",
}


@pytest.mark.parametrize("name", NAMES)
def test_awkward_names(workshop: Workshop, name: str) -> None:
    recording(Path("plain.wav")).rename(f"./{name}.wav")
    ended = workshop.separate("--stems", "bass", "-o", "out", "--", f"{name}.wav")
    assert ended.code == 0, ended.err
    assert workshop.files("out") == {f"{NAMES[name]}/bass.wav", f"{NAMES[name]}/result.json"}


def test_very_long_name(workshop: Workshop) -> None:
    name = "ü" * 125
    recording(Path("plain.wav")).rename(f"{name}.wav")
    ended = workshop.separate(f"{name}.wav", "-o", "out", "--stems", "bass", "--format", "flac")
    assert ended.code == 0, ended.err
    (folder_,) = Path("out").iterdir()
    assert len(os.fsencode(folder_.name)) <= 200
    assert folder_.name.startswith("üüü")


def test_name_that_is_no_unicode(workshop: Workshop) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    recording(Path("plain.wav")).rename(name)
    ended = workshop.separate(name, "-o", "out", "--stems", "bass", "--json")
    assert ended.code == 0, ended.err
    assert ended.rows[0]["paths"] == ["out/caf_/bass.wav", "out/caf_/result.json"]


def test_output_below_a_file(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    Path("file").write_text("x")
    is_clear(workshop.separate("song.wav", "-o", "file"))
    is_clear(workshop.separate("song.wav", "-o", "file/out"))
    assert Path("file").read_text() == "x"


def test_output_where_nobody_can_write(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    is_clear(workshop.separate("song.wav", "-o", "/proc/stemwright"))


def test_too_little_room_is_told_before_the_work(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    recording(Path("song.wav"), 200_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=9_000_000))
    monkeypatch.setattr("stemwright.models.separation.separator.Separator.separate", _never)
    ended = workshop.separate("song.wav", "-o", "out")
    is_clear(ended, code=1)
    assert "free" in ended.err
    assert workshop.files("out") == set()


def _never(*arguments: object, **settings: object) -> None:
    raise AssertionError("the network was started")


@pytest.mark.slow
def test_disk_that_fills_up_on_the_way(workshop: Workshop) -> None:
    """A limit on the size of files stands for a full disk: both end in a refused write."""
    recording(Path("song.wav"), 200_000)
    ended = workshop.fresh(
        *("separate", "song.wav", "-o", "out", "-m", "tiny", "--device", "cpu"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)),
    )
    assert (ended.returncode, ended.stdout) == (1, b""), ended.stderr
    assert ended.stderr.splitlines()[0].startswith(b"error: ")
    assert ended.stderr.splitlines()[1].startswith(b"hint: ")
    assert workshop.files("out") == set()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(workshop: Workshop, number: signal.Signals) -> None:
    recording(Path("song.wav"), 44100 * 120)
    command = workshop.fresh_command("separate", "song.wav", "-o", "out", "-m", "tiny", "--device", "cpu")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _wait_for(lambda: any(Path("out").glob(".song.partial-*/song/.stemwright-*")))
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert out == b""
    assert b"Traceback" not in err
    assert not Path("out").exists() or workshop.files("out") == set()


@pytest.mark.slow
def test_what_a_kill_leaves_is_swept_by_the_next_run(workshop: Workshop) -> None:
    recording(Path("song.wav"), 44100 * 120)
    recording(Path("next.wav"))
    command = workshop.fresh_command("separate", "song.wav", "-o", "out", "-m", "tiny", "--device", "cpu")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _wait_for(lambda: any(Path("out").glob(".song.partial-*/song/.stemwright-*")))
        process.kill()
        process.communicate(timeout=30)
    assert all(name.startswith(".song.partial-") for name in workshop.files("out"))
    assert workshop.separate("next.wav", "-o", "out", "--stems", "bass").code == 0
    assert workshop.files("out") == {"next/bass.wav", "next/result.json"}


def _wait_for(ready: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_unknown_model(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    ended = workshop.separate("song.wav", "-o", "out", model="tinny")
    is_clear(ended)
    assert "tiny" in ended.err.splitlines()[1]


def test_damaged_model(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    graph = workshop.models / "tiny/model.onnx"
    graph.write_bytes(graph.read_bytes()[:100])
    is_clear(workshop.separate("song.wav", "-o", "out"))


def test_model_of_the_right_size_that_is_no_graph(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    recording(Path("other.wav"))
    graph = workshop.models / "tiny/model.onnx"
    graph.write_bytes(bytes(graph.stat().st_size))
    is_clear(workshop.separate("song.wav", "other.wav", "-o", "out"))
    assert workshop.files("out") == set()


def test_manifest_of_a_newer_version(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    path = workshop.models / "tiny/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "schema_version": 99}))
    ended = workshop.separate("song.wav", "-o", "out")
    is_clear(ended)
    assert "update" in ended.err


def test_pickle_in_the_place_of_a_model(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    Path("model.onnx").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    is_clear(workshop.separate("song.wav", "-o", "out", model="./model.onnx"))
    assert not Path("pwned").exists()


def test_unknown_stem(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    for option in ("--stems", "--two-stems"):
        ended = workshop.separate("song.wav", "-o", "out", option, "guitar")
        is_clear(ended)
        assert "vocals" in ended.err


@pytest.mark.parametrize(
    ("arguments", "word"), [(["--device", "abacus"], "abacus"), (["--device", "cuda:7"], "cuda")]
)
def test_device_that_is_not_there(workshop: Workshop, arguments: list[str], word: str) -> None:
    recording(Path("song.wav"))
    ended = workshop.run("separate", "song.wav", "-o", "out", "-m", "tiny", *arguments)
    is_clear(ended)
    assert word in ended.err
    assert not Path("out/song").exists()


@pytest.mark.parametrize(
    ("container", "rate", "channels"), [("mp3", 192_000, 2), ("mp3", 44100, 6), ("ogg", 44100, 6)]
)
def test_format_that_cannot_hold_the_recording(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, container: str, rate: int, channels: int
) -> None:
    recording(Path("song.wav"), 5000, channels, sample_rate=rate)
    monkeypatch.setattr("stemwright.models.separation.separator.Separator.separate", _never)
    ended = workshop.separate("song.wav", "-o", "out", "--format", container)
    is_clear(ended)
    assert "wav" in ended.err
    assert workshop.files("out") == set()
