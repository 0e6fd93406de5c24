"""Embedder sessions: frames by known answers, taggers as embedders, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import InputError, ModelFileError, ModelNotFoundError, OptionError
from stemwright.models.embedders.preparation import mono_of, prepared
from stemwright.models.embedders.session import EmbedderSession, TaggerEmbedder, as_stored, embedder_session
from stemwright.models.manifest import EmbedderWindows, Preparation
from stemwright.models.registry.exporting import export_model
from stemwright.models.registry.importing import ImportOptions, import_file
from stemwright.models.registry.store import InstalledEmbedder, ModelStore
from stemwright.models.registry.terms import accept_all
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import TaggerSession
from tests.support.tiny_embedders import RATE, install_tiny_embedder
from tests.support.tiny_models import install_tiny_model
from tests.support.tiny_taggers import install_tiny_tagger

NOISE = np.random.default_rng(0).normal(0, 0.1, (2, 4500)).astype(np.float32)
CPU = SessionOptions(device="cpu", threads=1)


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_the_frames_are_those_of_the_graph(tmp_path: Path, device: str) -> None:
    install_tiny_embedder(tmp_path)
    session = embedder_session("place", SessionOptions(device=device, threads=1), ModelStore(tmp_path))
    frames = session.embed(NOISE, RATE)
    sound = prepared(mono_of(NOISE), RATE, RATE, Preparation())
    windows = sound[:4000].reshape(5, 800)
    np.testing.assert_allclose(frames, np.stack([windows.mean(1), (windows**2).mean(1)], axis=1), atol=1e-7)
    assert session.facts.sample_rate == RATE
    assert session.facts.precision == "float16"
    session.close()


def test_windows_of_several_lengths_keep_their_order(tmp_path: Path) -> None:
    install_tiny_embedder(tmp_path, windows=EmbedderWindows(samples=800, hop=300, tail="short"))
    session = embedder_session("place", CPU, ModelStore(tmp_path))
    sound = prepared(mono_of(NOISE), RATE, RATE, Preparation())
    wanted = [sound[start : start + 800].mean() for start in range(0, 4500, 300)]
    np.testing.assert_allclose(session.embed(NOISE, RATE)[:, 0], wanted, atol=1e-7)


def test_other_rates_are_resampled(tmp_path: Path) -> None:
    install_tiny_embedder(tmp_path)
    session = embedder_session("place", CPU, ModelStore(tmp_path))
    assert session.embed(NOISE, 44_100).shape == (1, 2)


def test_too_short_a_sound_is_told(tmp_path: Path) -> None:
    install_tiny_embedder(tmp_path)
    session = embedder_session("place", CPU, ModelStore(tmp_path))
    with pytest.raises(InputError, match="too short for a frame of place"):
        session.embed(NOISE[:, :700], RATE)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    install_tiny_embedder(tmp_path, preparation=Preparation(scale=1e30))
    session = embedder_session("place", CPU, ModelStore(tmp_path))
    with pytest.raises(ModelFileError, match="not finite"):
        session.embed(NOISE, RATE)


def test_another_size_than_the_manifests_is_refused(tmp_path: Path) -> None:
    install_tiny_embedder(tmp_path, size=3)
    session = embedder_session("place", CPU, ModelStore(tmp_path))
    with pytest.raises(ModelFileError, match="not those of its manifest"):
        session.embed(NOISE, RATE)


def test_rounding_overflows_as_numpy_does() -> None:
    stored = as_stored(np.asarray([[1.0, 1e6]], np.float32), "float16")
    assert stored.dtype == np.float16
    assert stored.tolist() == [[1.0, np.inf]]
    assert as_stored(stored.astype(np.float32), "float32").dtype == np.float32


def test_a_taggers_patches_are_frames(tmp_path: Path) -> None:
    install_tiny_tagger(tmp_path)
    store = ModelStore(tmp_path)
    session = embedder_session("ears", CPU, store)
    assert isinstance(session, TaggerEmbedder)
    sound = prepared(mono_of(NOISE), RATE, RATE, Preparation())[None]
    tagger = TaggerSession(store.find_tagger("ears"), CPU)
    frames = session.embed(NOISE, RATE)
    assert frames.shape == (2, 3)
    np.testing.assert_allclose(frames.mean(0), tagger.segment(sound, RATE).embedding, atol=1e-6)


def test_yamnet_is_an_embedder() -> None:
    session = embedder_session("yamnet", CPU)
    assert session.embed(np.tile(NOISE, 12), 16_000).shape == (6, 1024)
    assert session.facts.licence.name == "Apache-2.0"


def test_what_cannot_embed_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    install_tiny_tagger(tmp_path, "whole", any_frames=True)
    install_tiny_model(tmp_path, "splitter")
    with pytest.raises(OptionError, match="hears a sound as a whole"):
        embedder_session("whole", CPU, store)
    with pytest.raises(OptionError, match="splitter separates"):
        embedder_session("splitter", CPU, store)
    with pytest.raises(ModelNotFoundError) as caught:
        embedder_session("cdpam", CPU, store)
    assert caught.value.remedy == "run `stemwright models pull cdpam`"


def test_the_registry_knows_embedders(tmp_path: Path) -> None:
    store, other = ModelStore(tmp_path / "one"), ModelStore(tmp_path / "two")
    install_tiny_embedder(store.root)
    found = store.find_any("place")
    assert isinstance(found, InstalledEmbedder)
    assert store.embedders() == (found,)
    assert "place" not in [model.name for model in store.list()]
    store.verify("place")
    with pytest.raises(OptionError, match="measures likeness"):
        store.find("place")
    out = export_model(found, tmp_path / "out", "folder")
    with pytest.raises(OptionError, match="no model that separates"):
        export_model(found, tmp_path / "file.onnx", "single-file")
    moved = import_file(out, other, ask=accept_all, options=ImportOptions(name="moved"))
    assert isinstance(moved, InstalledEmbedder)
    assert isinstance(embedder_session("moved", CPU, other), EmbedderSession)
    (out / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelFileError):
        import_file(out, other, ask=accept_all, options=ImportOptions(name="third"))


def test_an_import_tries_the_graph(tmp_path: Path) -> None:
    folder = install_tiny_embedder(tmp_path / "made", size=3)
    with pytest.raises(ModelFileError, match="not those of its manifest"):
        import_file(folder, ModelStore(tmp_path / "store"), ask=accept_all)
