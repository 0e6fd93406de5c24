"""Music2Latent's encoder against the package on random weights, and its way into the store."""

from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.music2latent.building import MUSIC2LATENT, SAMPLE_RATE, TRANSFORM, WINDOWS
from stemwright.models.embedders.music2latent.graph import music2latent_graph
from stemwright.models.embedders.preparation import windows_of
from stemwright.models.embedders.session import embedder_session
from stemwright.models.registry.importing import ImportOptions, import_file
from stemwright.models.registry.store import InstalledEmbedder, ModelStore
from stemwright.models.registry.terms import accept_all
from stemwright.models.sessions.runtimes.contract import SessionOptions
from tests.support.embedder_cases import run_graph, stored_case, write_checkpoint


def test_the_graph_is_the_packages_encoder() -> None:
    state, case = stored_case("music2latent")
    (window,) = windows_of(len(case["sound"]), WINDOWS)
    planes = TRANSFORM.forward_planes(case["sound"][None, : window.samples])
    model, size = music2latent_graph(state, "float32")
    made = run_graph(model, np.ascontiguousarray(np.moveaxis(planes, 1, -1)))
    assert made.shape == (1, *case["embedding"].shape)
    assert size == 6
    np.testing.assert_allclose(made[0], case["embedding"], atol=2e-4)  # of values up to 1 / 0.06


def test_windows_are_the_packages() -> None:
    def crop(samples: int) -> int:
        return (samples - 3 * 512) // 512 // 8 * 512 * 8 + 3 * 512

    for samples in (5632, 5633, 9727, 9728, 220_500):
        (window,) = windows_of(samples, WINDOWS)
        assert window.samples == crop(samples)
        assert (TRANSFORM.frames(window.samples) % 8, crop(samples) <= samples) == (0, True)
    assert windows_of(5631, WINDOWS) == ()
    frames = [TRANSFORM.frames(one.samples) // 8 for one in windows_of(220_500, WINDOWS)]
    assert frames == [53]  # as measured in the study
    whole = windows_of(150 * SAMPLE_RATE, WINDOWS)
    assert [TRANSFORM.frames(one.samples) for one in whole[:-1]] == [5160] * (len(whole) - 1)
    assert sum(TRANSFORM.frames(one.samples) for one in whole) == TRANSFORM.frames(crop(150 * SAMPLE_RATE))


def test_a_checkpoint_becomes_an_embedder(tmp_path: Path) -> None:
    state, case = stored_case("music2latent")
    write_checkpoint(tmp_path / "music2latent.pt", state, key="gen_state_dict")
    store = ModelStore(tmp_path / "store")
    options = ImportOptions(name="small", like="music2latent")
    made = import_file(tmp_path / "music2latent.pt", store, ask=accept_all, options=options)
    assert isinstance(made, InstalledEmbedder)
    session = embedder_session("small", SessionOptions(device="cpu", threads=1), store)
    frames = session.embed(case["sound"][None], SAMPLE_RATE)
    assert frames.shape == case["embedding"].shape
    assert np.isfinite(session.embed(np.zeros((1, 9000), np.float32), SAMPLE_RATE)).all()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("encoder.down_layers.4.att.norm.weight", "no tensor"),
        ("encoder.down_layers.4.att.mha.in_proj_bias", "no attention"),
        ("encoder.down_layers.1.c.bias", "do not fit"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, name: str, told: str) -> None:
    state, _ = stored_case("music2latent")
    value = state.pop(name)
    if told != "no tensor":
        state[name] = value[1:]
    with pytest.raises(ModelFileError, match=told):
        MUSIC2LATENT.build(Checkpoint(tensors=state, kind="torch"), name="x", folder=tmp_path)
