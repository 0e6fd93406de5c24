"""MERT: preparation and graph against transformers' own on random weights, and its way into the store."""

from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import LicenceError, ModelFileError, SourceUnavailableError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.mert import building
from stemwright.models.embedders.mert.building import MERT, SAMPLE_RATE
from stemwright.models.embedders.mert.graph import mert_graph
from stemwright.models.embedders.preparation import prepared
from stemwright.models.embedders.session import embedder_session
from stemwright.models.manifest import UNKNOWN_LICENCE, Preparation
from stemwright.models.registry.downloads import Patience
from stemwright.models.registry.importing import ImportOptions, import_file
from stemwright.models.registry.pull import PullOptions, pull
from stemwright.models.registry.sources import SourceSettings
from stemwright.models.registry.store import InstalledEmbedder, ModelStore
from stemwright.models.registry.terms import accept_all, accept_none
from stemwright.models.sessions.runtimes.contract import SessionOptions
from tests.support.embedder_cases import run_graph, stored_case, write_checkpoint


def test_sounds_are_normalised_as_by_transformers() -> None:
    _, case = stored_case("mert")
    steps = Preparation(pcm16="none", normalise="zero_mean_unit_variance")
    for sound, heard in zip(case["sounds"], case["heard"], strict=True):
        np.testing.assert_allclose(prepared(sound, SAMPLE_RATE, SAMPLE_RATE, steps), heard, atol=1e-6)


def test_the_graph_is_huberts_of_transformers() -> None:
    state, case = stored_case("mert")
    model, size = mert_graph(state, "float32")
    made = run_graph(model, case["heard"])
    assert made.shape == case["embedding"].shape == (2, 4, size)
    np.testing.assert_allclose(made, case["embedding"], atol=2e-5)


def test_the_older_names_of_the_positional_kernel() -> None:
    state, case = stored_case("mert")
    place = "encoder.pos_conv_embed.conv"
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        state[f"{place}.{old}"] = state.pop(f"{place}.parametrizations.weight.{new}")
    made = run_graph(mert_graph(state, "float32")[0], case["heard"])
    np.testing.assert_allclose(made, case["embedding"], atol=2e-5)


def test_a_checkpoint_becomes_an_embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, case = stored_case("mert")
    write_checkpoint(tmp_path / "mert.bin", state, key="")
    store, options = ModelStore(tmp_path / "store"), ImportOptions(name="small")
    with pytest.raises(ModelFileError, match="has 2 layers, not 12"):
        import_file(tmp_path / "mert.bin", store, ask=accept_all, options=options)
    monkeypatch.setattr(building, "LAYERS", 2)
    made = import_file(tmp_path / "mert.bin", store, ask=accept_all, options=options)
    assert isinstance(made, InstalledEmbedder)
    assert made.manifest.licence == UNKNOWN_LICENCE
    assert made.manifest.statistics_name == "MERT-v1-95M"
    session = embedder_session("small", SessionOptions(device="cpu", threads=1), store)
    frames = session.embed(case["sounds"][:1], SAMPLE_RATE)
    np.testing.assert_allclose(frames, case["embedding"][0], atol=0.02)  # 16 bits lie between


def test_a_file_that_is_told_to_be_merts_has_its_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "LAYERS", 2)
    write_checkpoint(tmp_path / "mert.bin", stored_case("mert")[0], key="")
    store = ModelStore(tmp_path / "store")
    options = ImportOptions(name="mine", like="mert-v1-95m")
    with pytest.raises(LicenceError, match="CC-BY-NC"):
        import_file(tmp_path / "mert.bin", store, ask=accept_none, options=options)
    made = import_file(tmp_path / "mert.bin", store, ask=accept_all, options=options)
    assert isinstance(made, InstalledEmbedder)
    assert made.manifest.licence.must_accept
    own = ImportOptions(name="own", like="mert-v1-95m", licence_text="trained by us")
    made = import_file(tmp_path / "mert.bin", store, ask=accept_none, options=own)
    assert isinstance(made, InstalledEmbedder)
    assert made.manifest.licence.text == "trained by us"


def test_a_host_that_cannot_be_reached_is_told_with_the_way_round(tmp_path: Path) -> None:
    settings = SourceSettings(mirror="http://127.0.0.1:9", patience=Patience(attempts=1))
    with pytest.raises(SourceUnavailableError) as caught:
        pull("mert-v1-95m", ModelStore(tmp_path), ask=accept_all, options=PullOptions(settings=settings))
    assert "/m-a-p/MERT-v1-95M/resolve/main/pytorch_model.bin cannot be reached" in caught.value.message
    assert caught.value.remedy.endswith(
        "`stemwright models import FILE --name mert-v1-95m --like mert-v1-95m`"
    )


def test_five_seconds_are_374_frames() -> None:
    """As measured in the study."""
    state, _ = stored_case("mert")
    frames = run_graph(mert_graph(state, "float32")[0], np.zeros((1, 5 * SAMPLE_RATE), np.float32))
    assert frames.shape[1] == 374


@pytest.mark.parametrize(
    "name", ["encoder.layers.1.attention.k_proj.weight", "feature_projection.layer_norm.bias"]
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(building, "LAYERS", 2)
    state, _ = stored_case("mert")
    del state[name]
    with pytest.raises(ModelFileError, match="no tensor"):
        MERT.build(Checkpoint(tensors=state, kind="torch"), name="x", folder=tmp_path)
