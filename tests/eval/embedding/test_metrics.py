"""The metrics by name: values of stems by an embedder with known answers, and what is told of the rest."""

from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import ModelNotFoundError, OptionError
from stemwright.eval.bss_eval.images import ArrayPairs
from stemwright.eval.embedding import metrics as embedding_metrics
from stemwright.eval.embedding.distances import mean_squared_error, song_to_song
from stemwright.eval.measures.contract import Track
from stemwright.eval.metrics import parse_metrics, score_track
from stemwright.models.embedders.session import as_stored, embedder_session
from stemwright.models.registry.names import MODELS_VARIABLE
from tests.support.tiny_embedders import RATE, install_tiny_embedder

NAMES = ("mse:place", "mse32:place", "fad:place")
COLUMNS = ("MSE_place", "MSE32_place", "FAD_place")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    return tmp_path


def pairs(samples: int, *, silent: bool = False) -> ArrayPairs:
    draws = np.random.default_rng(0)
    references = draws.normal(0, 0.1, (2, 2, samples)) * (0 if silent else 1)
    estimates = references + draws.normal(0, 0.05, (2, 2, samples))
    return ArrayPairs(("bass", "vocals"), references, estimates, RATE)


def test_the_values_are_those_of_the_distances(store: Path) -> None:
    install_tiny_embedder(store)
    track = pairs(20_000)
    scores = score_track(Track(pairs=track), parse_metrics(NAMES))
    embedder = embedder_session("place")
    for index, name in enumerate(track.names):
        frames = [
            embedder.embed(sound[index].astype(np.float32), RATE)
            for sound in (track.references, track.estimates)
        ]
        stored = [as_stored(one, "float16") for one in frames]
        assert tuple(scores[name].values) == COLUMNS
        assert scores[name].values["MSE_place"] == mean_squared_error(*stored)
        assert scores[name].values["FAD_place"] == song_to_song(*stored)
        assert scores[name].values["MSE32_place"] == pytest.approx(mean_squared_error(*frames), rel=1e-6)
        assert scores[name].notes == ()


def test_a_perfect_estimate_is_at_distance_zero(store: Path) -> None:
    install_tiny_embedder(store)
    track = pairs(20_000)
    same = ArrayPairs(track.names, track.references, track.references, RATE)
    values = score_track(Track(pairs=same), parse_metrics(NAMES))["bass"].values
    assert values["MSE_place"] == values["MSE32_place"] == 0
    assert values["FAD_place"] == pytest.approx(0, abs=1e-12)


def test_silence_has_an_embedding_as_any_sound(store: Path) -> None:
    install_tiny_embedder(store)
    scores = score_track(Track(pairs=pairs(20_000, silent=True)), parse_metrics(NAMES))
    assert all(np.isfinite(list(scores["bass"].values.values())))


def test_too_short_a_stem_has_no_value_and_a_reason(store: Path) -> None:
    install_tiny_embedder(store)
    scores = score_track(Track(pairs=pairs(700)), parse_metrics(NAMES))["bass"]
    assert np.isnan(list(scores.values.values())).all()
    assert "too short for a frame of place" in scores.notes[0]


def test_one_frame_has_an_error_but_no_covariance(store: Path) -> None:
    install_tiny_embedder(store)
    scores = score_track(Track(pairs=pairs(900)), parse_metrics(NAMES))["bass"]
    assert np.isfinite(scores.values["MSE_place"])
    assert np.isnan(scores.values["FAD_place"])
    assert scores.notes == ("FAD_place: a covariance needs two frames, there is 1",)


def test_values_beyond_float16_are_told(store: Path) -> None:
    install_tiny_embedder(store, gain=1e9)
    scores = score_track(Track(pairs=pairs(20_000)), parse_metrics(NAMES))["bass"]
    assert np.isfinite(scores.values["MSE32_place"])
    assert "MSE_place: the embeddings are too large for float16" in scores.notes


def test_a_long_stem_is_heard_as_far_as_stated(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_tiny_embedder(store)
    monkeypatch.setattr(embedding_metrics, "MAX_S", 1.0)
    scores = score_track(Track(pairs=pairs(20_000)), parse_metrics(NAMES))["bass"]
    cut = pairs(20_000)
    short = ArrayPairs(cut.names, cut.references[..., :RATE], cut.estimates[..., :RATE], RATE)
    assert scores.values == score_track(Track(pairs=short), parse_metrics(NAMES))["bass"].values
    assert scores.notes == ("MSE_place, MSE32_place, FAD_place: of the first 1 s",)


def test_names(store: Path) -> None:
    install_tiny_embedder(store)
    with pytest.raises(OptionError) as unknown:
        parse_metrics(["mse:plaice"])
    assert "mse:place" in unknown.value.remedy
    with pytest.raises(ModelNotFoundError) as missing:
        parse_metrics(["fad:cdpam"])
    assert missing.value.remedy == "run `stemwright models pull cdpam`"
    (one,) = parse_metrics(["mse:yamnet"])
    assert one.better == "lower"
    assert one.options["licence"] == "Apache-2.0"
    assert one.options["precision"] == "float16"
