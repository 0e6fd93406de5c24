"""Scores of lyrics: the packages' own published cases, brute force, and texts without words."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.errors import InputError, OptionError
from stemwright.eval.lyrics_scores import (
    LyricsPair,
    TimedWord,
    is_near_miss,
    score_lyrics,
    score_times,
)
from tests.support.paths import shared


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((shared("data/fixtures/alt_eval") / "cases.json").read_text())
    return data


def pair(case: dict[str, Any]) -> LyricsPair:
    return LyricsPair(reference=case["reference"], hypothesis=case["hypothesis"], language=case["language"])


def assert_rates(found: dict[str, float], expected: dict[str, float | None]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert math.isnan(found[name]), name
        else:
            assert found[name] == pytest.approx(value, abs=1e-6), name


def test_every_case_has_its_published_rates(cases: dict[str, Any]) -> None:
    for case in cases["metrics"]:
        scores = score_lyrics([pair(case)])
        assert_rates(scores.rates, case["metrics"])
        assert scores.words == len(case["reference_words"])


def test_songs_are_pooled_and_not_averaged(cases: dict[str, Any]) -> None:
    english = [pair(case) for case in cases["metrics"] if case["language"] == "en"]
    assert_rates(score_lyrics(english).rates, cases["pooled_english"])


def test_normalisation_is_that_of_the_study(cases: dict[str, Any]) -> None:
    for case in cases["normalization"]:
        twice = LyricsPair(reference=case["normalized"], hypothesis=case["text"])
        rates = score_lyrics([twice], normalised=True).rates
        assert rates["WER_case"] == 0
        assert rates["P_punc"] == 1 or math.isnan(rates["P_punc"])


def test_near_misses_are_the_published_ones(cases: dict[str, Any]) -> None:
    for case in cases["near_miss"]:
        assert is_near_miss(case["a"], case["b"]) == case["near"], case
    scores = score_lyrics([LyricsPair(reference="they sing there now", hypothesis="them sang their song")])
    assert scores.near_misses == 3  # sang is one letter off too; song is another word


def test_a_song_without_words_is_told_apart() -> None:
    scores = score_lyrics(
        [
            LyricsPair(reference="one two", hypothesis="one"),
            LyricsPair(reference=" \n", hypothesis="oh oh yes"),
        ]
    )
    assert scores.rates["WER"] == 0.5
    assert scores.invented_words == 3
    with pytest.raises(InputError, match="no reference has a word"):
        score_lyrics([LyricsPair(reference="", hypothesis="oh")])


def test_an_unknown_language_is_the_users_mistake() -> None:
    with pytest.raises(OptionError, match="no language"):
        score_lyrics([LyricsPair(reference="a", hypothesis="a", language="zz")])


def edits(a: str, b: str) -> int:
    """Edit distance by its recursion."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i, *row[1:]], row
        for j, y in enumerate(b, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
    return row[-1]


WORDS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=6)


@given(WORDS, WORDS)
def test_character_rates_are_edit_distances(true: list[str], found: list[str]) -> None:
    scores = score_lyrics([LyricsPair(reference=" ".join(true), hypothesis=" ".join(found))])
    assert scores.cer == pytest.approx(edits(" ".join(true), " ".join(found)) / len(" ".join(true)))


def timed(*words: tuple[str, float]) -> list[TimedWord]:
    return [TimedWord(text=text, start=start, end=start + 0.2) for text, start in words]


def test_times_count_for_words_that_both_have() -> None:
    true = timed(("Hello,", 1.0), ("dark", 2.0), ("world", 3.0), ("again", 4.0))
    found = timed(("hello", 1.1), ("World!", 3.5), ("again", 4.0))
    errors = score_times([(true, found)])
    assert errors.matched == 3
    assert errors.share_matched == 0.75
    assert errors.median_s == pytest.approx(0.1)
    assert errors.mean_s == pytest.approx(0.2)
    assert errors.share_in_time == pytest.approx(2 / 3)


def test_nothing_found_has_no_error() -> None:
    errors = score_times([(timed(("a", 0.0)), [])])
    assert errors.matched == 0
    assert math.isnan(errors.median_s)
    with pytest.raises(InputError):
        score_times([([], timed(("a", 0.0)))])
