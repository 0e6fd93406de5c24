"""VGGish: front end and graph against torchvggish on random weights, and its way into the store."""

from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import ModelFileError
from stemwright.core.features import Features
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.preparation import windows_of
from stemwright.models.embedders.session import embedder_session
from stemwright.models.embedders.vggish.building import BANDS, SAMPLE_RATE, TRANSFORM, VGGISH, WINDOWS
from stemwright.models.embedders.vggish.graph import vggish_graph
from stemwright.models.registry.importing import ImportOptions, import_file
from stemwright.models.registry.store import InstalledEmbedder, ModelStore
from stemwright.models.registry.terms import accept_all
from stemwright.models.sessions.runtimes.contract import SessionOptions
from tests.support.embedder_cases import run_graph, stored_case, write_checkpoint


def test_the_features_are_torchvggishs() -> None:
    _, case = stored_case("vggish")
    features = Features(transform=TRANSFORM, bands=BANDS, sample_rate=SAMPLE_RATE)
    windows = windows_of(len(case["sound"]), WINDOWS)
    cut = np.stack([case["sound"][one.start : one.start + one.samples] for one in windows])
    np.testing.assert_allclose(features.compute(cut), case["features"], atol=2e-5)


def test_the_graph_is_torchvggish() -> None:
    state, case = stored_case("vggish")
    model, size = vggish_graph(state, "float32")
    made = run_graph(model, case["features"])
    assert made.shape == (2, 1, size)
    np.testing.assert_allclose(made[:, 0], case["embedding"], atol=1e-5 * np.abs(case["embedding"]).max())


def test_a_checkpoint_becomes_an_embedder(tmp_path: Path) -> None:
    state, case = stored_case("vggish")
    write_checkpoint(tmp_path / "vggish.pth", state, key="")
    store = ModelStore(tmp_path / "store")
    options = ImportOptions(name="small", licence_text="free")
    made = import_file(tmp_path / "vggish.pth", store, ask=accept_all, options=options)
    assert isinstance(made, InstalledEmbedder)
    assert made.manifest.statistics_name == "vggish"
    session = embedder_session("small", SessionOptions(device="cpu", threads=1), store)
    frames = session.embed(case["sound"][None], SAMPLE_RATE)
    # 16 bits lie between the sound and the network here.
    np.testing.assert_allclose(frames, case["embedding"], atol=1e-3 * np.abs(case["embedding"]).max())
    assert session.embed(case["sound"][None, :100], SAMPLE_RATE).shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "told"), [("features.6.bias", "no tensor"), ("embeddings.2.weight", "does not fit")]
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, name: str, told: str) -> None:
    state, _ = stored_case("vggish")
    value = state.pop(name)
    if told != "no tensor":
        state[name] = value[:, 1:]
    with pytest.raises(ModelFileError, match=told):
        VGGISH.build(Checkpoint(tensors=state, kind="torch"), name="x", folder=tmp_path)
