"""LAION-CLAP's audio branch against laion_clap on random weights, and its way into the store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.core.features import Features
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.embedders.clap.building import (
    BANDS,
    CLAP,
    SAMPLE_RATE,
    TRANSFORM,
    WINDOWS,
    audio_tensors,
)
from stemwright.models.embedders.clap.graph import clap_graph, cubic_taps
from stemwright.models.embedders.preparation import windows_of
from stemwright.models.embedders.session import embedder_session
from stemwright.models.registry.importing import ImportOptions, import_file
from stemwright.models.registry.store import InstalledEmbedder, ModelStore
from stemwright.models.registry.terms import accept_all
from stemwright.models.sessions.runtimes.contract import SessionOptions
from tests.support.embedder_cases import Tensors, run_graph, stored_case, write_checkpoint


def sounds(case: Tensors) -> FloatArray:
    """The sounds that the case was made of: 10 s of noise, and 4 s with silence behind it."""
    made = np.random.default_rng(int(case["seed"])).normal(0, 0.1, (2, 480_000)).astype(np.float32)
    made[1, 200_000:] = 0
    return made


def test_the_features_are_torchlibrosas() -> None:
    _, case = stored_case("clap")
    features = Features(transform=TRANSFORM, bands=BANDS, sample_rate=SAMPLE_RATE)
    np.testing.assert_allclose(
        features.compute(sounds(case)), case["features"], atol=0.05
    )  # float16 in the file


def test_the_graph_is_laion_claps() -> None:
    state, case = stored_case("clap")
    features = Features(transform=TRANSFORM, bands=BANDS, sample_rate=SAMPLE_RATE).compute(sounds(case))
    model, size = clap_graph(audio_tensors(state), "float32")
    made = run_graph(model, features)
    assert made.shape == (2, 1, size)
    np.testing.assert_allclose(made[:, 0], case["embedding"], atol=2e-5)
    assert np.abs(case["embedding"][0] - case["embedding"][1]).max() > 0.01


@pytest.mark.parametrize("size", [1001, 7])
def test_time_is_stretched_as_torch_does(size: int) -> None:
    x = np.random.default_rng(0).normal(0, 1, (size, 3)).astype(np.float32)
    rows, weights = cubic_taps(size, 1024)
    made = np.einsum("kij,ki->ij", x[rows], weights)
    wanted = torch.nn.functional.interpolate(
        torch.tensor(x)[None, None], (1024, 3), mode="bicubic", align_corners=True
    )
    np.testing.assert_allclose(made, wanted[0, 0], atol=5e-4)  # torch's places are float32


def test_a_checkpoint_becomes_an_embedder(tmp_path: Path) -> None:
    state, case = stored_case("clap")
    integers: Any = dict.fromkeys(
        (
            "module.audio_branch.layers.0.blocks.0.attn.relative_position_index",
            "module.text_branch.embeddings.position_ids",
        ),
        np.arange(4),
    )
    write_checkpoint(tmp_path / "clap.pt", state | integers, key="state_dict")
    store = ModelStore(tmp_path / "store")
    options = ImportOptions(name="small", like="clap-laion-audio")
    made = import_file(tmp_path / "clap.pt", store, ask=accept_all, options=options)
    assert isinstance(made, InstalledEmbedder)
    assert made.manifest.statistics_name == "clap-laion-audio"
    assert len(windows_of(5 * SAMPLE_RATE, WINDOWS)) == 5  # as measured in the study
    session = embedder_session("small", SessionOptions(device="cpu", threads=1), store)
    frames = session.embed(sounds(case)[1:, : 2 * SAMPLE_RATE], SAMPLE_RATE)
    assert frames.shape == (2, 10)
    np.testing.assert_allclose(np.linalg.norm(frames, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("module.audio_branch.layers.1.blocks.1.attn.proj.bias", "no tensor|do not fit"),
        ("module.audio_branch.layers.0.blocks.0.attn.relative_position_bias_table", "no tensor"),
        ("module.audio_branch.patch_embed.proj.weight", "no audio branch"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, name: str, told: str) -> None:
    state, _ = stored_case("clap")
    value = state.pop(name)
    if "proj.bias" in name:
        state[name] = value[1:]
    with pytest.raises(ModelFileError, match=told):
        CLAP.build(Checkpoint(tensors=state, kind="torch"), name="x", folder=tmp_path)


def test_other_forms_are_refused(tmp_path: Path) -> None:
    state, _ = stored_case("clap")
    fused = state | {"module.audio_branch.patch_embed.mel_conv2d.weight": np.zeros((8, 1, 4, 12), np.float32)}
    with pytest.raises(ModelFileError, match="feature fusion"):
        CLAP.build(Checkpoint(tensors=fused, kind="torch"), name="x", folder=tmp_path)
    large = state | {"module.audio_branch.patch_embed.proj.weight": np.zeros((128, 1, 4, 4), np.float32)}
    with pytest.raises(ModelFileError, match="size of clap-laion-music, not clap-laion-audio"):
        CLAP.build(
            Checkpoint(tensors=large, kind="torch", like="clap-laion-audio"), name="x", folder=tmp_path
        )
