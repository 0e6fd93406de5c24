"""Tagger sessions on a tagger with known answers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError, ModelNotFoundError, OptionError
from stemwright.core.features import Features
from stemwright.models.registry.store import ModelStore, open_any, open_model, open_tagger
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import TaggerSession, tagger_session
from tests.support.tiny_models import install_tiny_model
from tests.support.tiny_taggers import (
    BANDS,
    CAT,
    CLASSES,
    DOG,
    PATCH_FRAMES,
    PATCH_HOP,
    RATE,
    SPEECH,
    TRANSFORM,
    install_tiny_tagger,
    tone,
)

CPU = SessionOptions(device="cpu", threads=1)
FEATURES = Features(transform=TRANSFORM, bands=BANDS, sample_rate=RATE)


def session(root: Path, *, any_frames: bool = False) -> TaggerSession:
    return TaggerSession(open_tagger(install_tiny_tagger(root, any_frames=any_frames)), CPU)


def by_hand(sound: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Patches of a waveform, shape=(n,), cut with loops; means of both answers."""
    first, step = (PATCH_FRAMES - 1) * 80 + 200, PATCH_HOP * 80
    length = first
    while length < len(sound):
        length += step
    padded = np.pad(sound, (0, length - len(sound)))
    starts = range(0, length - first + 1, step)
    means = np.stack([FEATURES.compute(padded[start : start + first]).mean(axis=0) for start in starts])
    return (1 / (1 + np.exp(-3 * means))).mean(axis=0), means.mean(axis=0)


@pytest.mark.parametrize("samples", [1, 199, 3960, 3961, 8000, 16000, 20000])
def test_patches_cover_the_sound_and_are_averaged(tmp_path: Path, samples: int) -> None:
    sound = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    got = session(tmp_path).segment(sound[None], RATE)
    probabilities, embedding = by_hand(sound)
    np.testing.assert_allclose(got.probabilities, probabilities, atol=1e-5)
    np.testing.assert_allclose(got.embedding, embedding, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 300, 8000])
def test_a_call_of_any_length(tmp_path: Path, samples: int) -> None:
    sound = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    got = session(tmp_path, any_frames=True).segment(sound[None], RATE)
    padded = np.pad(sound, (0, max(0, 3 * 80 + 200 - samples)))  # at least 4 frames
    np.testing.assert_allclose(got.embedding, FEATURES.compute(padded).mean(axis=0), atol=1e-5)


def test_several_segments_are_heard_as_each_alone(tmp_path: Path) -> None:
    opened = session(tmp_path)
    sounds = [tone(mid, seconds) for mid, seconds in ((DOG, 2.0), (CAT, 0.3), (SPEECH, 11.0))]
    together = opened.segments(sounds, RATE)
    for sound, got in zip(sounds, together, strict=True):
        alone = opened.segment(sound, RATE)
        np.testing.assert_allclose(got.probabilities, alone.probabilities, atol=1e-6)
    assert [CLASSES[int(got.probabilities.argmax())] for got in together] == [DOG, CAT, SPEECH]


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_rate_and_channels_make_no_difference(tmp_path: Path, rate: int) -> None:
    opened = session(tmp_path)
    sound = tone(CAT, 2.0, rate)
    stereo = np.concatenate([0.5 * sound, 1.5 * sound])
    got = opened.segment(stereo, rate)
    np.testing.assert_allclose(
        got.probabilities, opened.segment(tone(CAT, 2.0), RATE).probabilities, atol=0.02
    )


def test_sessions_are_kept(tmp_path: Path) -> None:
    install_tiny_tagger(tmp_path)
    store = ModelStore(tmp_path)
    assert tagger_session("ears", CPU, store) is tagger_session("ears", CPU, store)


def test_nothing_to_hear_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="samples have shape"):
        session(tmp_path).segment(np.zeros((1, 0), np.float32), RATE)


def test_taggers_and_models_are_told_apart(tmp_path: Path) -> None:
    install_tiny_tagger(tmp_path)
    install_tiny_model(tmp_path, "tiny")
    store = ModelStore(tmp_path)
    listed = [model.name for model in store.list()]
    assert "tiny" in listed
    assert "ears" not in listed
    assert [tagger.name for tagger in store.taggers()] == ["ears", "yamnet"]
    assert open_any("ears", store).manifest.kind == "tagger"
    with pytest.raises(OptionError, match="ears is a tagger") as caught:
        open_model("ears", store)
    assert "detect --tagger ears" in caught.value.remedy
    with pytest.raises(OptionError, match="tiny is not a tagger"):
        tagger_session("tiny", CPU, store)
    with pytest.raises(ModelNotFoundError) as missing:
        tagger_session("yamet", CPU, store)
    assert "yamnet" in missing.value.remedy


def test_what_the_package_brings_stays(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(OptionError, match="part of stemwright"):
        store.remove("yamnet")
    install_tiny_tagger(tmp_path, "yamnet")  # one of the user's own takes its place
    assert store.find_tagger("yamnet").manifest.family == "test"
    assert store.remove("yamnet") == ("yamnet",)
    assert store.find_tagger("yamnet").manifest.family == "yamnet"


@pytest.mark.parametrize("wrong", ["name", "size"])
def test_a_graph_that_does_not_fit_is_refused(tmp_path: Path, wrong: str) -> None:
    tagger = open_tagger(install_tiny_tagger(tmp_path))
    graph = onnx.load(str(tagger.graph_path))
    if wrong == "name":
        graph.graph.input[0].name = "sound"
        graph.graph.node[0].input[0] = "sound"
        onnx.save(graph, str(tagger.graph_path))
        with pytest.raises(ModelFileError, match="not those of its manifest"):
            TaggerSession(tagger, CPU)
        return
    manifest = tagger.manifest.model_copy(update={"classes": CLASSES[:2]})
    opened = TaggerSession(type(tagger)(**{**vars(tagger), "manifest": manifest}), CPU)
    with pytest.raises(ModelFileError, match="3,"):
        opened.segment(tone(DOG, 1.0), RATE)
