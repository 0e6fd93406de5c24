"""From labels, examples and detections to queries; the rules computed by hand."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import InputError, ModelFileError, OptionError
from stemwright.models.manifest import QueryRules
from stemwright.models.query.detection import detect
from stemwright.models.query.examples import example_condition, source_condition
from stemwright.models.query.ontology import audioset
from stemwright.models.query.queries import (
    NO_SOUND,
    AskedStem,
    FixedSource,
    QueryMaker,
    named_apart,
    safe_stem,
)
from stemwright.models.registry.store import open_tagger
from stemwright.models.separation.queries import StemQuery
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import TaggerResult, TaggerSession
from tests.support.tiny_taggers import CAT, CLASSES, DOG, RATE, SPEECH, install_tiny_tagger, tone

RULES = QueryRules(condition="class_probabilities", size=3, tagger="ears")
EMBEDDING = QueryRules(condition="embedding", size=3, tagger="ears")


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> TaggerSession:
    folder = install_tiny_tagger(tmp_path_factory.mktemp("models"))
    return TaggerSession(open_tagger(folder), SessionOptions(device="cpu", threads=1))


def place(mid: str) -> int:
    return CLASSES.index(mid)


# Classes


def test_a_class_is_asked_for_by_the_windows_own_probabilities(ears: TaggerSession) -> None:
    dog, animal = QueryMaker(RULES, ears).classes(["dog", "animal"])
    window = tone(DOG, 2.0) + tone(CAT, 2.0) + tone(SPEECH, 2.0)
    heard = ears.segment(window, RATE).probabilities
    got = dog.query.source.condition(window, RATE, 0)
    assert got is not None
    np.testing.assert_array_equal(got, np.where(np.arange(3) == place(DOG), heard, 0))
    both = animal.query.source.condition(window, RATE, 0)
    assert both is not None and both[place(SPEECH)] == 0
    np.testing.assert_array_equal(both[[place(DOG), place(CAT)]], heard[[place(DOG), place(CAT)]])


def test_below_the_threshold_nothing_is_asked(ears: TaggerSession) -> None:
    (cat,) = QueryMaker(RULES, ears).classes(["cat"])
    assert cat.query.source.condition(tone(DOG, 2.0), RATE, 0) is None
    assert cat.query.source.condition(np.zeros((1, 2 * RATE), np.float32), RATE, 1) is None
    sure = RULES.model_copy(update={"threshold": 0.0})
    (always,) = QueryMaker(sure, ears).classes(["cat"])
    assert always.query.source.condition(tone(DOG, 2.0), RATE, 0) is not None


def test_a_window_is_heard_once_for_all_queries(ears: TaggerSession, monkeypatch: pytest.MonkeyPatch) -> None:
    stems = QueryMaker(RULES, ears).classes(["dog", "cat", "speech"])
    calls = []
    original = ears.segment

    def counted(samples: FloatArray, sample_rate: int) -> TaggerResult:
        calls.append(1)
        return original(samples, sample_rate)

    monkeypatch.setattr(ears, "segment", counted)
    for key in (5, 6):
        for stem in stems:
            stem.query.source.condition(tone(DOG, 2.0), RATE, key)
    assert len(calls) == 2


def test_names_and_what_was_asked(ears: TaggerSession) -> None:
    (stem,) = QueryMaker(RULES, ears).classes(["dog bark"[:3]])
    assert (stem.name, stem.asked, stem.mid, stem.class_name) == ("dog", "dog", DOG, "Dog")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["dgoxx"], "no class of sound"),
        (["dog", "/m/0bt9lr"], "both mean 'Dog'"),
        (["helicopter"], "does not know 'Helicopter'"),
        ([""], "without words"),
    ],
)
def test_labels_that_cannot_be_asked_for(ears: TaggerSession, texts: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        QueryMaker(RULES, ears).classes(texts)


def test_a_model_by_embeddings_takes_examples_only(ears: TaggerSession, tmp_path: Path) -> None:
    maker = QueryMaker(EMBEDDING, ears)
    with pytest.raises(OptionError, match="by examples"):
        maker.classes(["dog"])
    with pytest.raises(OptionError, match="by examples"):
        maker.automatic(detect(ArraySource(tone(DOG, 1.0), RATE), ears), [1])
    soundfile.write(tmp_path / "dog.wav", tone(DOG, 2.0)[0], RATE, subtype="FLOAT")
    (stem,) = maker.examples([tmp_path / "dog.wav"])
    got = stem.query.source.condition(tone(CAT, 2.0), RATE, 0)
    assert got is not None
    np.testing.assert_allclose(got, ears.segment(tone(DOG, 2.0), RATE).embedding, atol=1e-5)


def test_a_model_and_a_tagger_that_do_not_fit(ears: TaggerSession) -> None:
    with pytest.raises(ModelFileError, match="527 values"):
        QueryMaker(RULES.model_copy(update={"size": 527}), ears)


# Examples


def condition(samples: FloatArray, ears: TaggerSession, rate: int = RATE) -> FloatArray:
    return source_condition(ArraySource(samples, rate), ears, "class_probabilities", name="it")


def test_quiet_frames_are_dropped_and_segments_averaged(ears: TaggerSession) -> None:
    frame = RATE // 10
    quiet = np.full((1, 7 * frame), 0.02, np.float32)  # at the limit: dropped
    sound = np.concatenate([quiet, tone(DOG, 2.0), quiet, tone(CAT, 1.0), quiet[:, : frame // 2]], axis=1)
    second = np.tile(tone(CAT, 1.0), 2)
    parts = [ears.segment(segment, RATE).probabilities for segment in (tone(DOG, 2.0), second)]
    np.testing.assert_allclose(condition(sound, ears), np.mean(parts, axis=0), atol=1e-6)


def test_the_partial_frame_at_the_end_is_dropped(ears: TaggerSession) -> None:
    whole = tone(DOG, 2.0)
    longer = np.concatenate([whole, tone(SPEECH, 0.09)], axis=1)
    np.testing.assert_array_equal(condition(longer, ears), condition(whole, ears))


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.1])
def test_very_short_examples_count(ears: TaggerSession, seconds: float) -> None:
    samples = np.maximum(tone(SPEECH, seconds), 0.03)
    repeated = np.tile(samples, -(-2 * RATE // samples.shape[1]))[:, : 2 * RATE]
    expected = ears.segment(repeated, RATE).probabilities
    np.testing.assert_allclose(condition(samples, ears), expected, atol=1e-6)


def test_the_peak_is_that_of_the_magnitude(ears: TaggerSession) -> None:
    condition(-np.abs(tone(DOG, 0.5)), ears)


@pytest.mark.parametrize("level", [0.0, 0.02])
def test_silence_is_an_error(ears: TaggerSession, level: float) -> None:
    with pytest.raises(InputError, match="no sound in it"):
        condition(np.full((2, 3 * RATE), level, np.float32), ears)


def test_a_folder_is_averaged_over_its_files(ears: TaggerSession, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(DOG, 2.0)[0], RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.flac", np.tile(tone(CAT, 6.0).T, 2), RATE)
    (tmp_path / "notes.txt").write_text("no sound")
    got = example_condition(tmp_path, ears, "class_probabilities")
    parts = [condition(tone(DOG, 2.0), ears), condition(tone(CAT, 6.0), ears)]
    np.testing.assert_allclose(got, np.mean(parts, axis=0), atol=1e-3)


@pytest.mark.parametrize("what", ["absent", "empty folder", "no audio"])
def test_examples_that_cannot_be_read(ears: TaggerSession, tmp_path: Path, what: str) -> None:
    place = tmp_path / "it"
    if what == "empty folder":
        place.mkdir()
    elif what == "no audio":
        place.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError):
        QueryMaker(RULES, ears).examples([place])


# Automatic


def scene() -> FloatArray:
    return np.concatenate([tone(DOG, 4.0), tone(SPEECH, 2.0)], axis=1)


def test_what_is_heard_becomes_stems(ears: TaggerSession) -> None:
    heard = detect(ArraySource(scene(), RATE), ears)
    stems = QueryMaker(RULES, ears).automatic(heard, [1])
    assert {stem.name for stem in stems} == {"animal", "human_sounds"}
    assert {stem.query.exclusive_group for stem in stems} == {None}
    assert {stem.level for stem in stems} == {1}
    (one,) = QueryMaker(RULES, ears).automatic(heard, [1], max_stems=1)
    assert one.name in {"animal", "human_sounds"}


def test_several_levels_are_alternatives(ears: TaggerSession) -> None:
    heard = detect(ArraySource(scene(), RATE), ears)
    stems = QueryMaker(RULES, ears).automatic(heard, [1, 3, 1])
    groups = {stem.name: stem.query.exclusive_group for stem in stems}
    assert groups == {
        "animal": "level=1",
        "human_sounds": "level=1",
        "dog": "level=3",
        "speech": "level=3",
    }


def test_silence_is_no_stem() -> None:
    """YAMNet has a class for it, which is under the root of ambiguous sounds."""
    yamnet = TaggerSession(open_tagger("yamnet"), SessionOptions(device="cpu", threads=1))
    silence = audioset().by_name["silence"].mid
    assert silence in NO_SOUND and audioset().path(silence)[0] == "Source-ambiguous sounds"
    heard = detect(ArraySource(np.zeros((1, 32_000), np.float32), 16_000), yamnet)
    assert [one.sound.mid for one in heard.strongest(1)] == [silence]
    rules = QueryRules(condition="class_probabilities", size=521, tagger="yamnet")
    with pytest.raises(OptionError, match="as probable as"):
        QueryMaker(rules, yamnet).automatic(heard, [1, 2, 3])


def test_nothing_heard_is_an_error(ears: TaggerSession) -> None:
    heard = detect(ArraySource(np.zeros((1, 3 * RATE), np.float32), RATE), ears)
    with pytest.raises(OptionError, match=r"as probable as 0\.2"):
        QueryMaker(RULES, ears).automatic(heard, [1, 2])


# Names


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Dog", "dog"),
        ("Male speech, man speaking", "male_speech"),
        ("Police car (siren)", "police_car"),
        ("Crowing, cock-a-doodle-doo", "crowing"),
        ("Träller / ../x", "traller_x"),
        ("日本", "sound"),
        ("CON", "sound_con"),
        ("a" * 200, "a" * 60),
    ],
)
def test_stem_names_are_safe(label: str, name: str) -> None:
    assert safe_stem(label) == name


def asked(label: str) -> AskedStem:
    query = StemQuery(name=safe_stem(label), source=FixedSource(value=np.zeros(1, np.float32)))
    return AskedStem(query=query, asked=label, kind="class", class_name=label)


def test_equal_names_are_told_apart() -> None:
    labels = ["Hubbub, speech noise", "Hubbub, other", "Dog", "Hubbub, other"]
    names = [stem.name for stem in named_apart([asked(label) for label in labels])]
    assert names == ["hubbub_speech_noise", "hubbub_other", "dog", "hubbub_other_2"]
