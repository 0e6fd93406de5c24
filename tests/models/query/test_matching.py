"""From words to classes of sound."""

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.errors import OptionError
from stemwright.models.query.matching import NEAREST, resolve, suggest
from stemwright.models.query.ontology import audioset
from tests.support.paths import ROOT

MEANT = {
    "Dog": ["dog", "DOG", " dog ", "/m/0bt9lr", "74", "dogs", "the dog"],
    "Bark": ["bark", "dog bark", "dogs barking", "barking", "the sound of a barking dog"],
    "Helicopter": ["helicopter", "helicoptr", "helicpoter", "helicopters"],
    "Police car (siren)": ["police car (siren)", "police siren", "police car siren", "Police Car"],
    "Male speech, man speaking": ["male speech, man speaking", "man speaking", "male speech"],
    "Female singing": ["female singer", "female singing"],
    "Baby cry, infant cry": ["baby crying", "crying baby", "baby cry"],
    "Church bell": ["church bell", "church bells"],
    "Acoustic guitar": ["acoustic guitar", "acustic guitar"],
    "Vacuum cleaner": ["vacuum", "hoover", "vacuum cleaner noise"],
    "Telephone bell ringing": ["phone ringing"],
    "Bird vocalization, bird call, bird song": ["bird song", "birdsong"],
    "Chainsaw": ["chain saw", "chainsaw"],
    "Snare drum": ["snare"],
    "Bass drum": ["kick drum"],
    "Walk, footsteps": ["footsteps", "walking"],
    "Human voice": ["voice"],
    "Music": ["music", "musik"],
    "Crowing, cock-a-doodle-doo": ["rooster crow", "cock-a-doodle-doo"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in MEANT.items() for text in texts])
def test_what_is_meant(name: str, text: str) -> None:
    assert resolve(text).name == name


@pytest.mark.parametrize(
    "text", ["xyzzy", "qwertzuiop", "the woman on the left", "glass breaking", "527", "-1"]
)
def test_what_is_not_clear_is_an_error_with_the_nearest_five(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolve(text)
    assert repr(text) in caught.value.message
    named = caught.value.remedy.removeprefix("the nearest are ")
    assert 1 <= named.count("'") // 2 <= NEAREST


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_no_words(text: str) -> None:
    with pytest.raises(OptionError, match="without words"):
        resolve(text)


def test_every_name_means_its_class() -> None:
    ontology = audioset()
    for mid, one in ontology.classes.items():
        if any(ontology[below].index is not None for below in ontology.descendants(mid)):
            assert resolve(one.name).mid == mid
            assert resolve(mid).mid == mid


@pytest.mark.parametrize(
    ("begun", "name"), [("hel", "Helicopter"), ("gui", "Guitar"), ("church b", "Church bell")]
)
def test_suggestions_while_a_word_is_written(begun: str, name: str) -> None:
    assert name in [match.name for match in suggest(begun, 5)]


def test_a_suggestion_tells_where_it_belongs() -> None:
    (best, *_) = suggest("dog bark", 3)
    assert best.path == ("Animal", "Domestic animals, pets", "Dog", "Bark")
    assert 0.7 < best.score <= 1 and best.index == audioset()[best.mid].index


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_ordered_scores(text: str) -> None:
    matches = suggest(text, 7)
    scores = [match.score for match in matches]
    assert len(matches) <= 7 and scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    assert len({match.mid for match in matches}) == len(matches)


def test_quick_enough_for_every_key_pressed() -> None:
    suggest("dog", 5)
    started = time.perf_counter()
    texts = ["helicoptr", "qwertzuiop", "dog bark", "gui", "police siren wailing in the street"] * 4
    for text in texts:
        suggest(text, 10)
    assert (time.perf_counter() - started) / len(texts) < 0.005


def test_loads_no_runtime() -> None:
    code = (
        "import sys; from stemwright.models.query.matching import suggest; suggest('dog', 5); "
        "heavy = ('onnxruntime', 'onnx', 'torch', 'av', 'scipy', 'matplotlib'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
