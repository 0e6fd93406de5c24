"""Models that are asked, and `detect`, from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.service.conftest import Workshop
from tests.service.recordings import read, write
from tests.support.tiny_taggers import (
    CAT,
    DOG,
    RATE,
    SPEECH,
    install_tiny_asked_model,
    install_tiny_tagger,
    tone,
)

LSB = 2.0**-15


@pytest.fixture
def asked(workshop: Workshop) -> Workshop:
    """A workshop with the tiny tagger and a model that it serves."""
    install_tiny_tagger(workshop.models)
    install_tiny_asked_model(workshop.models)
    return workshop


def scene(path: str = "scene.wav") -> Path:
    """4 s of dog, then 2 s of speech."""
    sound = np.concatenate([tone(DOG, 4.0), tone(SPEECH, 2.0)], axis=1)
    return write(Path(path), np.float32(0.5) * sound, RATE)


def result(folder: str = "out/scene") -> dict[str, list[dict[str, object]]]:
    data: dict[str, list[dict[str, object]]] = json.loads(Path(folder, "result.json").read_text())
    return data


def test_a_stem_for_each_label(asked: Workshop) -> None:
    ended = asked.separate(scene(), "-o", "out", "--query", "dog", "--query", "talking", model="asked")
    assert (ended.code, ended.err) == (0, "")
    assert asked.files("out") == {"scene/dog.wav", "scene/speech.wav", "scene/result.json"}
    dog, speech = read(Path("out/scene/dog.wav")), read(Path("out/scene/speech.wav"))
    assert not dog[:, 4 * RATE :].any() and dog[:, : 4 * RATE].any()
    assert not speech[:, : 4 * RATE].any() and speech[:, 4 * RATE :].any()
    facts = {str(query["stem"]): query for query in result()["queries"]}
    assert facts["dog"]["active"] == [[0.0, 4.0]] and facts["speech"]["active"] == [[4.0, 6.0]]
    assert (facts["speech"]["asked"], facts["speech"]["class_name"]) == ("talking", "Speech")


def test_what_is_not_there_is_silence_and_told(asked: Workshop) -> None:
    ended = asked.separate(scene(), "-o", "out", "--query", "cat", "--json", model="asked")
    assert ended.code == 0
    assert "note: 'cat' was not heard in scene.wav; its stem is silence" in ended.err
    assert not read(Path("out/scene/cat.wav")).any()
    (facts,) = result()["queries"]
    assert facts["active"] == []
    (row,) = ended.rows
    assert row["result"]["queries"] == [facts]


def test_by_example(asked: Workshop) -> None:
    example = write(Path("examples/woof.wav"), tone(DOG, 3.0), RATE)
    ended = asked.separate(
        scene(), "-o", "out", "--query-audio", example, "--query-audio", "examples", model="asked"
    )
    assert ended.code == 0
    names = [Path(line).name for line in ended.lines]
    assert names == ["woof.wav", "examples.wav", "result.json"]
    np.testing.assert_allclose(read(Path("out/scene/woof.wav")), read(Path("out/scene/examples.wav")))
    assert [len(str(query["example_sha256"])) for query in result()["queries"]] == [64, 64]


def test_automatic(asked: Workshop) -> None:
    ended = asked.separate(scene(), "-o", "out", "--auto", "--level", "3", model="asked")
    assert (ended.code, ended.err) == (0, "")
    assert asked.files("out") == {"scene/dog.wav", "scene/speech.wav", "scene/result.json"}
    assert {query["level"] for query in result()["queries"]} == {3}


def test_automatic_on_several_levels_and_recordings(asked: Workshop) -> None:
    talk = write(Path("talk.wav"), tone(SPEECH, 2.0), RATE)
    ended = asked.separate(
        scene(), talk, "-o", "out", "--auto", "--level", "1", "--level", "3", model="asked"
    )
    assert ended.code == 0
    assert asked.files("out") == {
        "scene/level=1/animal.wav",
        "scene/level=1/human_sounds.wav",
        "scene/level=3/dog.wav",
        "scene/level=3/speech.wav",
        "scene/result.json",
        "talk/level=1/human_sounds.wav",
        "talk/level=3/speech.wav",
        "talk/result.json",
    }
    paths = [str(file["path"]) for file in result("out/talk")["files"]]
    assert paths == ["level=1/human_sounds.wav", "level=3/speech.wav"]


def test_one_silent_recording_of_several(asked: Workshop) -> None:
    silent = write(Path("silent.wav"), np.zeros((1, RATE), np.float32), RATE)
    ended = asked.separate(scene(), silent, "-o", "out", "--auto", model="asked")
    assert ended.code == 3 and ended.shows_error("as probable as 0.2", "stemwright detect")
    assert not Path("out/silent").exists() and Path("out/scene/result.json").exists()


@pytest.mark.parametrize(
    ("options", "model", "message"),
    [
        ([], "asked", "separates what it is asked for"),
        (["--query", "dog"], "tiny", "separates fixed stems"),
        (["--auto"], "tiny", "separates fixed stems"),
        (["--query", "dog", "--auto"], "asked", "no room for --query"),
        (["--level", "2"], "asked", "--level is for --auto"),
        (["--query", "dog", "--stems", "dog"], "asked", "the queries themselves"),
        (["--query", "dog", "--two-stems", "dog"], "asked", "the queries themselves"),
        (["--query", "qqqqwwww"], "asked", "no class of sound is called 'qqqqwwww'"),
        (["--query", "dog", "--query", "DOG"], "asked", "both mean 'Dog'"),
        (["--query-audio", "absent.wav"], "asked", "absent.wav"),
        (["--query-audio", "silent.wav"], "asked", "no sound in it"),
        (["--auto", "-o", "-"], "asked", "names the files by what is in it"),
        (["-m", "asked", "--query", "dog"], "tiny", "no stem in common"),
    ],
)
def test_what_cannot_be_asked(asked: Workshop, options: list[str], model: str, message: str) -> None:
    write(Path("silent.wav"), np.zeros((1, RATE), np.float32), RATE)
    code, _, err = asked.piped(
        "separate",
        "-m",
        model,
        "--device",
        "cpu",
        scene(),
        *(["-o", "out"] if "-o" not in options else []),
        *options,
    )
    assert code == 2 and message in err and "hint: " in err
    assert not Path("out").exists()


def test_batch_asks_all_recordings_the_same(asked: Workshop) -> None:
    scene("folder/one.wav")
    write(Path("folder/two.wav"), tone(CAT, 1.0), RATE)
    ended = asked.batch("folder", "-o", "out", "--query", "dog", model="asked")
    assert ended.code == 0
    files = asked.files("out")
    assert {"one/dog.wav", "two/dog.wav", "one/result.json"} <= files
    assert (
        asked.batch("folder", "-o", "out", "--query", "dog", "--resume", model="asked").out.count("skipped")
        >= 2
    )
    again = asked.batch("folder", "-o", "out", "--query", "cat", "--resume", model="asked")
    assert again.code == 0 and "2 done" in again.out


# detect


def test_detect_prints_a_table(asked: Workshop) -> None:
    ended = asked.run("detect", scene(), "--tagger", "ears", "--device", "cpu", "--top", "2")
    assert (ended.code, ended.err) == (0, "")
    head, columns, *rows = ended.lines
    assert head == "scene.wav, 6.0 s" and columns.split() == ["class", "peak", "mean", "active"]
    table = {row.split()[0]: row.split()[-1] for row in rows}
    assert table == {"Dog": "0:00.0-0:04.0", "Speech": "0:04.0-0:06.0"}


def test_detect_as_json_and_by_level(asked: Workshop) -> None:
    ended = asked.run("detect", scene(), "--tagger", "ears", "--device", "cpu", "--level", "1", "--json")
    (data,) = ended.rows
    assert {one["name"]: one["active"] for one in data["classes"]} == {
        "Animal": [[0.0, 4.0]],
        "Human sounds": [[4.0, 6.0]],
    }
    assert all(len(one["probabilities"]) == 3 for one in data["classes"])


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("b.svg", b"<?xml")])
def test_detect_draws(asked: Workshop, name: str, begin: bytes) -> None:
    for picture in (name, f"again-{name}"):
        ended = asked.run("detect", scene(), "--tagger", "ears", "--device", "cpu", "--picture", picture)
        assert ended.code == 0
    assert Path(name).read_bytes().startswith(begin)
    assert Path(name).read_bytes() == Path(f"again-{name}").read_bytes()
    assert asked.files() == {"scene.wav", name, f"again-{name}"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--picture", "x.jpg"], "x.jpg is no picture's name"),
        (["--picture", "absent/x.png"], "absent/x.png"),
        (["--tagger", "tiny"], "tiny is not a tagger"),
        (["--tagger", "earz"], "no model named 'earz'"),
        (["--level", "7"], "equal to 6"),
    ],
)
def test_detect_refuses(asked: Workshop, options: list[str], message: str) -> None:
    ended = asked.run("detect", scene(), "--tagger", "ears", "--device", "cpu", *options)
    assert ended.code == 2 and message in ended.err


def test_detect_with_the_tagger_that_is_shipped(asked: Workshop) -> None:
    ended = asked.run("detect", scene(), "--json", "--device", "cpu", "--top", "3")
    (data,) = ended.rows
    assert data["tagger"] == "yamnet" and len(data["classes"]) == 3


# models


def test_taggers_are_listed_shown_and_verified(asked: Workshop) -> None:
    rows = {row["name"]: row for row in json.loads(asked.run("models", "list", "--json").out)["models"]}
    assert (rows["yamnet"]["state"], rows["yamnet"]["kind"]) == ("installed", "tagger")
    assert rows["ears"]["kind"] == "tagger" and rows["asked"]["kind"] == "model"
    table = {line.split()[0]: line for line in asked.run("models", "list").lines}
    assert "(tagger)" in table["ears"] and "(by query)" in table["asked"]
    facts = json.loads(asked.run("models", "info", "yamnet", "--json").out)
    assert len(facts["manifest"]["classes"]) == 521 and "stems" not in facts["manifest"]
    for name in ("yamnet", "ears", "asked"):
        assert asked.run("models", "verify", name).out == f"{name}: ok\n"
    refused = asked.run("models", "remove", "yamnet", "--yes")
    assert refused.code == 2 and refused.shows_error("part of stemwright")
    assert asked.run("models", "remove", "ears", "--yes").out == "ears\n"


def test_a_tagger_separates_nothing(asked: Workshop) -> None:
    ended = asked.separate(scene(), "-o", "out", model="ears")
    assert ended.code == 2 and ended.shows_error("ears is a tagger", "stemwright detect --tagger ears")


def test_the_models_tagger_has_to_be_installed(asked: Workshop) -> None:
    asked.run("models", "remove", "ears", "--yes")
    ended = asked.separate(scene(), "-o", "out", "--query", "dog", model="asked")
    assert ended.code == 2 and ended.shows_error("no model named 'ears' is installed")
